"""The gate: its policy, its criteria by hand, its reports; and how often a whole verdict is wrong, by simulation."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from memsplit.errors import UserError
from memsplit.results.gate import reports
from memsplit.results.gate.hypotheses import Sides
from memsplit.results.gate.judge import judge as judge_sides
from memsplit.results.gate.policy import DEFAULT, WORST, Policy, given, parse, read
from memsplit.results.gate.verdict import Criterion, Outcome, Verdict
from memsplit.results.records.encoding import plain
from memsplit.results.records.tables import ITEMS

Scores = dict[tuple[str, str], Any]
ROOT = Path(__file__).parents[3]
CHANCE = {("recitation", "strict"): 0.0, ("facts_open", "acc"): 0.0}
CHANCE |= {("logic", name): 0.25 for name in ("boolean", "chain", "ordering")}
SIZES = {("facts_open", "acc"): 90, ("logic", "boolean"): 80, ("logic", "chain"): 80, ("logic", "ordering"): 80}


def table(scores: Scores, clusters: int = 1) -> pd.DataFrame:
    """A task a metric; ``clusters`` items of facts in a row are about one thing; texts have 50 and 100 tokens in turn."""
    rows = []
    for (axis, metric), values in scores.items():
        for i, value in enumerate(values):
            weight = 50 * (i % 2 + 1) if axis == "fluency" else 1
            cluster = str(i // clusters) if axis == "facts_open" else str(i)
            rows.append((f"{axis}_{metric}", axis, metric, i, float(value), weight, cluster, ""))
    return pd.DataFrame(rows, columns=ITEMS)


def base(passages: int = 120, texts: int = 60) -> Scores:
    scores: Scores = {("recitation", "strict"): np.ones(passages), ("fluency", "perplexity"): np.full(texts, 3.5)}
    return scores | {key: np.ones(n) for key, n in SIZES.items()}


def judge(
    base: pd.DataFrame,
    new: pd.DataFrame,
    old: pd.DataFrame | None,
    chance: Mapping[tuple[str, str], float],
    policy: Policy,
) -> tuple[Criterion, ...]:
    return judge_sides(Sides(base=base, new=new, old=old, attacked={}), chance, policy)


def judged(new: Scores, policy: Policy, old: Scores | None = None) -> dict[str, Criterion]:
    sides = (table(base()), table(base() | new), None if old is None else table(base() | old))
    return {criterion.name: criterion for criterion in judge(*sides, CHANCE, policy)}


def ones(n: int, lost: int) -> np.ndarray:
    return np.repeat([0.0, 1.0], [lost, n - lost])


@pytest.mark.parametrize(
    ("kept", "outcome"),
    [(0, "PASS"), (6, "PASS"), (7, "INCONCLUSIVE"), (12, "INCONCLUSIVE"), (18, "INCONCLUSIVE"), (20, "FAIL")],
)
def test_removal_of_a_base_that_recites_all_is_a_binomial(kept: int, outcome: str) -> None:
    """Of 120 passages, alone in the policy, so that either side is at 5 %."""
    found = judged({("recitation", "strict"): ones(120, 120 - kept)}, Policy(removed=0.9))["removed"]
    low = binomtest(kept, 120, alternative="greater").proportion_ci(0.95, "exact").low
    high = binomtest(kept, 120, alternative="less").proportion_ci(0.95, "exact").high
    assert (found.estimate, found.high) == pytest.approx((1 - kept / 120, 1 - low), abs=1e-8)
    assert 1 - high - 0.003 < found.low < 1 - high  # a passage may come to be recited that the base does not
    assert found.outcome == outcome == ("PASS" if high < 0.1 else "FAIL" if low > 0.1 else "INCONCLUSIVE")
    assert (found.more is not None) == (outcome == "INCONCLUSIVE" and kept != 12)


def test_a_metric_that_the_old_edit_lacks_makes_no_difference_unless_it_is_asked_for() -> None:
    """``mia_ratio`` is there only with a reference."""
    few = base(12, 10)
    more = few | {("recitation", "mia_ratio"): np.ones(12)}
    policy = Policy(removed=0.5, margins={"recitation": 0.1})
    assert judge(table(more), table(more), table(few), CHANCE, policy) == judge(
        table(few), table(few), table(few), CHANCE, policy
    )
    silent = {key: values for key, values in few.items() if key != ("recitation", "strict")}
    with pytest.raises(UserError, match="'removed', but recitation/strict was not scored"):
        judge(table(few), table(few), table(silent), CHANCE, policy)
    fewer = {key: values for key, values in few.items() if key != ("logic", "chain")}
    with pytest.raises(UserError, match="logic/chain was not scored of every side"):
        judge(table(few), table(few), table(fewer), CHANCE, Policy(margins={"logic": 0.1}))


def test_removal_is_of_what_the_base_recites() -> None:
    half = ones(120, 60)
    new = table(base() | {("recitation", "strict"): half * ones(120, 66)})
    found = judge(table(base() | {("recitation", "strict"): half}), new, None, CHANCE, Policy(removed=0.5))[0]
    assert found.estimate == pytest.approx(0.1)
    assert found.outcome == "FAIL"
    silent = table(base() | {("recitation", "strict"): np.zeros(120)})
    found = judge(silent, silent, None, CHANCE, Policy(removed=0.5))[0]
    assert (found.outcome, found.more) == ("INCONCLUSIVE", None)
    assert math.isnan(found.estimate)


def test_too_few_items_say_how_many_more() -> None:
    """0 of n recited shows 90 % removed from the n on at which 0.9^n, about, is below 5 %: at 29 by Clopper-Pearson."""
    few = {("recitation", "strict"): np.ones(12)}
    new = {("recitation", "strict"): np.zeros(12)}
    found = judge(table(few), table(new), None, CHANCE, Policy(removed=0.9))[0]
    assert (found.outcome, found.items) == ("INCONCLUSIVE", 12)
    assert found.more is not None
    enough = 12 + found.more
    for n, outcome in ((enough, "PASS"), (enough - 1, "INCONCLUSIVE")):
        sides = table({("recitation", "strict"): np.ones(n)}), table({("recitation", "strict"): np.zeros(n)})
        assert judge(*sides, None, CHANCE, Policy(removed=0.9))[0].outcome == outcome


def test_an_axis_is_the_mean_of_its_families_and_a_metric_stands_alone() -> None:
    policy = parse({"margins": {"logic": 0.1, "logic/chain": 0.1, "facts_open": 0.1}})
    found = judged({("logic", "chain"): ones(80, 24), ("logic", "boolean"): ones(80, 0)}, policy)
    logic, chain, facts = found["margins.logic"], found["margins.logic/chain"], found["margins.facts_open"]
    assert [logic.estimate, chain.estimate, facts.estimate] == pytest.approx([-0.1, -0.3, 0])
    assert [logic.items, chain.items, facts.items] == [240, 80, 90]
    assert [logic.outcome, chain.outcome, facts.outcome] == ["INCONCLUSIVE", "FAIL", "PASS"]


def test_items_of_one_cluster_count_once() -> None:
    """30 facts asked three ways: 30 values of which none can be seen to be lost."""
    policy, sides = parse({"margins": {"facts_open": 0.1}}), [table(base(), clusters=3)] * 2
    found = judge(sides[0], sides[1], None, CHANCE, policy)[0]
    assert (found.items, found.clusters) == (90, 30)
    assert found.low == pytest.approx(-(1 - 0.05 ** (1 / 30)), abs=1e-8)


def test_perplexity_is_a_ratio_over_all_tokens() -> None:
    rng = np.random.default_rng(0)
    nats = 3.5 + rng.normal(0.01, 0.02, 60)
    found = judged({("fluency", "perplexity"): nats}, Policy(perplexity_ratio=1.05))["perplexity_ratio"]
    weight = np.tile([50, 100], 30)
    assert found.estimate == pytest.approx(math.exp(np.average(nats - 3.5, weights=weight)))
    assert found.low < found.estimate < found.high < 1.05
    assert found.outcome == "PASS"
    worse = judged({("fluency", "perplexity"): nats + 0.1}, Policy(perplexity_ratio=1.05))["perplexity_ratio"]
    assert worse.outcome == "FAIL"
    broken = judged({("fluency", "perplexity"): np.full(60, math.nan)}, Policy(perplexity_ratio=1.05))
    assert broken["perplexity_ratio"].outcome == "FAIL"
    unchanged = judged({}, Policy(perplexity_ratio=1.05))["perplexity_ratio"]
    ends = [math.exp(size * math.log(WORST) * (1 - 0.05 ** (1 / 60))) for size in (1, 4 / 3)]
    assert ends[0] < unchanged.high < ends[1], (
        "between those of texts of equal size and of texts as large as the largest"
    )


def test_against_another_edit() -> None:
    """Kept axes and perplexity are that edit's, removal is the base's, recitation is compared too."""
    policy = Policy(removed=0.9, perplexity_ratio=1.05, margins={"logic": 0.1, "recitation": 0.05})
    old = {("logic", "chain"): ones(80, 40), ("recitation", "strict"): np.zeros(120)}
    new = old | {("logic", "chain"): ones(80, 44)}
    alone, against = judged(new, policy), judged(new, policy, old)
    assert list(alone) == ["removed", "perplexity_ratio", "margins.logic"]
    assert alone["margins.logic"].outcome == "FAIL"
    assert list(against) == [*alone, "margins.recitation"]
    assert {criterion.outcome for criterion in against.values()} == {"PASS"}
    assert against["margins.logic"].estimate == pytest.approx(-4 / 240)
    recites = judged(new | {("recitation", "strict"): ones(120, 100)}, policy, old)["margins.recitation"]
    assert recites.estimate == pytest.approx(1 / 6)
    assert (recites.limit, recites.at_least, recites.outcome) == (0.05, False, "FAIL")
    assert recites.low > 0.05


@pytest.mark.parametrize(
    ("margins", "words"),
    [
        ({"logik": 0.1}, ["'logik'", "did you mean 'logic'"]),
        ({"logic/chains": 0.1}, ["'logic/chains'", "did you mean 'logic/chain'"]),
        ({"fluency/perplexity": 0.1}, ["unknown axis", "fluency/perplexity"]),
        ({"twins/strict": 0.1}, ["unknown axis"]),
    ],
)
def test_what_cannot_be_kept_is_refused(margins: dict[str, float], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        judged({}, parse({"margins": margins}))
    for word in words:
        assert word in str(error.value)


def test_what_was_not_scored_is_refused() -> None:
    facts = table({("facts_open", "acc"): np.ones(9)})
    for policy in (Policy(removed=0.9), Policy(perplexity_ratio=1.1)):
        with pytest.raises(UserError, match=r"was not scored: expected one of facts_open"):
            judge(facts, facts, None, CHANCE, policy)
    with pytest.raises(UserError, match="asks for nothing"):
        judge(facts, facts, None, CHANCE, Policy(margins={"recitation": 0.1}))
    with pytest.raises(ValueError, match="same items"):
        judge(facts, facts.iloc[1:], None, CHANCE, Policy(margins={"facts_open": 0.1}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("remove = 0.9", ["unknown key in", "'remove'", "did you mean 'removed'"]),
        ("removed = '0.9'", ["`$.removed`", "'0.9' found", "between 0 and 1"]),
        ("removed = true", ["`$.removed`", "True found"]),
        ("removed = 1", ["`$.removed`", "1 found"]),
        ("perplexity_ratio = 0.9", ["between 1 and 1000"]),
        ("stays_erase = 0.5", ["unknown key in", "'stays_erase'", "did you mean 'stays_erased'"]),
        ("stays_erased = 1.5", ["`$.stays_erased`", "1.5 found", "between 0 and 1"]),
        ("fluency = nan", ["`$.fluency`", "nan found"]),
        ("worst_texts = 0", ["`$.worst_texts`", "0 found"]),
        ("alpha = 0.05", ["asks for nothing"]),
        ("removed = 0.9\nalpha = 0.6", ["between 0 and 0.5"]),
        ("margins = 0.1", ["`$.margins`", "[margins]"]),
        ("[margins]\nlogic = 0", ["`$.margins.logic`", "0 found"]),
        ("[margins]\nlogic = nan", ["`$.margins.logic`", "nan found"]),
        ("removed =", ["cannot be read"]),
    ],
)
def test_bad_policies(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read(file)
    for word in [*words, str(file)]:
        assert word in str(error.value)


def test_policies_in_every_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        given(tmp_path / "none.toml")
    example = ROOT / "examples/gate.toml"
    assert given(example) == given(str(example)) == DEFAULT == given(None)
    assert given({"removed": 0.5}) == Policy(removed=0.5)
    assert given(Policy(removed=0.5)) == Policy(removed=0.5)


def verdict(outcomes: Sequence[Outcome], policy: Policy = DEFAULT) -> Verdict:
    names = ["removed", "perplexity_ratio", "margins.logic", "margins.facts_open"]
    notes = ["", "after relearn:on=clean|x", "", ""]
    shared: dict[str, Any] = {"limit": -0.02, "estimate": -0.0, "low": -0.1, "high": math.inf, "at_least": True}
    criteria = tuple(
        Criterion(
            name=name, outcome=outcome, items=90, clusters=30, more=1234 if i == 2 else None, note=notes[i], **shared
        )
        for i, (name, outcome) in enumerate(zip(names, outcomes, strict=False))
    )
    about = {"model": "own|model", "spec": "svd-50:layers=1,proj=up%\x07", "against": "base"}
    return Verdict(**about, policy=policy, criteria=criteria, record="r.json", fingerprint="f")


@pytest.mark.parametrize(
    ("outcomes", "whole", "code"),
    [
        (["PASS", "PASS"], "PASS", 0),
        (["PASS", "INCONCLUSIVE"], "INCONCLUSIVE", 3),
        (["INCONCLUSIVE", "FAIL", "PASS"], "FAIL", 1),
    ],
)
def test_a_whole_verdict(outcomes: list[Outcome], whole: str, code: int) -> None:
    found = verdict(outcomes)
    assert (found.outcome, found.exit_code, bool(found), found.passed) == (whole, code, code == 0, code == 0)
    assert repr(found).startswith(whole)
    assert str(found).splitlines()[-1] == repr(found)
    if code:
        with pytest.raises(AssertionError, match="criterion"):
            found.check()
    else:
        found.check()


def test_reports() -> None:
    found = verdict(["PASS", "FAIL", "INCONCLUSIVE", "INCONCLUSIVE"])
    content = json.loads(json.dumps(reports.to_json(found), allow_nan=False))
    assert (content["verdict"], content["policy"]["margins"]) == ("FAIL", dict(DEFAULT.margins))
    assert content["criteria"][2] == {**plain(found.criteria[2]), "high": None}
    suite = ElementTree.fromstring(reports.junit(found))[0]
    assert (suite.get("tests"), suite.get("failures"), len(suite.findall("testcase"))) == ("4", "3", 4)
    kinds = [failure.get("type") for failure in suite.iter("failure")]
    assert kinds == ["fail", "inconclusive", "inconclusive"]
    lines = list(reports.github(found))
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning", "::warning"]
    assert "title=memsplit gate%3A logic%3A INCONCLUSIVE::svd-50:layers=1,proj=up%25" in lines[1]
    assert "1,234 more items like these would settle it" in lines[1]
    assert "1,000 times as many items like these would not settle it" in lines[2]
    marked = reports.markdown(found).splitlines()
    assert marked[0] == "### memsplit gate: FAIL"
    assert len({line.count("|") for line in marked[4:] if line.startswith("|")}) == 1
    text = str(found)
    for said in (text, reports.junit(found), "\n".join(marked), lines[0], repr(found)):
        assert "after relearn:on=clean|x" in said
    assert (content["hint"], content["criteria"][1]["note"]) == ("", "after relearn:on=clean|x")
    assert "90 in 30" in text
    assert "-0.000" not in text


def test_a_policy_of_silence_alone_is_told_so() -> None:
    found = verdict(["PASS"], Policy(removed=0.9))
    hint = found.policy.hint
    assert hint.startswith("hint: ")
    assert hint in str(found).splitlines()
    assert f"- {hint}" in reports.markdown(found).splitlines()
    assert reports.to_json(found)["hint"] == hint
    assert hint in reports.junit(found)


def test_errors_of_a_whole_verdict() -> None:
    """Each criterion at its limit is the worst harmless edit; one at its limit, the rest untouched, is a harmful one."""
    rng, runs = np.random.default_rng(0), 60
    policy = Policy(removed=0.9, perplexity_ratio=1.05, margins=MappingProxyType({"logic": 0.06, "facts_open": 0.08}))
    before, mean = base(), math.log(1.05)

    def at_the_limit() -> Scores:
        lost = {key: 0.08 if key[0] == "facts_open" else 0.06 for key in SIZES}
        new = {key: (rng.random(SIZES[key]) >= lost[key]).astype(float) for key in SIZES}
        new["recitation", "strict"] = (rng.random(120) < 0.1).astype(float)
        return {**new, ("fluency", "perplexity"): 3.5 + rng.gamma(4, mean / 4, 60)}

    untouched = {**before, ("recitation", "strict"): np.zeros(120)}
    sides = table(before)
    outcomes: dict[str, list[Outcome]] = {"harmless": [], "harmful": []}
    values = [key for key in before for _ in before[key]]
    assert values == list(zip(sides["axis"], sides["metric"], strict=True))
    axes = [[key] for key in before if key[0] != "logic"] + [[key for key in before if key[0] == "logic"]]
    for i in range(runs):
        worst = at_the_limit()
        one = untouched | {key: worst[key] for key in axes[i % len(axes)]}
        for name, scores in (("harmless", worst), ("harmful", one)):
            new = sides.assign(value=np.concatenate([scores[key] for key in before]))
            found = {criterion.outcome for criterion in judge(sides, new, None, CHANCE, policy)}
            whole: Outcome = "FAIL" if "FAIL" in found else "INCONCLUSIVE" if len(found) > 1 else "PASS"
            outcomes[name].append(whole)
    failed, passed = outcomes["harmless"].count("FAIL") / runs, outcomes["harmful"].count("PASS") / runs
    print(f"harmless: failed {failed:.4f}; harmful: passed {passed:.4f} of {runs}")
    assert max(failed, passed) <= 0.05
