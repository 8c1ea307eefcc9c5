"""Leaderboards: who stands where, which records share a table, and what speaks against it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsplit.results.board.columns import MOST
from memsplit.results.board.ranking import boards, ranks
from memsplit.results.board.table import Board, BoardRow, Cell
from memsplit.results.records import record
from memsplit.results.records.record import Record
from memsplit.results.records.schema import Interval
from memsplit.results.records.store import Store
from memsplit.results.statistics import draws
from memsplit.results.statistics.paired import interval
from memsplit.results.statistics.resampling import RESAMPLES
from memsplit.tests.support.board_records import made

KFAC = {80: (0.5, 0.95), 60: (0.8, 0.85), 40: (0.95, 0.4)}
RANDOM = {80: (0.2, 0.9), 50: (0.6, 0.6), 20: (0.8, 0.3)}


def replicates(value: float, spread: float, seed: int) -> np.ndarray:
    return np.asarray(np.r_[value, value + np.random.default_rng(seed).normal(0, spread, RESAMPLES)])


def test_ranks_go_by_the_paired_difference_and_not_by_overlap() -> None:
    luck = replicates(0.0, 0.05, 0)
    first, second = 0.80 + luck, 0.79 + luck + replicates(0.0, 0.002, 1)
    assert interval(first).low < interval(second).high  # their own intervals overlap almost wholly
    assert ranks([second, first]) == [2, 1]
    assert ranks([0.79 + replicates(0.0, 0.05, 2), first]) == [1, 1]  # of other items nothing could be said


@settings(max_examples=20)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.1), st.integers(0, 5)), max_size=6))
def test_a_rank_counts_those_that_are_above(given: list[tuple[float, float, int]]) -> None:
    scores = [replicates(*each) for each in given]
    for place, rank in enumerate(ranks(scores)):
        above = [np.percentile((other - scores[place])[1:], 2.5) > 0 for other in scores]
        assert rank == 1 + sum(above)
    assert not scores or min(rank for rank in ranks(scores) if rank) == 1


def test_what_has_no_score_has_no_rank_and_stands_in_nobodys_way() -> None:
    nan = np.full(1 + RESAMPLES, math.nan)
    assert ranks([replicates(0.5, 0.01, 0), nan, None, replicates(0.9, 0.01, 1)]) == [2, None, None, 1]
    assert ranks([]) == []


def figure(cells: dict[str, Cell], name: str) -> Interval:
    cell = cells[name]
    assert isinstance(cell, Interval)
    return cell


def several(folder: Path, name: str, points: dict[int, tuple[float, float]], **more: Any) -> list[Record]:
    return [
        made(folder, f"{name.replace('-', f'-{percent}', 1)}", stays=stays, kept=kept, **more)
        for percent, (stays, kept) in points.items()
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two methods of several strengths with draws of one, a control, one of a single strength; by dev and on test."""
    tmp_path = tmp_path_factory.mktemp("board")
    for split in ("dev", "test"):
        several(tmp_path, "kfac-:layers=2-3", KFAC, split=split)
        several(tmp_path, "random-:layers=2-3", RANDOM, split=split)
    made(tmp_path, "kfac-60:label_seed=1,layers=2-3", stays=0.76, kept=0.81)
    made(tmp_path, "kfac-60:label_seed=2,layers=2-3", stays=0.9, kept=0.9)
    several(tmp_path, "svd-", {50: (0.3, 0.9)})
    several(tmp_path, "bsn-", {90: (0.3, 0.95), 70: (0.5, 0.9)})
    return Store(tmp_path)


@pytest.fixture(scope="module")
def board(store: Store) -> Board:
    (board,) = boards(store.records())
    return board


@pytest.fixture(scope="module")
def found(board: Board) -> dict[str, BoardRow]:
    return {row.name: row for row in board.rows}


def rows(folder: Path) -> dict[str, BoardRow]:
    (board,) = boards(Store(folder).records())
    return {row.name: row for row in board.rows}


