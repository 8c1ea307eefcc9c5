"""Several draws of one edit: their mean, and an interval over items and draws."""

from pathlib import Path

import numpy as np
import pytest

from memsplit.results.records.store import Store
from memsplit.results.statistics import draws
from memsplit.results.statistics.paired import Paired
from memsplit.results.statistics.resampling import RESAMPLES

PUBLISHED = Path(__file__).parents[3] / "results" / "published" / "records"


def constant(value: float) -> dict[str, np.ndarray]:
    return {"x": np.full(1 + RESAMPLES, value)}


def test_one_draw_is_itself() -> None:
    alone = {"x": np.random.default_rng(0).random(1 + RESAMPLES)}
    assert (draws.together([alone], 0, "kfac")["x"] == alone["x"]).all()


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_variance_over_draws_is_that_of_a_mean_of_so_many(n: int) -> None:
    values = np.random.default_rng(n).normal(0, 1, n)
    found = draws.together([constant(value) for value in values], 0, "kfac")["x"]
    assert found[0] == pytest.approx(values.mean())
    assert found[1:].mean() == pytest.approx(values.mean(), abs=0.1)
    assert found[1:].var() == pytest.approx(values.var(ddof=1) / n, rel=0.15)  # (n - 1) / n of it is 0.5 to 0.8


def test_items_and_draws_vary_together() -> None:
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.5, 1 + RESAMPLES)  # of the items, for all draws alike
    values = rng.normal(0, 1, 4)
    found = draws.together([{"x": value + luck} for value in values], 0, "kfac")["x"]
    assert found[1:].var() == pytest.approx(0.25 + values.var(ddof=1) / 4, rel=0.15)
    assert np.corrcoef(found[1:], luck[1:])[0, 1] > 0.5  # so that a paired difference takes the items' part away


def test_draws_of_two_edits_are_drawn_apart_and_always_the_same() -> None:
    given = [constant(value) for value in range(3)]
    one, other = (draws.together(given, 0, name)["x"][1:] for name in ("kfac", "bsn"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1
    assert (one == draws.together(given, 0, "kfac")["x"][1:]).all()


def test_what_a_draw_lacks_or_cannot_say() -> None:
    endless, missing = np.full(1 + RESAMPLES, np.inf), np.full(1 + RESAMPLES, np.nan)
    both = draws.together([{"x": endless, "y": missing, "z": missing}, {**constant(1.0), "y": missing + 1}], 0, "kfac")
    assert both.keys() == {"x", "y"}
    assert both["x"][0] == np.inf
    assert set(both["x"][1:]) == {np.inf, 1.0}  # of two draws a resample has one
    assert np.isnan(both["y"]).all()


def test_the_figures_of_a_record_are_those_of_all_its_items() -> None:
    record = Store(PUBLISHED).records()[0]
    found, whole = draws.of_record(record, 3), Paired.of(record, 3).summary_replicates()
    assert found.keys() == whole.keys()
    for name, replicates in whole.items():
        assert found[name] == pytest.approx(replicates, rel=1e-12, nan_ok=True), name
