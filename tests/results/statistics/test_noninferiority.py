"""One-sided bounds: against closed forms, scipy and drawn weights; and how often they are wrong, by simulation."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import beta, binomtest, t, ttest_1samp, ttest_ind

from memsplit.results.statistics.noninferiority import MOST, p_not_above, times_needed, turn

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=12).map(np.array)
ALPHA, BELOW = 0.05, 0.0125


def lower_bound(x_c: np.ndarray, floor: float = -math.inf, alpha: float = 0.05) -> float:
    """The mean that the test of "it is at most that" comes to alpha at."""
    return -turn(lambda ease: p_not_above(x_c + ease, floor + ease) - alpha, -float(x_c.mean()), 1)


def upper_bound(x_c: np.ndarray, ceiling: float = math.inf, alpha: float = 0.05) -> float:
    return -lower_bound(-x_c, -ceiling, alpha)


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.05, 0.0125, 0.2]))
def test_on_zeros_and_ones_it_is_clopper_and_pearsons(n: int, share: float, alpha: float) -> None:
    k = round(n * share)
    x_c = np.repeat([1.0, 0.0], [k, n - k])
    low = binomtest(k, n, alternative="greater").proportion_ci(1 - alpha, "exact").low
    high = binomtest(k, n, alternative="less").proportion_ci(1 - alpha, "exact").high
    assert lower_bound(x_c, 0, alpha) == pytest.approx(low, abs=1e-8)
    assert upper_bound(x_c, 1, alpha) == pytest.approx(high, abs=1e-8)


@given(st.integers(1, 10**4), st.floats(-0.5, 1), st.floats(0.001, 0.4))
@settings(deadline=None, max_examples=30)
def test_where_all_agree_it_has_width(n: int, value: float, alpha: float) -> None:
    """The floor's weight is Beta(1, n)."""
    expected = value - (value + 1) * (1 - alpha ** (1 / n))
    assert lower_bound(np.full(n, value), -1, alpha) == pytest.approx(expected, abs=1e-8)


@given(st.integers(2, 10**6), st.floats(0, 1), st.floats(0.001, 0.4))
def test_two_values_and_a_floor_of_one_of_them_are_a_beta(n: int, share: float, alpha: float) -> None:
    k = min(max(round(n * share), 1), n - 1)
    p = p_not_above(np.array([3.0, -2.0]).repeat([k, n - k]), -2)
    assert p == pytest.approx(beta.cdf(0.4, k, n - k + 1), abs=2e-7)


@pytest.mark.parametrize(("n", "times"), [(4, 1), (4, 2.5), (30, 1), (30, 4)])
def test_it_is_the_quantile_of_drawn_weights(n: int, times: float) -> None:
    rng = np.random.default_rng(n)
    x_c = rng.beta(2, 0.5, n) - 0.4
    drawn = rng.dirichlet([*np.full(n, times), 1], 200_000) @ np.append(x_c, -0.4)
    assert p_not_above(x_c, -0.4, times) == pytest.approx((drawn <= 0).mean(), abs=0.004)
    if times == 1:
        assert (drawn <= lower_bound(x_c, -0.4)).mean() == pytest.approx(0.05, abs=0.002)


@given(SHARES, st.integers(2, 5))
def test_clusters_seen_k_times_are_k_times_as_many(x_c: np.ndarray, k: int) -> None:
    x_c = x_c - 0.5
    assert p_not_above(x_c, -0.5, k) == pytest.approx(p_not_above(np.repeat(x_c, k), -0.5), abs=1e-9)


@given(SHARES, st.floats(0.01, 0.4))
@example(np.array([0.0, 5.6e-219]), 0.05)  # whose squares are 0
def test_p_and_bound_are_one(x_c: np.ndarray, alpha: float) -> None:
    bound = lower_bound(x_c, 0, alpha)
    assume(1e-6 < bound < x_c.max() - 1e-6)
    assert p_not_above(x_c - bound, -bound) == pytest.approx(alpha, abs=1e-6)


@given(SHARES, st.data())
def test_the_bound_is_below_the_mean_and_rises_with_the_values(x_c: np.ndarray, data: st.DataObject) -> None:
    bound = lower_bound(x_c, 0)
    assert -1e-9 <= bound <= x_c.mean() + 1e-9 <= upper_bound(x_c, 1) + 2e-9
    risen = x_c + (1 - x_c) * data.draw(st.lists(st.floats(0, 1), min_size=len(x_c), max_size=len(x_c)).map(np.array))
    assert lower_bound(risen, 0) >= bound - 1e-9
    assert lower_bound(x_c, -0.5) <= bound + 1e-9
    assert lower_bound(x_c, 0, 0.01) <= bound + 1e-9