def test_one_row_a_method_with_the_strength_that_is_best_on_dev(board: Board) -> None:
    assert [(row.kind, row.rank, row.spec, len(row.strengths)) for row in board.rows] == [
        ("base", None, "base", 1),
        ("edit", 1, "kfac-60:layers=2-3", 3),
        ("edit", 2, "svd-50", 1),  # nothing to choose from
        ("edit", None, "bsn", 2),  # no records of dev
        ("control", None, "random-50:layers=2-3", 3),
    ]
    assert "best split score on dev" in board.note
    assert "no rank, for want of records of dev" in board.note
    assert board.note.count("bsn") == 1
    assert [each.spec for each in board.rows[1].strengths] == [f"kfac-{p}:layers=2-3" for p in (80, 60, 40)]


def test_dev_chooses_and_test_is_told(tmp_path: Path) -> None:
    several(tmp_path, "kfac-", {80: (0.5, 0.9), 60: (0.9, 0.9)})
    several(tmp_path, "kfac-", {80: (0.9, 0.9), 60: (0.5, 0.9)}, split="dev")
    row = rows(tmp_path)["kfac"]
    assert row.spec == "kfac-80"  # the worse one on test
    assert row.cells["stays_erased"] == row.record.summary["stays_erased"]
    assert row.record.content.arguments.split == "test"
    assert row.chosen is not None
    assert row.chosen.dev > 0.8


def test_dev_records_choose_also_where_they_are_given_apart(store: Store, found: dict[str, BoardRow]) -> None:
    tested = [each for each in store.records() if each.content.arguments.split == "test"]
    dev = [each for each in store.records() if each.content.arguments.split == "dev"]
    (apart,) = boards(tested, dev)
    assert {row.name: (row.rank, row.spec) for row in apart.rows} == {
        name: (row.rank, row.spec) for name, row in found.items()
    }
    (alone,) = boards(tested)
    assert alone.rows[1].rank == 1  # svd, the only method without a choice to make
    assert {row.name: row.chosen for row in alone.rows}["kfac:layers=2-3"] is None
    (of_dev,) = boards(dev)
    assert of_dev.about.split == "dev"
    assert "on these very items, which flatters" in of_dev.note


@pytest.mark.parametrize(
    "changed", [{"weights": "v" * 64}, {"model": "a"}, {"dtype": "bfloat16"}, {"limit": 3}, {"code": "c"}]
)
def test_dev_records_of_another_setting_choose_nothing(tmp_path: Path, changed: dict[str, Any]) -> None:
    several(tmp_path, "kfac-", KFAC)
    several(tmp_path, "kfac-", KFAC, split="dev", **changed)
    tested = next(board for board in boards(Store(tmp_path).records()) if board.about.split == "test")
    assert tested.rows[1].chosen is None


def test_draws_are_one_strength_with_their_mean_and_an_interval_over_both(found: dict[str, BoardRow]) -> None:
    row = found["kfac:layers=2-3"]
    assert row.chosen is not None
    assert len(row.chosen.records) == 3
    each = [draws.of_record(one, 0) for one in row.chosen.records]
    score = row.cells["split_score"]
    assert isinstance(score, Interval)
    assert score.value == pytest.approx(np.mean([one["split_score"][0] for one in each]))
    alone = interval(np.mean([one["split_score"] for one in each], axis=0))
    assert score.high - score.low > 1.3 * (alone.high - alone.low)
    assert row.cells["draws"] == 3
    assert row.cells["logic/acc"] == pytest.approx(
        np.mean([one.content.edited["logic"]["acc"] for one in row.chosen.records])
    )


def test_the_newest_of_a_draw_counts(tmp_path: Path) -> None:
    made(tmp_path, "svd-50", stays=0.1, created=1)
    made(tmp_path, "svd-50", stays=0.9, created=2, edited_weights="another CPU's")
    (board,) = boards(Store(tmp_path).records())
    assert figure(board.rows[1].cells, "stays_erased").value == pytest.approx(0.9)
    assert len(board.older) == 1
    assert "1 older record of" in board.note


