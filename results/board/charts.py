"""The leaderboard page's charts, as Vega-Lite: recitation against logic, and what is left of each axis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import altair as alt

from ..records.axes import RECITATION
from ..records.schema import Interval
from ..views.format import bounded, significant
from ..views.html_report import ACCENT, INK, MUTED, themed
from .table import Board, BoardRow

SHAPES = {"base": "square", "edit": "circle", "control": "diamond"}
SCORES = (0.5, 0.7, 0.9)
"""Split scores of which the Pareto chart has a line."""
ROW = 18
"""Height of a bar in pixels."""
HIDDEN = "indexof(hidden, datum.edit) >= 0"
"""Whether the page's filters leave an edit out; ``hidden`` is a parameter of each chart."""


def pareto_front(board: Board) -> dict[str, Any] | None:
    """Recitation removed against logic kept, coloured by perplexity; ``None`` where no edit has both."""
    points = [point for row in board.rows if (point := _point(row))]
    if all(point["kind"] == "base" for point in points):
        return None
    lowest = min([0.0, *_finite(point["y_low"] for point in points)])
    highest = max([1.1, *_finite(point["y_high"] for point in points)])
    leftmost = min(0.0, *(point["x"] for point in points))
    for point in points:
        point["x_low"], point["x_high"] = _ends(point["x"], point["x_low"], point["x_high"], (leftmost, 1.02))
        point["y_low"], point["y_high"] = _ends(point["y"], point["y_low"], point["y_high"], (lowest, highest))
    axis = alt.Axis(tickCount=6)
    x = alt.X("x:Q", title="recitation removed", scale=alt.Scale(domain=[leftmost, 1.02], nice=False), axis=axis)
    y = alt.Y("y:Q", title="logic kept", scale=alt.Scale(domain=[lowest, highest], nice=False), axis=axis)
    ratios = [point["perplexity"] for point in points if point["perplexity"]]
    scale = alt.Scale(type="log", scheme=alt.SchemeParams(name="viridis", extent=[0.95, 0.1]))
    if ratios and min(ratios) == max(ratios):
        scale.domain = [min(ratios) / 1.1, max(ratios) * 1.1]
    colour = alt.Color(
        "perplexity:Q",
        title="perplexity ratio",
        scale=scale,
        legend=alt.Legend(
            orient="bottom", gradientLength=160, gradientThickness=8, titleLimit=200, tickCount=3, format=".3~g"
        ),
    )
    faint = alt.when(HIDDEN).then(alt.value(0.08)).otherwise(alt.value(1))
    marks = alt.Chart(alt.NamedData("points"))
    tooltip = [alt.Tooltip(f"{name}:N", title=title) for name, title in _TOOLTIP.items()]
    layers = [
        _scores(x, y),
        marks.mark_rule(color=MUTED, strokeWidth=1, aria=False).encode(
            x=alt.X("x_low:Q"), x2="x_high:Q", y=y, opacity=faint
        ),
        marks.mark_rule(color=MUTED, strokeWidth=1, aria=False).encode(
            x=x, y=alt.Y("y_low:Q"), y2="y_high:Q", opacity=faint
        ),
        marks.mark_point(invalid=None, size=90, filled=True, stroke=INK, strokeWidth=1, opacity=1).encode(
            x=x,
            y=y,
            color=alt.when("datum.perplexity === null").then(alt.value(MUTED)).otherwise(colour),
            shape=alt.Shape(
                "kind:N",
                title=None,
                scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())),
                legend=alt.Legend(orient="top", symbolFillColor=MUTED, symbolStrokeColor=INK, symbolSize=80),
            ),
            opacity=faint,
            tooltip=tooltip,
            description="told:N",
        ),
        _names(x, y, faint),
    ]
    chart = alt.layer(*layers).add_params(alt.param(name="hidden", value=[]))
    description = f"Recitation removed against logic kept. {_summary(board)}"
    return _finished(
        chart.properties(height=380), description, points=points, scores=_score_lines(), named=_named(points)
    )


def bars(board: Board) -> list[tuple[str, dict[str, Any]]]:
    """Title and chart of each axis: what each edit leaves of it (1: as much as the base has); then perplexity ratio."""
    axes = list(dict.fromkeys(axis for row in board.rows for axis in row.axes))
    charts = []
    for axis in axes:
        title = axis.replace("_", " ") + (" left" if axis == RECITATION else " kept")
        of_axis = [(row, row.axes[axis]) for row in board.rows if axis in row.axes]
        charts.append((title, _bars(title, of_axis, logarithmic=False)))
    ratios = [(row, cell) for row in board.rows if isinstance(cell := row.cells.get("perplexity_ratio"), Interval)]
    if any(math.isfinite(ratio.value) for _, ratio in ratios):
        charts.append(("perplexity ratio", _bars("perplexity ratio", ratios, logarithmic=True)))
    return charts


_TOOLTIP = {
    "edit": "edit",
    "rank": "rank",
    "x_shown": "recitation removed",
    "y_shown": "logic kept",
    "score": "split score",
    "ratio": "perplexity ratio",
}


