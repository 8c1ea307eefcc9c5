"""The frontier against brute force, the choice by its rules, and one edit's lead over another against scipy."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from memsplit.results.records.schema import Interval
from memsplit.results.records.tables import ITEMS
from memsplit.results.statistics import selection
from memsplit.results.statistics.paired import SPLIT_SCORE, Paired
from memsplit.results.statistics.selection import Bounds, Row, choose
from memsplit.results.views import sweep_charts


def row(spec: str, split: float = 0.9, ratio: float = 1.0, **given: float) -> Row:
    """A row; what is not given is 1."""
    ones = dict.fromkeys(("recitation_removed", "logic_kept", *SPLIT_SCORE), 1.0)
    figures = {**ones, **given, "split_score": split, "perplexity_ratio": ratio}
    removed, dial = figures.pop("removed", 0.5), figures.pop("dial", 0.0)
    return Row(
        spec=spec,
        path=Path(),
        summary={name: Interval(value=value, low=value, high=value) for name, value in figures.items()},
        control=spec.startswith("random"),
        removed=removed,
        dials=(dial,),
        seconds=1.0,
    )


figures = st.sampled_from([0.0, 0.5, 0.8, 0.9, 1.0, 1.1, math.nan])


@given(st.lists(st.tuples(figures, figures, figures), max_size=12))
def test_the_frontier_is_what_brute_force_finds(points: list[tuple[float, float, float]]) -> None:
    rows = [row("a", net_erased=m, reasoning_kept=k, fluency_kept=f) for m, k, f in points]

    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        pairs = list(zip(a, b, strict=True))
        return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)

    expected = [not any(map(math.isnan, p)) and not any(beats(q, p) for q in points) for p in points]
    assert selection.pareto_front(rows) == expected


def chosen(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch, bounds: Bounds, **leads: float
) -> tuple[str | None, set[str]]:
    """The choice, and what it ties with, where the best leads others by so much in every resample."""
    monkeypatch.setattr(Row, "replicates", lambda self: {"split_score": np.full(50, -leads.get(self.spec, 0.0))})
    found = choose(rows, bounds)
    return (found.row.spec if found.row else None), set(found.tied)


def test_the_highest_within_the_bounds_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("a", 0.9), row("b", 0.95, 1.2), row("random", 0.99), row("c", 0.8, arithmetic_kept=0.99)]
    assert chosen(rows, monkeypatch, Bounds(max_perplexity_ratio=1.05)) == ("a", {"a"})
    assert chosen(rows, monkeypatch, Bounds(max_perplexity_ratio=1.3)) == ("b", {"b"})
    assert chosen(rows, monkeypatch, Bounds(max_perplexity_ratio=1.05, min_kept={"arithmetic": 0.9})) == ("c", {"c"})
    assert chosen(rows, monkeypatch, Bounds(max_perplexity_ratio=1.05, min_kept={"facts_open": 0.9})) == (None, set())
    assert "the nearest is b, with perplexity ratio 1.200" in choose(rows[1:2], Bounds(max_perplexity_ratio=1.05)).why
    assert choose([], Bounds(max_perplexity_ratio=1.05)).row is None


def test_ties_go_to_the_lower_perplexity_then_to_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        row("a", 0.99, 1.04),
        row("b", 0.98, 1.012),
        row("c", 0.975, 1.008, arithmetic_kept=0.5),
        row("d", 0.9, 0.9),
    ]
    assert chosen(rows, monkeypatch, Bounds(max_perplexity_ratio=1.05)) == ("b", {"a", "b", "c"})
    assert chosen(rows, monkeypatch, Bounds(max_perplexity_ratio=1.05), b=0.001) == ("c", {"a", "c"})
    assert chosen(rows, monkeypatch, Bounds(max_perplexity_ratio=1.05), b=0.001, c=0.001) == ("a", {"a"})


def test_what_silence_alone_would_have_chosen_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row("erases", 0.9, recitation_removed=0.8), row("hides", 0.1, stays_erased=0.05), row("random", 0.99)]
    monkeypatch.setattr(Row, "replicates", lambda self: {"split_score": np.zeros(50)})
    found = choose(rows, Bounds())
    assert (found.row.spec if found.row else None, found.silent) == ("erases", "hides")
    assert choose([row("a", recitation_removed=math.nan)], Bounds()).silent == "a"
    assert choose(rows, Bounds(max_perplexity_ratio=0.5)).silent is None


def test_a_figure_that_is_not_known_is_out_of_bounds() -> None:
    assert not Bounds().hold(row("a", ratio=math.nan))
    assert not Bounds().hold(row("a", ratio=math.inf))
    assert Bounds(max_perplexity_ratio=1.0).hold(row("a"))


def test_what_is_kept_of_all_axes_is_their_clipped_mean() -> None:
    assert row("a", logic_kept=1.2, arithmetic_kept=0.5, facts_open_kept=-0.1).kept == pytest.approx(0.5)
    assert math.isnan(row("a", logic_kept=math.nan).kept)


def test_curves_are_of_specs_that_differ_in_the_dial_alone() -> None:
    rows = [
        row("a:proj=up"),
        row("a:proj=up@0.5", dial=0.5, recitation_removed=0.4),
        row("b"),
        row("c@0.25+d@0.25", dial=0.25),
    ]
    assert rows[3].curve == ("c+d", 0.25)
    found = sweep_charts.dials(rows)
    assert set(found["edit"]) == {"a:proj=up"}
    left = found[found["figure"] == "recitation left"].set_index("dial")["value"]
    assert left.to_dict() == pytest.approx({0.0: 0.0, 0.5: 0.6})


def test_the_charts_say_what_each_edit_is() -> None:
    rows = [
        row("a"),
        row("b", ratio=2.1),
        row("random"),
        row("k", 0.5, recitation_removed=0.9),
        row("z", ratio=math.inf),
    ]
    found = sweep_charts.table(rows, Bounds(), "a", "k").set_index("spec")["state"]
    states = {"a": "chosen", "b": "out of bounds", "random": "control", "k": "baseline", "z": "out of bounds"}
    assert found.to_dict() == states
    figure = sweep_charts.pareto_figure(sweep_charts.table(rows, Bounds(), "a", "k"), Bounds())
    assert figure.picture()["concat"][0]["encoding"]["x"]["field"] == "net erased"


def items(values: np.ndarray) -> pd.DataFrame:
    lines = [("t", "recitation", "strict", i, float(v), 1.0, str(i), "") for i, v in enumerate(values)]
    return pd.DataFrame(lines, columns=ITEMS)


def test_a_lead_is_the_paired_difference_of_two_edits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first = (rng.random(200) < 0.1).astype(float)
    second = np.where(rng.random(200) < 0.15, 1.0, first)
    edited = {"a": items(first), "b": items(second)}
    monkeypatch.setattr(
        Row, "replicates", lambda self: Paired(items(np.ones(200)), edited[self.spec], {}).summary_replicates()
    )
    found = selection.paired_difference(row("a"), row("b"))["recitation_removed"]
    assert found.value == pytest.approx(second.mean() - first.mean())
    told = bootstrap((second - first,), np.mean, n_resamples=5000, method="percentile", rng=rng).confidence_interval
    assert (found.low, found.high) == pytest.approx((told.low, told.high), abs=0.01)
    same = selection.paired_difference(row("a"), row("a"))["recitation_removed"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