def test_what_is_read_off_the_curve(found: dict[str, BoardRow]) -> None:
    kfac, control, svd = (found[name].cells for name in ("kfac:layers=2-3", "random:layers=2-3", "svd"))
    drawn = np.mean([(0.8, 0.85), (0.76, 0.81), (0.9, 0.9)], axis=0)  # the mean of the draws at 60 %
    assert figure(kfac, "reasoning_at_50").value == pytest.approx(0.95)
    expected = np.interp(0.9, [drawn[0], 0.95], [drawn[1], 0.4])
    assert figure(kfac, "reasoning_at_90").value == pytest.approx(expected)
    assert figure(control, "reasoning_at_50").value == pytest.approx(np.interp(0.5, [0.2, 0.6], [0.9, 0.6]))
    assert math.isnan(figure(svd, "reasoning_at_50").value)
    assert figure(svd, "most_erased").value == pytest.approx(0.3)
    at = min(drawn[0], 0.8)  # where the control ends
    method = np.interp(at, [0.5, drawn[0]], [0.95, drawn[1]])
    assert figure(kfac, "lead").value == pytest.approx(method - 0.3)
    assert figure(kfac, "lead").low > 0.3
    assert kfac["lead_at"] == pytest.approx(at)
    assert "lead" not in control


def test_strengths_that_another_beats_on_dev_bend_no_curve(tmp_path: Path) -> None:
    dev = {90: (0.4, 0.9), 80: (0.8, 0.7), 70: (0.7, 0.5)}
    several(tmp_path, "kfac-", dev, split="dev")
    several(tmp_path, "kfac-", {**dev, 70: (0.9, 0.9)})  # on test it is the best, by luck
    several(tmp_path, "svd-", {80: (0.8, 0.7), 70: (0.7, 0.5)})
    found = rows(tmp_path)
    on_curve = {each.spec: each.on_curve for name in ("kfac", "svd") for each in found[name].strengths}
    assert on_curve == {"kfac-90": True, "kfac-80": True, "kfac-70": False, "svd-80": True, "svd-70": True}
    assert figure(found["kfac"].cells, MOST).value == pytest.approx(0.8, abs=0.03)
    between = figure(found["kfac"].cells, "reasoning_at_50").value
    assert between == pytest.approx(0.9 - 0.2 * 0.1 / 0.4, abs=0.03)


def test_a_lead_is_over_the_control_of_the_same_matrices(tmp_path: Path) -> None:
    other = [{"name": "layers.3.up.weight", "kept": 1, "total": 2, "removed_norm": 0.5}]
    made(tmp_path, "kfac-80", kept=0.9)
    made(tmp_path, "random-50:layers=3", kept=0.1, matrices=other)
    assert "lead" not in rows(tmp_path)["kfac"].cells
    made(tmp_path, "random-50", kept=0.5)
    assert figure(rows(tmp_path)["kfac"].cells, "lead").value == pytest.approx(0.4)


def test_only_records_of_the_same_items_weights_and_attacks_share_a_table(tmp_path: Path) -> None:
    unseen = {"model": "u", "weights": "u" * 64}
    other: list[dict[str, Any]] = [
        {},
        {"weights": "v" * 64},
        {"dtype": "bfloat16"},
        {"suite": "memsplit_paper"},
        {"model": "a"},
        {"fingerprint": "f" * 16},
        {"limit": 3},
        {"reference": unseen},
        {"attacks": False},
        {"code": "c" * 64},
    ]
    for n, changed in enumerate(other):
        made(tmp_path, "kfac-80", created=n, **changed)
    found = boards(Store(tmp_path).records())
    assert len(found) == len(other)
    assert len({(board.title, board.details) for board in found}) == len(other)
    assert found[0].about.model == "a"
    assert "first 3 items" in found[-2].title
    assert found[-1].about.suite == "memsplit_paper"


