"""Edits against one another: figures by hand, p over all comparisons, refusals, flipped items."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsplit.errors import UserError
from memsplit.harness.cli import main
from memsplit.results.records import tables
from memsplit.results.records.record import Record
from memsplit.results.records.schema import Attack, Interval, Reference
from memsplit.results.records.tables import ANSWERS, ITEMS
from memsplit.results.statistics import compare
from memsplit.results.statistics.compare import Side
from memsplit.results.statistics.paired import Paired
from memsplit.results.statistics.significance import holm, mcnemar
from memsplit.tests.support import board_records
from memsplit.tests.support.records import made

N = 40
CHANCE = {("logic", "acc"): 0.25}


def items(strict: int, right: int, nats: float) -> pd.DataFrame:
    """The first ``strict`` passages recited, the first ``right`` questions answered, texts of ``nats`` a token."""
    rows = [("r", "recitation", "strict", i, float(i < strict), 1, str(i), "") for i in range(N)]
    rows += [("r", "recitation", "levenshtein", i, 0.9 - 0.8 * (i < strict), 1, str(i), "") for i in range(N)]
    rows += [("l", "logic", "acc", i, float(i < right), 1, str(i), "") for i in range(N)]
    rows += [("f", "fluency", "perplexity", i, nats + i / 100, 10 + i, str(i), "") for i in range(N)]
    return pd.DataFrame(rows, columns=ITEMS)


def answers(right: int) -> pd.DataFrame:
    rows = [("l", i, f"question {i}", [" yes", "!"], [" yes", "!"] if i < right else [" no", "!"]) for i in range(N)]
    return pd.DataFrame(rows, columns=ANSWERS)


BASE = items(N, N, 3.0)
RIGHT = {"a": 38, "b": 30, "c": 36}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    folder = tmp_path_factory.mktemp("records")
    edits = {"a": items(0, 38, 3.1), "b": items(4, 30, 3.3), "c": items(2, 36, 3.2)}
    specs = {"a": "kfac-80", "b": "svd-50", "c": "random:match=kfac-80"}
    found = {}
    for name, edited in edits.items():
        said = pd.concat([answers(N).assign(side="base"), answers(RIGHT[name]).assign(side="edit")])
        found[name] = made(folder, BASE, edited, chance=CHANCE, answers=said, spec=specs[name])
    return found


def test_figures_are_those_of_the_two_edits(records: dict[str, Record]) -> None:
    (one,) = compare.compare([Side(records["a"]), Side(records["b"])])
    change = one.changes["logic", "acc"]
    assert (change.base, change.edited) == (38 / N, 30 / N)
    assert change.value == pytest.approx(-8 / N)
    assert change.p == mcnemar(0, 8)
    assert change.normalized is not None
    assert change.normalized.value == pytest.approx((30 / N - 0.25) / (38 / N - 0.25))
    assert one.changes["fluency", "perplexity"].edited == pytest.approx(
        records["b"].content.edited["fluency"]["perplexity"]
    )
    first, other, difference = one.summary["recitation_removed"]
    assert first.value == 1
    assert other.value == pytest.approx(0.9)
    assert difference.value == pytest.approx(-0.1)
    assert first == records["a"].summary["recitation_removed"]


def test_the_interval_of_a_difference_is_paired(records: dict[str, Record]) -> None:
    """Both summaries move with the same resamples: an edit differs from itself by nothing, in every resample."""
    (same,) = compare.compare([Side(records["b"]), Side(records["b"])])
    for _, _, difference in same.summary.values():
        assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    (one,) = compare.compare([Side(records["a"]), Side(records["b"])])
    first, other, difference = one.summary["logic_kept"]
    replicates = [
        Paired(tables.items(records[name], "base"), tables.items(records[name], "edit"), CHANCE).summary_replicates()
        for name in "ab"
    ]
    low, high = np.percentile((replicates[1]["logic_kept"] - replicates[0]["logic_kept"])[1:], [2.5, 97.5])
    assert (difference.low, difference.high) == (low, high)
    assert difference.high - difference.low < (first.high - first.low) + (other.high - other.low)


def test_p_is_corrected_over_all_comparisons(records: dict[str, Record]) -> None:
    found = compare.compare([Side(records[name]) for name in "abc"])
    ps = [change.p for one in found for change in one.changes.values()]
    assert [change.p_holm for one in found for change in one.changes.values()] == holm(ps)
    alone = compare.compare([Side(records["a"]), Side(records["b"])])[0].changes["logic", "acc"]
    together = found[0].changes["logic", "acc"]
    assert together.p == alone.p
    assert together.p_holm > alone.p_holm


def test_the_base_is_a_side_too(records: dict[str, Record]) -> None:
    (one,) = compare.compare([Side(records["a"], "base"), Side(records["a"])])
    assert one.first.label == "base"
    assert one.summary == {}
    own = records["a"].changes
    assert {key: change.value for key, change in one.changes.items()} == {
        key: change.value for key, change in own.items()
    }


def test_a_metric_of_one_side_alone_is_passed_over(records: dict[str, Record], tmp_path: Path) -> None:
    """``mia_ratio`` is there only with a reference, and the fingerprints are the same."""
    ratio = items(4, 30, 3.3).query("metric == 'strict'").assign(metric="mia_ratio")
    more = [pd.concat([side, ratio], ignore_index=True) for side in (BASE, items(4, 30, 3.3))]
    other = made(tmp_path, *more, chance=CHANCE, spec="svd-50")
    (alone,) = compare.compare([Side(records["a"]), Side(records["b"])])
    for first, second in ((records["a"], other), (other, records["a"])):
        (one,) = compare.compare([Side(first), Side(second)])
        assert one.changes.keys() == alone.changes.keys()
    (both,) = compare.compare([Side(other), Side(other)])
    assert ("recitation", "mia_ratio") in both.changes


@pytest.mark.parametrize(
    ("content", "dropped", "words"),
    [
        ({}, set(), ""),
        (
            {
                "attacks": (
                    Attack(spec="noise", erased=Interval(value=math.nan, low=math.nan, high=math.nan), strict=0.0),
                )
            },
            {*compare.OF_ATTACKS},
            "relearn against noise",
        ),
        ({"reference": Reference(model="u", weights="u" * 64)}, {*compare.OF_REFERENCE}, "none against u"),
    ],
)
def test_figures_of_other_attacks_or_references_are_left_out(
    tmp_path: Path, content: dict[str, Any], dropped: set[str], words: str
) -> None:
    first, other = board_records.made(tmp_path, "kfac-80"), board_records.made(tmp_path, "svd-50", created=1)
    other = dataclasses.replace(other, content=msgspec.structs.replace(other.content, **content))
    (one,) = compare.compare([Side(first), Side(other)])
    assert one.summary.keys() == first.summary.keys() - dropped
    assert {"reasoning_kept", "fluency_kept"} < one.summary.keys()
    assert len(one.left_out) == bool(dropped)
    assert all(words in line and "split_score" in line for line in one.left_out)
    (told,) = compare.to_json([one])["compared"]
    assert told.get("left_out", []) == list(one.left_out)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"arguments": {"split": "dev", "seed": 0, "limit": 5}},
            ["--split test against dev", "--limit none against 5"],
        ),
        (
            {"tasks": {key: {"axis": "a", "version": 1, "fingerprint": "other", "n": 40} for key in ("r", "new")}},
            ["f, l in the first alone", "new in the second alone", "items or prompts in r"],
        ),
        ({"suite": "other", "model": "m"}, ["suite memsplit against other", "model olmo-tiny against m"]),
        ({}, ["the fingerprints differ"]),
    ],
)
def test_what_was_not_asked_the_same_is_refused(
    records: dict[str, Record], tmp_path: Path, content: dict[str, Any], words: list[str]
) -> None:
    other = made(tmp_path, BASE, BASE, spec="none", fingerprint="0" * 16, **content)
    with pytest.raises(UserError, match="were not asked the same") as error:
        compare.compare([Side(records["a"]), Side(other)])
    for word in [*words, records["a"].id, other.id]:
        assert word in str(error.value)


def test_flips_are_the_items_that_one_got_right_and_the_other_wrong(records: dict[str, Record]) -> None:
    found = compare.flips(Side(records["a"]), Side(records["b"]))
    assert set(found["metric"]) == {"strict", "acc"}
    lost = found[found["task"] == "l"]
    assert list(lost["item"]) == list(range(30, 38))
    assert set(lost["before"]) == {1}
    row = lost.iloc[0]
    assert (row["prompt"], row["gold"], row["first"], row["other"]) == (
        "question 30",
        [" yes", "!"],
        [" yes", "!"],
        [" no", "!"],
    )
    gained = found[found["task"] == "r"]
    assert list(gained["item"]) == [0, 1, 2, 3]
    assert set(gained["after"]) == {1}
    assert gained.iloc[0]["gold"] == []
    assert compare.flips(Side(records["a"]), Side(records["a"])).empty


TOKENS = st.lists(st.sampled_from([" a", " b", "c", ""]), max_size=8)


@given(TOKENS, TOKENS)
def test_marks_lose_nothing_and_mark_only_what_differs(answer: list[str], gold: list[str]) -> None:
    runs = compare.marked(answer, gold)
    assert "".join(text for text, _ in runs) == "".join(answer)
    kept = "".join(text for text, differs in runs if not differs)
    rest = iter("".join(gold))
    assert all(letter in rest for letter in kept)  # a subsequence of gold
    if answer == gold:
        assert not any(differs for _, differs in runs)


def test_marks() -> None:
    assert compare.marked([" a", " x", " c"], [" a", " b", " c"]) == [(" a", False), (" x", True), (" c", False)]
    assert compare.marked(["9", "1"], ["91"]) == [("91", False)]
    assert compare.marked(["9", "2"], ["9", "1"]) == [("9", False), ("2", True)]
    assert compare.marked([], ["a"]) == []


class TestCommand:
    def run(
        self, records: dict[str, Record], capsys: pytest.CaptureFixture[str], *arguments: str
    ) -> tuple[int, str, str]:
        code = main.main(["compare", *arguments, "--store", str(records["a"].path.parent)])
        out, err = capsys.readouterr()
        return code, out, err

    def test_tables(self, records: dict[str, Record], capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = self.run(records, capsys, "kfac-80", "svd-50", "random", "--items", "2")
        assert code == 0
        for words in (
            ["first: kfac-80", "other: svd-50", "other: random:match=kfac-80"],
            ["-0.200 [-0.325, -0.075]", "recitation removed", "l: 8 right before, wrong after", "and 6 more"],
            ["gold    yes!", "other  ⟦ no⟧!", "item 0: not kept"],
        ):
            assert all(word in out for word in words), out

    def test_json(self, records: dict[str, Record], capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = self.run(records, capsys, "base", "kfac-80", "svd-50", "--items", "--json")
        assert code == 0
        found = json.loads(out)
        assert found["first"]["spec"] == "base"
        assert [one["spec"] for one in found["compared"]] == ["kfac-80", "svd-50"]
        assert found["compared"][0]["changes"]["logic/acc"]["value"] == pytest.approx(-2 / N)
        assert len(found["compared"][1]["flips"]) == 10 + 36

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["kfac-80"], ["one record 'kfac-80'", "expected two or more"]),
            (["kfac-80", "base"], ["'base' comes first"]),
            (["base", "kfca-80"], ["no record 'kfca-80'", "did you mean 'kfac-80'"]),
            (["kfac-80", "svd-50", "--items", "0"], ["'0' found, expected a whole number above 0"]),
        ],
    )
    def test_mistakes(
        self, records: dict[str, Record], capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
    ) -> None:
        code, out, err = self.run(records, capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert all(word in err for word in words), err
