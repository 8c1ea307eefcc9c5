"""Tests of change against scipy, statsmodels and brute force; their type-I errors by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from memsplit.results.statistics import significance


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_statsmodels(gained: int, lost: int) -> None:
    oracle = mcnemar([[7, gained], [lost, 5]], exact=True).pvalue
    assert significance.mcnemar(gained, lost) == pytest.approx(oracle, rel=1e-9)


@given(st.lists(st.integers(-3, 3), max_size=8))
def test_few_differences_are_flipped_in_every_way(gains: list[int]) -> None:
    """Tenths, so that sums that are equal in truth are not in floating point."""
    sums = [
        abs(sum(s * g for s, g in zip(signs, gains, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(gains))
    ]
    found = significance.sign_flip(np.array(gains) / 10, np.random.default_rng(0))
    assert found == pytest.approx(np.mean([s >= abs(sum(gains)) for s in sums]))


@pytest.mark.parametrize("shift", [0, 0.2, 0.5])
def test_many_differences_are_flipped_at_random(shift: float) -> None:
    gains = np.random.default_rng(2).normal(shift, 1, 45)
    found = significance.sign_flip(gains, np.random.default_rng(0))
    scipys = permutation_test((gains,), np.sum, permutation_type="samples", n_resamples=100_000, rng=1, batch=10_000)
    assert found == pytest.approx(scipys.pvalue, abs=4 * math.sqrt(0.25 / significance.FLIPS))
    assert found == significance.sign_flip(gains, np.random.default_rng(0))
    assert found == significance.sign_flip(-gains, np.random.default_rng(0))


def test_equal_differences_make_the_flips_mcnemars() -> None:
    gains = np.array([1.0] * 30 + [-1.0] * 14 + [0.0] * 50)
    found = significance.sign_flip(gains, np.random.default_rng(0))
    assert found == pytest.approx(significance.mcnemar(30, 14), abs=0.006)


@pytest.mark.parametrize(
    ("gains", "p"), [([], 1), ([0.0] * 40, 1), ([1.0], 1), ([1.0] * 6, 2 / 64), ([math.nan, 1.0], math.nan)]
)
def test_ends(gains: list[float], p: float) -> None:
    found = significance.sign_flip(np.array(gains), np.random.default_rng(0))
    assert found == pytest.approx(p, nan_ok=True)


def test_no_p_is_zero() -> None:
    assert significance.sign_flip(np.ones(100), np.random.default_rng(0)) == 1 / (significance.FLIPS + 1)


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.005], [0.5], [0.02, 0.02, 1.0], np.geomspace(1e-6, 0.9, 30)[::-1]])
def test_holm_equals_statsmodels(p: list[float]) -> None:
    assert significance.holm(p) == pytest.approx(multipletests(p, method="holm")[1])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_monotone_and_within_its_bounds(p: list[float]) -> None:
    found = significance.holm(p)
    assert all(a <= b <= min(1, len(p) * a) * (1 + 1e-12) for a, b in zip(p, found, strict=True))
    assert [b for _, b in sorted(zip(p, found, strict=True))] == sorted(found)
    with_nan = significance.holm([*p[:3], math.nan, *p[3:]])
    assert math.isnan(with_nan.pop(min(3, len(p))))
    assert with_nan == found


def test_type_i_error_of_mcnemar() -> None:
    """What changes, changes either way alike; the exact test stays at or below 5 %."""
    rng = np.random.default_rng(0)
    counts, times = np.unique(rng.multinomial(200, [0.07, 0.07, 0.86], size=4000)[:, :2], axis=0, return_counts=True)
    rejected = [significance.mcnemar(gained, lost) < 0.05 for gained, lost in counts.tolist()]
    assert 0.01 < np.average(rejected, weights=times) <= 0.05


@pytest.mark.parametrize(("clusters", "data_sets"), [(12, 1000), (40, 500)])
def test_type_i_error_of_sign_flips(clusters: int, data_sets: int) -> None:
    """Sums of clusters of unequal size whose items share a skewed part, alike on either side."""
    rng = np.random.default_rng(1)
    ps = []
    for _ in range(data_sets):
        size = rng.integers(1, 9, clusters)
        sides = rng.exponential(size=(2, clusters)) * size + rng.normal(size=(2, clusters)) * np.sqrt(size)
        ps.append(significance.sign_flip(sides[1] - sides[0], rng))
    assert 0.02 < np.mean(np.array(ps) < 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / data_sets)
