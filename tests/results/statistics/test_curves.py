"""What is read off a method's curve: against numpy's interpolation, resample by resample, and by hand."""

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
        for name, value in (("net_erased", erased), ("reasoning_kept", kept))
    }


def curve(*points: tuple[np.ndarray | float, np.ndarray | float]) -> Curve:
    found = Curve.through(strength(*point) for point in points)
    assert found is not None
    return found


@settings(max_examples=50)
@given(st.dictionaries(SHARE, SHARE, min_size=1, max_size=6), st.floats(0, 1.3))
def test_between_strengths_it_is_a_straight_line_from_the_base_on(points: dict[float, float], at: float) -> None:
    found = curve(*points.items()).kept_at(at)[0]
    xs = sorted({0.0: 1.0, **points})
    if at > xs[-1]:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(np.interp(at, xs, [{0.0: 1.0, **points}[x] for x in xs]), abs=1e-9)


def test_every_resample_sorts_its_own_points_and_is_read_off_by_itself() -> None:
    rng = np.random.default_rng(0)
    erased, kept = rng.normal(0.6, 0.3, (5, 1 + RESAMPLES)), rng.random((5, 1 + RESAMPLES))
    at = rng.random(1 + RESAMPLES)
    found = curve(*zip(erased, kept, strict=True)).kept_at(at)
    assert np.isnan(found).any()
    for b in range(0, 1 + RESAMPLES, 7):
        xs, ys = np.append(0, erased[:, b]), np.append(1, kept[:, b])
        order = np.argsort(xs)
        expected = np.interp(at[b], xs[order], ys[order], right=np.nan)
        assert found[b] == pytest.approx(expected, nan_ok=True)


def test_of_equal_points_the_one_that_keeps_more_is_reached_first() -> None:
    both = curve((0.5, 0.4), (0.5, 0.8), (1.0, 0.0))
    assert both.kept_at(0.5)[0] == pytest.approx(0.8)
    assert both.kept_at(0.25)[0] == pytest.approx(0.9)
    assert both.kept_at(0.75)[0] == pytest.approx(0.2)


def test_a_strength_that_adds_memory_stands_before_the_base() -> None:
    found = curve((-0.5, 0.9), (0.5, 0.5))
    assert found.kept_at(0.25)[0] == pytest.approx(0.75)
    assert found.kept_at(-0.25)[0] == pytest.approx(0.95)
    assert np.isnan(found.kept_at(-0.6)[0])


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