def _point(row: BoardRow) -> dict[str, Any] | None:
    one = Interval(value=1.0, low=1.0, high=1.0)
    zero = Interval(value=0.0, low=0.0, high=0.0)
    by_definition = {"recitation_removed": zero, "logic_kept": one, "perplexity_ratio": one}
    cells = by_definition if row.kind == "base" else row.cells
    x, y, ratio = (cells.get(name) for name in by_definition)
    if not (isinstance(x, Interval) and isinstance(y, Interval) and math.isfinite(x.value + y.value)):
        return None
    perplexity = ratio.value if isinstance(ratio, Interval) and math.isfinite(ratio.value) else None
    rank, score = str(row.rank or "-"), significant(row.score().value)
    point = {"edit": row.spec, "kind": row.kind, "rank": rank, "score": score, "perplexity": perplexity}
    for name, interval in (("x", x), ("y", y)):
        point |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        point[f"{name}_shown"] = bounded(interval)
    point["ratio"] = "-" if perplexity is None else significant(perplexity)
    point["told"] = "; ".join(f"{title} {point[name]}" for name, title in _TOOLTIP.items())
    return point


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _ends(value: float, low: float, high: float, domain: tuple[float, float]) -> tuple[float, float]:
    """Where an interval is drawn: to the chart's edge where it is infinite, at the value alone where it is nan."""
    if math.isnan(low) or math.isnan(high):
        return value, value
    return low if math.isfinite(low) else domain[0], high if math.isfinite(high) else domain[1]


def _score_lines() -> list[dict[str, Any]]:
    """Points of equal split score s: y = s x / (2 x - s)."""
    lines = []
    for score in SCORES:
        start = score / (2 - score)
        xs = [start + (1 - start) * i / 40 for i in range(41)]
        lines += [{"x": at, "y": score * at / (2 * at - score), "line": f"split score {score}"} for at in xs]
    return lines


def _scores(x: Any, y: Any) -> Any:
    """Lines of equal split score, named at x = 1."""
    chart = alt.Chart(alt.NamedData("scores"))
    curve = chart.mark_line(color=MUTED, strokeWidth=1, strokeDash=[2, 4], opacity=0.6, aria=False, clip=True)
    name = chart.mark_text(align="right", dy=9, dx=-2, color=MUTED, fontSize=10, aria=False)
    curves = curve.encode(x=x, y=y, detail="line:N")
    return alt.layer(curves, name.encode(x=x, y=y, text="line:N").transform_filter("datum.x > 0.9999"))


def _named(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best points, as many as have room for their names beside them."""
    named: list[dict[str, Any]] = []
    for point in points:
        if all(abs(point["y"] - other["y"]) > 0.06 or abs(point["x"] - other["x"]) > 0.4 for other in named):
            name = point["edit"].split(":")[0]
            named.append({**point, "name": name if len(name) <= 22 else name[:21] + "…"})
    return named


def _names(x: Any, y: Any, faint: Any) -> Any:
    layers = []
    for test, align, dx in (("datum.x < 0.5", "left", 9), ("datum.x >= 0.5", "right", -9)):
        chart = alt.Chart(alt.NamedData("named")).transform_filter(test)
        mark = chart.mark_text(align=align, dx=dx, dy=-9, fontSize=11, color=INK, aria=False)
        layers.append(mark.encode(x=x, y=y, text="name:N", opacity=faint))
    return alt.layer(*layers)


def _bars(title: str, of_axis: list[tuple[BoardRow, Interval]], *, logarithmic: bool) -> dict[str, Any]:
    known = [pair for pair in of_axis if math.isfinite(pair[1].value) and (pair[1].value > 0 or not logarithmic)]
    ends = _finite(end for _, interval in known for end in (interval.low, interval.high) if end > 0 or not logarithmic)
    low, high = min([1.0 if logarithmic else 0.0, *ends]), max([1.05, *ends])
    drawn_ends = [_ends(interval.value, interval.low, interval.high, (low, high)) for _, interval in known]
    bars = [
        {
            "edit": row.spec,
            "kind": row.kind,
            "value": interval.value,
            "low": start,
            "high": end,
            "shown": significant(interval.value),
            "told": f"{row.spec}: {title} {bounded(interval)}",
        }
        for (row, interval), (start, end) in zip(known, drawn_ends, strict=True)
    ]
    order = [bar["edit"] for bar in bars]
    kind = "log" if logarithmic else "linear"
    scale = alt.Scale(type=kind, domain=[low, high], nice=False)
    x = alt.X("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5))
    y = alt.Y("edit:N", title=None, sort=order, axis=alt.Axis(labelLimit=150, ticks=False, domain=False))
    faint = alt.when(HIDDEN).then(alt.value(0.12)).otherwise(alt.value(1))
    chart = alt.Chart(alt.NamedData("rows"))
    fill = alt.when("datum.kind == 'control'").then(alt.value(MUTED)).otherwise(alt.value(ACCENT))
    words = {"tooltip": [alt.Tooltip("told:N", title=title)], "description": "told:N"}
    layers = [
        chart.mark_bar(height=9).encode(
            x=x, x2=alt.datum(1 if logarithmic else 0), y=y, color=fill, opacity=faint, **words
        ),
        chart.mark_rule(color=INK, strokeWidth=1, aria=False).encode(
            x=alt.X("low:Q", scale=scale), x2="high:Q", y=y, opacity=faint
        ),
        alt.Chart(alt.NamedData("base")).mark_rule(color=INK, strokeDash=[3, 3], aria=False).encode(x="one:Q"),
    ]
    drawn = alt.layer(*layers).add_params(alt.param(name="hidden", value=[]))
    return _finished(
        drawn.properties(height=ROW * len(bars)), f"{title} by edit; 1 is the base.", rows=bars, base=[{"one": 1}]
    )


def _summary(board: Board) -> str:
    best = next((row for row in board.of("edit") if row.rank), None)
    return f"The first of {len(board.of('edit'))} edits is {best.spec}, {bounded(best.score())}." if best else ""


def _finished(chart: Any, description: str, **datasets: list[dict[str, Any]]) -> dict[str, Any]:
    """The chart as Vega-Lite, with the data that its layers name."""
    return {**themed(chart, description).to_dict(), "datasets": datasets}
