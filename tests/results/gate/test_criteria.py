"""What is erased and stays so, reasoning, fluency and the worst texts: against brute force, scipy and the record's figures."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_ind

from memsplit.errors import UserError
from memsplit.results.gate.hypotheses import Sides
from memsplit.results.gate.judge import judge
from memsplit.results.gate.policy import DEFAULT, WORST, Policy
from memsplit.results.gate.verdict import Criterion
from memsplit.results.records.tables import ITEMS
from memsplit.results.statistics.paired import Paired

Scores = Mapping[tuple[str, str], Any]
PASSAGES, TWINS = 60, 40
NATS = math.log(2)
CHANCE = {("logic", "boolean"): 0.5, ("logic", "chain"): 0.25, ("arithmetic", "sums"): 0.0, ("facts_open", "acc"): 0.0}
SIZES = {("logic", "boolean"): 80, ("logic", "chain"): 120, ("arithmetic", "sums"): 90, ("facts_open", "acc"): 70}


def table(scores: Scores, tokens: int = 100) -> pd.DataFrame:
    rows = [
        (f"{axis}_{metric}", axis, metric, i, float(value), tokens if axis == "fluency" else 1, str(i), "")
        for (axis, metric), values in scores.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=ITEMS)


def bits(memorized: float, twins: float, spread: float = 0.3, seed: int = 0) -> dict[tuple[str, str], np.ndarray]:
    """Code lengths of 60 passages and 40 twins, in bits a token; their means are exact and their skewness is 0."""
    scores = {}
    for axis, mean, n in (("recitation", memorized, PASSAGES), ("twins", twins, TWINS)):
        half = np.random.default_rng([seed, n]).normal(0, spread, n // 2)
        scores[axis, "log_prob"] = -NATS * (mean + np.concatenate([half, -half]))
    return scores


BASE = bits(0.02, 5.0, 0.01)
UNSEEN = bits(4.8, 5.1, 0.2, 1)


def judged(
    policy: Policy,
    edited: Scores,
    *,
    base: Scores = BASE,
    unseen: Scores | None = UNSEEN,
    attacked: Mapping[str, tuple[Scores, Scores | None]] | None = None,
) -> Criterion:
    after = {
        attack: (table(of_edit), None if of_unseen is None else table(of_unseen))
        for attack, (of_edit, of_unseen) in (attacked or {}).items()
    }
    sides = Sides(base=table(base), new=table(edited), unseen=None if unseen is None else table(unseen), attacked=after)
    return judge(sides, CHANCE, policy)[0]


def of(model: Scores) -> float:
    """Memory in bits, without its floor."""
    return float(np.mean(model["recitation", "log_prob"]) - np.mean(model["twins", "log_prob"])) / NATS


def test_erased_is_of_the_bases_memory_beyond_the_unseen_models() -> None:
    edited = bits(3.0, 5.2, seed=2)
    found = judged(Policy(erased=0.5), edited)
    assert found.estimate == pytest.approx(1 - (of(edited) - of(UNSEEN)) / (of(BASE) - of(UNSEEN)))
    assert found.estimate == pytest.approx(1 - (2.2 - 0.3) / (4.98 - 0.3))
    assert (found.outcome, found.items, found.at_least, found.note) == ("PASS", 100, True, "")
    floorless = judged(Policy(erased=0.5), edited, unseen=None)
    assert floorless.estimate == pytest.approx(1 - 2.2 / 4.98)
    assert "no unseen counterpart" in floorless.note
    assert judged(Policy(erased=0.7), edited).outcome == "FAIL"
    assert judged(Policy(erased=0.9), BASE).estimate == pytest.approx(0)
    scar = judged(Policy(erased=0.9), bits(5.5, 5.0))
    assert scar.estimate == pytest.approx(1 - (-0.5 - 0.3) / (4.98 - 0.3))
    assert scar.outcome == "PASS"


def test_a_scar_is_what_is_less_likely_than_if_never_seen() -> None:
    deep = bits(5.5, 5.0)
    found = judged(Policy(scar=0.1), deep)
    assert found.estimate == pytest.approx((0.5 + 0.3) / (4.98 - 0.3))
    assert (found.name, found.outcome, found.at_least, found.limit) == ("scar", "FAIL", False, 0.1)
    assert found.low < found.estimate < found.high
    assert judged(Policy(scar=0.25), deep).outcome == "PASS"
    assert judged(Policy(scar=0.01), bits(4.0, 5.0)).estimate == pytest.approx((1.0 - 0.3) / (4.98 - 0.3) * -1)
    assert judged(Policy(scar=0.01), bits(4.0, 5.0)).outcome == "PASS"
    assert judged(Policy(scar=0.25), bits(math.nan, 5.0)).outcome == "FAIL"


def test_its_bounds_are_welchs() -> None:
    """At a bound the mean of twins' values less that of passages' has a one-sided p of 5 % by scipy; nothing is skewed."""
    edited = bits(3.0, 5.2, seed=2)
    found = judged(Policy(erased=0.5), edited)

    def p(share: float) -> float:
        sides = [
            (1 - share) * (BASE[axis, "log_prob"] - UNSEEN[axis, "log_prob"])
            - edited[axis, "log_prob"]
            + UNSEEN[axis, "log_prob"]
            for axis in ("twins", "recitation")
        ]
        return float(ttest_ind(-sides[0], -sides[1], equal_var=False, alternative="greater").pvalue)

    assert p(found.low) == pytest.approx(0.05, rel=1e-6)
    assert p(found.high) == pytest.approx(0.95, rel=1e-6)


def test_stays_erased_is_what_the_worst_attack_leaves() -> None:
    """Each attack has the same attack on the unseen model as its floor; here one makes that model know the passages too."""
    edited, back = bits(4.6, 5.0, seed=2), bits(1.0, 5.0, seed=3)
    mild = (bits(4.0, 5.0, seed=4), bits(4.5, 5.0, seed=5))
    policy = Policy(stays_erased=0.5)
    found = judged(policy, edited, attacked={"quantize": mild, "relearn": (back, UNSEEN)})
    assert found.estimate == pytest.approx(1 - (of(back) - of(UNSEEN)) / (of(BASE) - of(UNSEEN)))
    assert (found.name, found.outcome, found.note) == ("stays_erased", "FAIL", "after relearn")
    alone = judged(policy, edited, attacked={"quantize": mild})
    assert alone.estimate == pytest.approx(1 - (1.0 - 0.5) / (4.98 - 0.3))
    assert (alone.outcome, alone.note) == ("PASS", "after quantize")
    learnt = judged(policy, edited, attacked={"relearn:on=clean": (back, back)})
    assert learnt.estimate == pytest.approx(1 - (of(edited) - of(UNSEEN)) / (of(BASE) - of(UNSEEN)))
    assert (learnt.outcome, learnt.note) == ("PASS", "before any attack")
    untouched = judged(policy, BASE, attacked={"noise:size=9": (bits(5.0, 5.0), bits(5.0, 5.0))})
    assert (untouched.outcome, untouched.note) == ("FAIL", "before any attack"), "an attack that ruins all is no edit"
    floorless = judged(policy, edited, unseen=None, attacked={"relearn": (back, None)})
    assert floorless.note.startswith("after relearn; no unseen counterpart")


def test_attacks_that_disagree() -> None:
    """It passes where all pass, by the lowest bound; a failure outweighs what is not settled."""
    near, far = bits(2.55, 5.0, 2.0, 4), bits(4.5, 5.0, 0.1, 5)
    attacked = {"noise": (near, UNSEEN), "quantize": (far, UNSEEN)}
    policy = Policy(stays_erased=0.5)
    found = judged(policy, far, attacked=attacked)
    single = judged(policy, far, attacked={"noise": attacked["noise"]})
    assert (found.outcome, found.note) == ("INCONCLUSIVE", "after noise")
    assert (found.estimate, found.low) == (single.estimate, single.low)
    assert found.high > single.high, "two attacks have two chances to fail"
    assert found.more is not None
    assert found.more > 0
    failed = judged(policy, far, attacked={**attacked, "relearn": (BASE, UNSEEN)})
    assert (failed.outcome, failed.note, failed.more) == ("FAIL", "after relearn", None)


@pytest.mark.parametrize("base", [bits(4.8, 5.1, 0.3, 7), bits(6.0, 5.1, 0.3, 7)], ids=["none", "less than none"])
def test_a_base_that_remembers_nothing_settles_nothing(base: Scores) -> None:
    for edited in (base, bits(5.5, 5.1, 0.1), BASE):
        found = judged(Policy(erased=0.5), edited, base=base)
        assert found.outcome == "INCONCLUSIVE"


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_broken_score_fails(value: float) -> None:
    for axis in ("recitation", "twins"):
        edited = bits(4.6, 5.0)
        edited[axis, "log_prob"][3] = value
        assert judged(Policy(erased=0.5), edited).outcome == "FAIL"
        assert judged(Policy(stays_erased=0.5), BASE, attacked={"noise": (edited, UNSEEN)}).outcome == "FAIL"


def test_what_memory_needs() -> None:
    with pytest.raises(UserError, match="'stays_erased', but no attack was run"):
        judged(Policy(stays_erased=0.5), BASE)
    alone = {("recitation", "log_prob"): BASE["recitation", "log_prob"]}
    with pytest.raises(UserError, match=r"'erased', but twins/log_prob was not scored"):
        judged(Policy(erased=0.5), alone, base=alone, unseen=None)
    with pytest.raises(UserError, match=r"'stays_erased', but twins/log_prob was not scored"):
        judged(Policy(stays_erased=0.5), BASE, attacked={"noise": (alone, UNSEEN)})


def knowing(seed: int, share: float) -> dict[tuple[str, str], np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: (rng.random(n) < (share if key[0] == "logic" else share**2)).astype(float) for key, n in SIZES.items()}


def test_reasoning_is_the_mean_of_what_is_kept() -> None:
    base, edited = knowing(0, 0.97), knowing(1, 0.85)
    found = judged(Policy(reasoning=0.9), edited, base=base)
    summary = Paired(table(base), table(edited), CHANCE).summary()
    kept = [summary[f"{axis}_kept"].value for axis in ("logic", "arithmetic", "facts_open")]
    assert found.estimate == pytest.approx(np.mean(kept)) == summary["reasoning_kept"].value
    assert (found.items, found.outcome) == (360, "FAIL")
    assert judged(Policy(reasoning=0.9), base, base=base).outcome == "PASS"
    guessing = base | {("arithmetic", "sums"): np.zeros(90)}
    two = judged(Policy(reasoning=0.9), edited, base=guessing)
    summary = Paired(table(guessing), table(edited), CHANCE).summary()
    assert two.estimate == pytest.approx(summary["reasoning_kept"].value)
    assert two.estimate == pytest.approx(np.mean([kept[0], kept[2]]))
    assert two.note == "without arithmetic, of which the base knows nothing"
    nothing = {key: np.repeat([0.0, 1.0], n // 2) if key[0] == "logic" else np.zeros(n) for key, n in SIZES.items()}
    lost = judged(Policy(reasoning=0.9), edited, base=nothing | {("logic", "chain"): np.repeat([0.0, 1.0], [90, 30])})
    assert (lost.outcome, math.isnan(lost.estimate)) == ("INCONCLUSIVE", True)
    missing = {key: values for key, values in base.items() if key[0] != "facts_open"}
    with pytest.raises(UserError, match="'reasoning', but facts_open was not scored"):
        judged(Policy(reasoning=0.9), missing, base=missing)


def texts(change: np.ndarray | float, n: int = 160) -> tuple[Scores, Scores]:
    return {("fluency", "perplexity"): np.full(n, 3.5)}, {("fluency", "perplexity"): np.full(n, 3.5) + change}


def test_fluency_is_the_inverse_of_the_perplexity_ratio() -> None:
    base, edited = texts(np.random.default_rng(0).normal(0.02, 0.02, 160))
    fluency = judged(Policy(fluency=0.95), edited, base=base)
    ratio = judged(Policy(perplexity_ratio=1 / 0.95), edited, base=base)
    for mine, theirs in (("estimate", "estimate"), ("low", "high"), ("high", "low"), ("limit", "limit")):
        assert getattr(fluency, mine) == pytest.approx(1 / getattr(ratio, theirs))
    assert (fluency.at_least, fluency.outcome, ratio.outcome) == (True, "PASS", "PASS")


@pytest.mark.parametrize("worst", [0, 1, 2, 12])
def test_the_worst_texts_are_a_binomial(worst: int) -> None:
    """Of 160; what happens to a text beyond the threshold makes no difference."""
    limit = math.log(WORST)
    change = np.repeat([limit - 1e-6, limit + 1e-6, 40.0], [160 - worst, worst // 2, worst - worst // 2])
    base, edited = texts(change)
    found = judged(Policy(worst_texts=0.03), edited, base=base)
    high = binomtest(worst, 160, alternative="less").proportion_ci(0.95, "exact").high
    low = binomtest(worst, 160, alternative="greater").proportion_ci(0.95, "exact").low
    assert (found.estimate, found.high, found.low) == pytest.approx((worst / 160, high, low), abs=1e-7)
    assert found.outcome == ("PASS" if high < 0.03 else "FAIL" if low > 0.03 else "INCONCLUSIVE")
    assert f"{WORST:g} times" in found.note


def test_a_ruined_text_is_clipped_and_told() -> None:
    base, edited = texts(np.repeat([0.01, 5.0], [159, 1]))
    found = judged(Policy(perplexity_ratio=1.05), edited, base=base)
    assert found.estimate == pytest.approx(math.exp((159 * 0.01 + math.log(WORST)) / 160))
    assert found.note == "1 of 160 texts clipped to ±0.41 nats a token; not clipped 1.042"
    assert found.outcome == "PASS"
    wide = judged(Policy(perplexity_ratio=2.0), edited, base=base)
    assert wide.estimate == pytest.approx(math.exp((159 * 0.01 + 2 * math.log(2)) / 160))
    far = judged(Policy(perplexity_ratio=20.0), texts(4.0)[1], base=base)
    assert (far.outcome, far.note) == ("FAIL", ""), "the clip is beyond the limit"
    broken = texts(np.repeat([0.0, math.inf], [159, 1]))[1]
    for policy in (Policy(perplexity_ratio=1.05), Policy(fluency=0.9), Policy(worst_texts=0.03)):
        assert judged(policy, broken, base=base).outcome == "FAIL"


def test_the_hint_is_for_silence_alone() -> None:
    assert "silent is not erased" in Policy(removed=0.9).hint
    for policy in (
        Policy(removed=0.9, erased=0.5),
        Policy(removed=0.9, stays_erased=0.5),
        Policy(fluency=0.9),
        DEFAULT,
    ):
        assert policy.hint == ""