@given(SHARES)
@example(np.array([3.8e-209]))  # whose square is 0
@settings(max_examples=50)
def test_more_of_the_same_narrows(x_c: np.ndarray) -> None:
    widths = [upper_bound(np.repeat(x_c, k), 1) - lower_bound(np.repeat(x_c, k), 0) for k in (1, 3, 9)]
    assert widths[0] > widths[1] > widths[2]


def test_ends() -> None:
    assert lower_bound(np.zeros(5), 0) == pytest.approx(0, abs=1e-9)
    assert p_not_above(np.zeros(5), 0) == 1
    assert p_not_above(np.ones(5), 0.5) == 0
    assert p_not_above(np.full(10**5, 0.5), -1) == 0
    for x_c in (np.array([math.nan, 1]), np.array([-math.inf, 1])):
        assert p_not_above(x_c, 0) == p_not_above(x_c) == 1
        assert not math.isfinite(lower_bound(x_c, 0))
        assert times_needed(x_c, 0, 1, ALPHA, BELOW) is None
    assert p_not_above(np.array([3.0])) == 1
    assert lower_bound(np.array([3.0])) == -math.inf
    assert (p_not_above(np.ones(4)), p_not_above(-np.ones(4))) == (0, 1)
    assert lower_bound(np.ones(4)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("mean", [-0.3, 0.1, 0.6])
def test_without_skew_an_unbounded_mean_is_students(mean: float) -> None:
    half = np.random.default_rng(0).normal(size=15)
    x_c = np.concatenate([half, -half]) + mean
    assert p_not_above(x_c) == pytest.approx(ttest_1samp(x_c, 0, alternative="greater").pvalue, rel=1e-6)
    oracle = ttest_1samp(x_c, 0, alternative="greater").confidence_interval(0.95).low
    assert lower_bound(x_c) == pytest.approx(oracle)
    assert upper_bound(x_c, alpha=0.01) == pytest.approx(
        ttest_1samp(x_c, 0, alternative="less").confidence_interval(0.99).high
    )


@given(st.integers(0, 2**32), st.sampled_from([0.05, 0.01]))
def test_with_skew_p_and_bound_are_one_and_no_nearer(seed: int, alpha: float) -> None:
    x_c = 1 - np.random.default_rng(seed).exponential(size=25)
    for side in (x_c, -x_c):
        bound = lower_bound(side, alpha=alpha)
        assert p_not_above(side - bound) == pytest.approx(alpha, abs=1e-8)
        assert bound <= ttest_1samp(side, 0, alternative="greater").confidence_interval(1 - alpha).low + 1e-8


@pytest.mark.parametrize("n", [3, 12, 30])
def test_needed_where_all_agree(n: int) -> None:
    """0.1 above a floor of -1 is shown at alpha once 1 - alpha^(1/n) <= 0.1/1.1."""
    enough = math.log(0.05) / math.log(1 - 0.1 / 1.1)
    assert times_needed(np.full(n, 0.1), -1, 1, ALPHA, BELOW) == pytest.approx(enough / n)
    enough = math.log(0.0125) / math.log(1 - 0.1 / 1.1)
    assert times_needed(np.full(n, -0.1), -1, 1, ALPHA, BELOW) == pytest.approx(enough / n)


@pytest.mark.parametrize("floor", [-1, -math.inf])
def test_needed_settles_it_and_less_does_not(floor: float) -> None:
    x_c = np.random.default_rng(3).choice([0.05, -0.95], size=60, p=[0.97, 0.03])
    assert p_not_above(x_c, floor) > ALPHA
    times = times_needed(x_c, floor, -floor, ALPHA, BELOW)
    assert times is not None
    k = math.ceil(times)
    assert p_not_above(np.repeat(x_c, k), floor) <= ALPHA < p_not_above(np.repeat(x_c, k - 1), floor)


def test_needed_is_none_where_more_of_the_same_tells_nothing() -> None:
    assert times_needed(np.array([1.0, -1.0]), -1, 1, ALPHA, BELOW) is None
    assert times_needed(np.full(3000, 1e-9), -1, 1, ALPHA, BELOW) is None
    assert MOST == 1000


def churn(n: int, margin: float, both_ways: float) -> Callable[[np.random.Generator], np.ndarray]:
    ways = [both_ways / 2, both_ways / 2 + margin, 1 - both_ways - margin]
    return lambda rng: margin + rng.choice([1.0, -1.0, 0.0], n, p=ways)


def families(rng: np.random.Generator) -> np.ndarray:
    """Three of unequal size that lose 9, 3 and 0 %: 4 % on average, which is the margin."""
    sizes, lost = (40, 80, 160), (0.09, 0.03, 0.0)
    return np.concatenate([280 / (3 * n) * (0.04 - (rng.random(n) < p)) for n, p in zip(sizes, lost, strict=True)])


def clustered(rng: np.random.Generator) -> np.ndarray:
    """1 to 5 items a cluster, which tend to be lost together: 6 % on average, which is the margin."""
    size = rng.integers(1, 6, 200)
    return (0.06 * size - rng.binomial(size, rng.beta(0.18, 2.82, 200))) / 3


CLIP, LIMIT = math.log(1.5), math.log(1.05)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def nats(n: int, draw: Draw, limit: float = LIMIT) -> Callable[[np.random.Generator], np.ndarray]:
    """Changes of texts in nats a token, shifted so that the clipped ones are ``limit`` on average."""
    many = draw(np.random.default_rng(99), 400_000)
    shift = brentq(lambda by: np.clip(many + by, -CLIP, CLIP).mean() - limit, -1, 1)
    return lambda rng: limit - np.clip(draw(rng, n) + shift, -CLIP, CLIP)


def ruined(rng: np.random.Generator, n: int) -> np.ndarray:
    """One text in a hundred is ruined."""
    return np.where(rng.random(n) < 0.01, 5.0, rng.normal(0, 0.02, n))


def memory(n: int, share: float, recited: float) -> Callable[[np.random.Generator], np.ndarray]:
    """Twins and passages in bits, 1 - ``share`` of the base's memory left: part of it by passages that are still recited."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        unseen = rng.normal(5, 0.3, (2, n))
        base = np.array([unseen[0] + rng.normal(0, 0.1, n), np.full(n, 0.01)])
        left = ((1 - share) * 4.99 - recited * 4.95) / (1 - recited)
        passages = np.where(
            rng.random(n) < recited, 0.05, unseen[1] - left * rng.exponential(size=n) + rng.normal(0, 0.3, n)
        )
        edited = np.array([unseen[0] + rng.normal(0, 0.3, n), passages]) + 0.3
        floor = unseen + rng.normal(0, 0.3, (2, n))
        x = (1 - share) * (base - unseen) - (edited - floor)
        return np.concatenate([x[0], -x[1]]) * 2

    return draw


def scar(n: int, share: float, dug: float) -> Callable[[np.random.Generator], np.ndarray]:
    """Twins and passages in bits, these less likely than unseen by ``share`` of the memory: only those that are ``dug``."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        unseen = rng.normal(5, 0.3, (2, n))
        base = np.array([unseen[0] + rng.normal(0, 0.1, n), np.full(n, 0.01)])
        deep = (rng.random(n) < dug) * rng.exponential(share * 4.99 / dug, n)
        edited = unseen + rng.normal(0, 0.3, (2, n)) + np.array([np.zeros(n), deep])
        x = share * (base - unseen) + (edited - unseen)
        return np.concatenate([x[0], -x[1]]) * 2

    return draw


ENDS, OPEN = (LIMIT - CLIP, LIMIT + CLIP), (-math.inf, math.inf)
AT_THE_LIMIT = {
    "churn 50": (churn(50, 0.1, 0.1), -0.9, 1.1),
    "loss alone 240": (churn(240, 0.03, 0), -0.97, 1.03),
    "churn 240": (churn(240, 0.03, 0.2), -0.97, 1.03),
    "churn 750": (churn(750, 0.02, 0.05), -0.98, 1.02),
    "removed 90 % of 120": (lambda rng: 0.1 - (rng.random(120) < 0.1), -0.9, 0.1),
    "families": (families, -0.96 * 7 / 3, 1.04 * 7 / 3),
    "clustered": (clustered, -0.94 * 5 / 3, 1.06 * 5 / 3),
    "graded": (lambda rng: 0.1 - rng.beta(0.2, 1.8, 60), -0.9, 0.1),
    "texts, exponential, 160": (nats(160, lambda rng, n: rng.exponential(0.05, n)), *ENDS),
    "texts, log-normal, 160": (nats(160, lambda rng, n: 0.03 * rng.lognormal(0, 1, n)), *ENDS),
    "texts, one in 100 ruined, 160": (nats(160, ruined), *ENDS),
    "texts, one in 100 ruined, 40": (nats(40, ruined), *ENDS),
    "texts, ruined ones alone, 160": (lambda rng: LIMIT - CLIP * (rng.random(160) < LIMIT / CLIP), *ENDS),
    "texts, ruined ones alone, 40": (lambda rng: LIMIT - CLIP * (rng.random(40) < LIMIT / CLIP), *ENDS),
    "3 % of 160 texts are the worst": (lambda rng: 0.03 - (rng.random(160) < 0.03), -0.97, 0.03),
    "memory, half is left, 120 and 120": (memory(120, 0.5, 0.2), *OPEN),
    "memory, half is left, 40 and 40": (memory(40, 0.5, 0.2), *OPEN),
    "memory, half is left as whole passages, 40 and 40": (memory(40, 0.5, 0.49), *OPEN),
    "memory, 10 % is left, half of it as whole passages, 120 and 120": (memory(120, 0.9, 0.05), *OPEN),
    "memory, a scar of a quarter, 120 and 120": (scar(120, 0.25, 1.0), *OPEN),
    "memory, a scar of a quarter on a third of the passages, 120 and 120": (scar(120, 0.25, 1 / 3), *OPEN),
}
SLOW = ("graded", "texts, exponential, 160", "texts, log-normal, 160", "texts, one in 100 ruined, 160")


@pytest.mark.parametrize("case", AT_THE_LIMIT)
def test_errors_at_the_limit_itself(case: str) -> None:
    """The true mean is 0: the worst case of either error. 3 standard errors of the simulation are allowed."""
    draw, floor, ceiling = AT_THE_LIMIT[case]
    rng = np.random.default_rng(0)
    samples = [draw(rng) for _ in range(500 if case in SLOW else 2000)]
    parts = np.repeat([0, 1], len(samples[0]) // 2) if case.startswith("memory") else None
    passed = np.mean([p_not_above(x_c, floor, part_c=parts) <= ALPHA for x_c in samples])
    failed = np.mean([p_not_above(-x_c, -ceiling, part_c=parts) <= BELOW for x_c in samples])
    print(f"{case}: passed {passed:.4f}, failed {failed:.4f} of {len(samples)}")
    assert passed <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / len(samples))
    assert failed <= BELOW + 3 * math.sqrt(BELOW * (1 - BELOW) / len(samples))


def test_whole_passages_that_are_rare_are_missed_too_often() -> None:
    """The known limit of what is unbounded: 3 % of 40 passages recited again, all else erased, and a limit of 0.97."""
    rng, draw = np.random.default_rng(0), memory(40, 0.97, 0.0298)
    passed = np.mean([p_not_above(draw(rng), part_c=np.repeat([0, 1], 40)) <= ALPHA for _ in range(1000)])
    print(f"memory, 3 % left as whole passages: passed {passed:.4f}")
    assert 0.05 < passed < 0.2


def test_of_two_samples_it_is_welchs() -> None:
    """Without skewness: of samples that are unequal in size, spread and mean, against scipy."""
    rng = np.random.default_rng(0)
    halves = rng.normal(0, 1, 15), rng.normal(0, 4, 5)
    more, less = (np.concatenate([half, -half]) + mean for half, mean in zip(halves, (7.0, 5.4), strict=True))
    x_c = np.concatenate([more / len(more), -less / len(less)]) * 40
    part_c = np.repeat([0, 1], [len(more), len(less)])
    oracle = ttest_ind(more, less, equal_var=False, alternative="greater").pvalue
    assert 0.01 < oracle < 0.2
    assert p_not_above(x_c, part_c=part_c) == pytest.approx(oracle)
    assert p_not_above(x_c[::-1], part_c=part_c[::-1]) == pytest.approx(oracle)
    thrice = np.array([side.var(ddof=1) / (3 * len(side)) for side in (more, less)])
    freedom = thrice.sum() ** 2 / (thrice**2 / [3 * len(side) - 1 for side in (more, less)]).sum()
    expected = t.sf((more.mean() - less.mean()) / math.sqrt(thrice.sum()), freedom)
    assert p_not_above(x_c, times=3, part_c=part_c) == pytest.approx(expected)
    assert p_not_above(x_c[:31], part_c=part_c[:31]) == 1, "one value has no spread"


def test_the_bound_is_not_idle() -> None:
    """Where the truth is well on one side, most samples settle it."""
    rng = np.random.default_rng(0)
    good = [churn(240, 0.005, 0.02)(rng) + 0.045 for _ in range(300)]
    bad = [churn(240, 0.15, 0.02)(rng) - 0.1 for _ in range(300)]
    assert np.mean([p_not_above(x_c, -0.95) <= ALPHA for x_c in good]) > 0.9
    assert np.mean([p_not_above(-x_c, -1.05) <= BELOW for x_c in bad]) > 0.9
