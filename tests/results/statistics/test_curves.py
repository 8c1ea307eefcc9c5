"""What is read off a method's curve: against numpy's interpolation, resample by resample, and by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memsplit.results.statistics import curves
from memsplit.results.statistics.curves import Curve
from memsplit.results.statistics.resampling import RESAMPLES

SHARE = st.floats(0.01, 1.2)


def strength(erased: np.ndarray | float, kept: np.ndarray | float) -> dict[str, np.ndarray]:
    """Replicates of a strength; a number is the same in every resample."""
    return {
        name: np.broadcast_to(np.asarray(value, float), (1 + RESAMPLES,))
        for name, value in (("stays_erased", erased), ("reasoning_kept", kept))
    }


def curve(*points: tuple[np.ndarray | float, np.ndarray | float]) -> Curve:
    found = Curve.through(strength(*point) for point in points)
    assert found is not None
    return found


def expected(points: Sequence[tuple[float, float]], at: float) -> float:
    """Between the points of the front, found by brute force, a straight line."""
    every = {(0.0, 1.0), *points}
    front = sorted((x, y) for x, y in every if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in every))
    return float(np.interp(at, *zip(*front, strict=True), right=np.nan))


@settings(max_examples=100)
@given(st.lists(st.tuples(SHARE, SHARE), min_size=1, max_size=6), st.floats(-0.2, 1.3))
def test_it_is_a_straight_line_between_the_strengths_of_the_front(points: list[tuple[float, float]], at: float) -> None:
    assert curve(*points).kept_at(at)[0] == pytest.approx(expected(points, at), abs=1e-9, nan_ok=True)


def test_every_resample_has_its_own_front_and_is_read_off_by_itself() -> None:
    rng = np.random.default_rng(0)
    erased, kept = rng.normal(0.6, 0.3, (5, 1 + RESAMPLES)), rng.random((5, 1 + RESAMPLES))
    at = rng.random(1 + RESAMPLES)
    found = curve(*zip(erased, kept, strict=True)).kept_at(at)
    assert np.isnan(found).any()
    for b in range(0, 1 + RESAMPLES, 7):
        points = list(zip(erased[:, b], kept[:, b], strict=True))
        assert found[b] == pytest.approx(expected(points, at[b]), nan_ok=True)


def test_of_equal_points_the_one_that_keeps_more_counts() -> None:
    both = curve((0.5, 0.4), (0.5, 0.8), (1.0, 0.0))
    assert both.kept_at(0.5)[0] == pytest.approx(0.8)
    assert both.kept_at(0.25)[0] == pytest.approx(0.9)
    assert both.kept_at(0.75)[0] == pytest.approx(0.4)


def test_strengths_that_another_is_better_than_in_both_are_passed_over() -> None:
    found = curve((-0.5, 0.9), (0.4, 0.7), (0.6, 0.2), (0.8, 0.5))
    assert found.kept_at(-0.25)[0] == 1
    assert found.kept_at(0.6)[0] == pytest.approx(0.6)


def test_a_scar_takes_the_place_of_what_stays_erased_where_it_leaves_less() -> None:
    scarred = {**strength(0.9, 0.8), "scar": np.full(1 + RESAMPLES, 0.7)}
    scarred["scar"][1:] = 0.05
    found = Curve.through([scarred])
    assert found is not None
    assert (found.most[0], found.most[1]) == pytest.approx((0.3, 0.9))
    assert curves.counted(scarred)[0] == pytest.approx(0.3)


def test_without_a_known_point_there_is_no_curve() -> None:
    assert Curve.through([]) is None
    assert Curve.through([{"reasoning_kept": np.ones(1 + RESAMPLES)}, strength(np.nan, 1.0)]) is None
    found = Curve.through([strength(np.nan, 1.0), strength(0.5, 0.5)])
    assert found is not None
    assert found.most[0] == 0.5


def test_a_lead_is_read_off_both_curves_at_what_stays_erased() -> None:
    method, control = curve((0.5, 0.75), (1.0, 0.5)), curve((0.25, 0.75), (0.5, 0.5))  # 1 - x/2, and 1 - x
    for erased, expected in ((0.4, 0.2), (0.5, 0.25), (0.9, 0.25)):  # the control ends at 0.5
        lead = curves.lead(method, control, np.full(1 + RESAMPLES, erased))
        assert lead == pytest.approx(np.full(1 + RESAMPLES, expected))


def test_a_lead_is_paired() -> None:
    luck = np.random.default_rng(1).normal(0, 0.1, 1 + RESAMPLES)  # of the items, the same for both
    luck[0] = 0
    method, control = curve((0.5, 0.8 + luck), (1.0, 0.6 + luck)), curve((0.5, 0.5 + luck), (1.0, 0.3 + luck))
    lead = curves.read_off(curves.lead(method, control, np.full(1 + RESAMPLES, 0.75)))
    assert (lead.value, lead.low, lead.high) == pytest.approx((0.3, 0.3, 0.3))
    assert np.std(method.kept_at(0.75)) > 0.05


@pytest.mark.parametrize(("unreached", "has_interval"), [(0, True), (99, True), (101, False), (RESAMPLES, False)])
def test_no_interval_where_over_5_percent_of_resamples_do_not_get_so_far(unreached: int, has_interval: bool) -> None:
    erased = np.full(1 + RESAMPLES, 0.95)
    erased[1 : 1 + unreached] = 0.85
    found = curves.read_off(curve((erased, 0.5)).kept_at(0.9))
    assert found.value == pytest.approx(1 - 0.5 * 0.9 / 0.95)
    assert np.isfinite([found.low, found.high]).all() == has_interval


def test_what_the_sample_does_not_reach_has_no_value() -> None:
    found = curves.read_off(curve((np.r_[0.85, np.full(RESAMPLES, 0.95)], 0.5)).kept_at(0.9))
    assert np.isnan([found.value, found.low, found.high]).all()