def test_records_without_attacks_have_no_rank_and_their_old_score_its_own_name(tmp_path: Path) -> None:
    several(tmp_path, "kfac-", KFAC, attacks=False)
    made(tmp_path, "svd-50", attacks=False)
    (board,) = boards(Store(tmp_path).records())
    assert [row.rank for row in board.rows] == [None, None, None]
    assert "No attacks were made" in board.note
    assert "split_score" not in {column.key for column in board.columns}
    svd = next(row for row in board.rows if row.name == "svd")
    assert figure(svd.cells, "silence_score").value == 0.95
    assert [label for _, label, _ in board.rows[-1].lines()] == ["none of 3 chosen", "40 %", "60 %", "80 %"]


@pytest.mark.parametrize(
    ("spec", "kept", "near"),
    [
        ("noise:match=kfac-80", 0.9, True),
        ("quantize:bits=2", 0.86, True),  # worse without a doubt, and yet near
        ("magnitude-0", 0.4, False),
        ("random-50", 0.4, False),
        ("svd-50", 0.9, False),  # no baseline
    ],
)
def test_a_baseline_near_the_top_is_said_to_be_there(tmp_path: Path, spec: str, kept: float, near: bool) -> None:
    made(tmp_path, "kfac-80", stays=0.9, kept=0.9, spread=0.02)
    made(tmp_path, spec, stays=0.9, kept=kept, spread=0.02)
    (board,) = boards(Store(tmp_path).records())
    assert [spec in warning for warning in board.warnings] == ([True] if near else [])
    assert ("No headline" in board.note) == near


def test_a_baseline_of_which_no_strength_was_chosen_warns_by_its_best(tmp_path: Path) -> None:
    made(tmp_path, "kfac-80", stays=0.9, kept=0.9)
    several(tmp_path, "random-", {80: (0.1, 0.9), 50: (0.9, 0.9)})
    assert "random-50" in boards(Store(tmp_path).records())[0].warnings[0]


def test_baselines_that_are_missing_are_named(tmp_path: Path) -> None:
    made(tmp_path, "kfac-80")
    assert "missing: noise of equal norm, rounding, deletion of the matrices, random components." in note(tmp_path)
    for spec in ("noise:match=kfac-80", "quantize:bits=2", "magnitude-0", "random-50"):
        made(tmp_path, spec)
    assert "missing" not in note(tmp_path)


def note(folder: Path) -> str:
    board: Board = boards(Store(folder).records())[0]
    return board.note


def test_strengths_without_dev_are_counted_and_not_chosen(tmp_path: Path) -> None:
    several(tmp_path, "kfac-", KFAC)
    several(tmp_path, "kfac-", {80: KFAC[80]}, split="dev")
    assert rows(tmp_path)["kfac"].spec == "kfac-80"
    assert "2 strengths have no record of dev" in note(tmp_path)


def test_a_strength_whose_numbers_are_the_defaults_has_a_label_beside_others(tmp_path: Path) -> None:
    for spec in ("quantize", "quantize:bits=2", "svd"):
        made(tmp_path, spec)
    assert [[each.label for each in row.strengths] for row in rows(tmp_path).values()][1:] == [
        [""],
        ["default", "bits=2"],
    ]


def test_what_the_columns_divide_by_what(found: dict[str, BoardRow], tmp_path: Path) -> None:
    svd = found["svd"]
    assert svd.cells["components_removed"] == 1 - 60 / 400
    assert svd.cells["norm_removed"] == pytest.approx(0.6)
    assert svd.cells["seconds"] == 3.25
    assert svd.cells["logic/acc"] == pytest.approx(0.95)
    assert svd.axes["recitation"].value == 0
    assert svd.axes["facts_closed"].value == pytest.approx(0.9)
    assert found["base"].cells["fluency/perplexity"] == pytest.approx(math.exp(3.4))
    without = made(tmp_path, "finetune", matrices=[])
    assert "components_removed" not in boards([without])[0].rows[1].cells


def test_every_record_of_a_table_is_known(store: Store, board: Board) -> None:
    assert {each.id for each in board.records} == {each.id for each in store.records()}
    assert all(record.read(each.path) == each for each in board.records)
