"""The leaderboard page's charts, as Vega-Lite: each method's curve, and what is left of each axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt

from ..records.axes import RECITATION
from ..records.schema import Interval
from ..statistics.paired import SPLIT_SCORE
from ..views.format import bounded, significant
from ..views.html_report import ACCENT, INK, MUTED, VIRIDIS, themed
from .methods import RANDOM, Place, baseline
from .table import Board, BoardRow, Cell, Strength

SHAPES = {"base": "square", "edit": "circle", "control": "diamond"}
EDGE = (-0.1, 1.25)
"""The widest domain of the picture's axes; what lies beyond is drawn at its edge."""
ROW = 18
"""Height of a bar in pixels."""
LETTERS, LETTER, LINE_HEIGHT = 22, 0.018, 0.045
"""Of the names in the picture: the most letters, and about what a letter and a line take, in the axes' unit."""
HIDDEN = "indexof(hidden, datum.edit) >= 0"
"""Whether the page's filters leave an edit out; ``hidden`` is a parameter of each chart."""


def picture(board: Board) -> dict[str, Any] | None:
    """Each method's curve: net erased against reasoning kept, fluency kept as colour; ``None`` where none has both.

    A method's line is that of ``statistics.curves``, from the base on through strengths of it; the random control's is
    the dashed one. The strength that stands for a method is larger, and has its intervals and its name.
    """
    points = [point for row in board.rows for point in _points(row)]
    if all(point["kind"] == "base" for point in points):
        return None
    x, y = (
        _axis(points, "x", "net erased: what stays erased, or 1 - scar if that is less"),
        _axis(points, "y", "reasoning kept"),
    )
    faint = alt.when(HIDDEN).then(alt.value(0.08)).otherwise(alt.value(1))
    chosen = alt.Chart(alt.NamedData("points")).transform_filter("datum.chosen && datum.kind !== 'base'")
    rule = chosen.mark_rule(color=MUTED, strokeWidth=1, aria=False, clip=True)
    lines = alt.Chart(alt.NamedData("lines")).mark_line(aria=False, color=MUTED, clip=True)
    layers = [
        lines.encode(
            x=x,
            y=y,
            detail="edit:N",
            order="place:Q",
            strokeDash=alt.when("datum.random").then(alt.value([6, 4])).otherwise(alt.value([1, 0])),
            strokeWidth=alt.when("datum.random").then(alt.value(2.5)).otherwise(alt.value(1)),
            opacity=faint,
        ),
        rule.encode(x=_end(x, "x_low"), x2="x_high:Q", y=y, opacity=faint),
        rule.encode(x=x, y=_end(y, "y_low"), y2="y_high:Q", opacity=faint),
        _marks(x, y, faint),
        _names(x, y, faint),
    ]
    chart = alt.layer(*layers).add_params(alt.param(name="hidden", value=[]))
    description = f"What stays erased against the reasoning kept, method by method. {_summary(board)}"
    drawn = chart.properties(height=380)
    return _finished(drawn, description, points=points, lines=_lines(points), named=_named(points))


def _axis(points: list[dict[str, Any]], name: str, title: str) -> Any:
    """An axis from 0 to 1, or to where points lie beyond that, within :data:`EDGE`."""
    values = [point[name] for point in points]
    domain = [max(min(0.0, *values), EDGE[0]), min(max(1.03, *values), EDGE[1])]
    scale = alt.Scale(domain=domain, nice=False, clamp=True)
    return (alt.X if name == "x" else alt.Y)(f"{name}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))


def _end(axis: Any, name: str) -> Any:
    """An axis's channel for an interval's end."""
    copy = axis.copy()
    copy.shorthand = f"{name}:Q"
    return copy


def _marks(x: Any, y: Any, faint: Any) -> Any:
    """A mark a strength."""
    colour = alt.Color(
        "fluency:Q",
        title="fluency kept",
        scale=alt.Scale(domain=[0, 1], clamp=True, scheme=alt.SchemeParams(**VIRIDIS)),
        legend=alt.Legend(
            orient="bottom", gradientLength=160, gradientThickness=8, titleLimit=200, tickCount=3, format=".3~g"
        ),
    )
    shape = alt.Shape(
        "kind:N",
        title=None,
        scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())),
        legend=alt.Legend(orient="top", symbolFillColor=MUTED, symbolStrokeColor=INK, symbolSize=80),
    )
    marks = alt.Chart(alt.NamedData("points")).mark_point(invalid=None, filled=True, stroke=INK, strokeWidth=1)
    return marks.encode(
        x=x,
        y=y,
        color=alt.when("datum.fluency === null").then(alt.value(MUTED)).otherwise(colour),
        size=alt.when("datum.chosen").then(alt.value(110)).otherwise(alt.value(35)),
        shape=shape,
        opacity=faint,
        tooltip=[alt.Tooltip(f"{name}:N", title=title) for name, title in _TOOLTIP.items()],
        description="told:N",
    )


def bars(board: Board) -> list[tuple[str, dict[str, Any]]]:
    """Title and chart of each axis: what each method leaves (1: as much as the base has); then perplexity ratio."""
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
    "edit": "method",
    "strength": "strength",
    "rank": "rank",
    "stays_shown": "stays erased",
    "x_shown": "net erased",
    "y_shown": "reasoning kept",
    "fluency_shown": "fluency kept",
    "score": "split score",
}


def _points(row: BoardRow) -> list[dict[str, Any]]:
    """The strengths of a row that have both figures; the base's own is by definition."""
    one = Interval(value=1.0, low=1.0, high=1.0)
    zero = Interval(value=0.0, low=0.0, high=0.0)
    by_definition: dict[str, Cell] = {"stays_erased": zero, **dict(zip(SPLIT_SCORE, (zero, one, one), strict=True))}
    found = [
        _point(row, each, by_definition if row.kind == "base" else each.cells, each is row.chosen)
        for each in row.strengths
    ]
    return [point for point in found if point]


def _point(row: BoardRow, strength: Strength, cells: Mapping[str, Cell], chosen: bool) -> dict[str, Any] | None:
    stays, x, y, fluency = (cells.get(name) for name in ("stays_erased", *SPLIT_SCORE))
    if not (isinstance(x, Interval) and isinstance(y, Interval) and math.isfinite(x.value + y.value)):
        return None
    known = fluency if isinstance(fluency, Interval) and math.isfinite(fluency.value) else None
    point: dict[str, Any] = {
        "edit": row.name,
        "name": _name(row),
        "kind": row.kind,
        "strength": strength.label or "-",
        "chosen": chosen,
        "random": row.kind == "control" and baseline(row.record) == RANDOM,
        "rank": str(row.rank or "-") if chosen else "-",
        "score": significant(strength.score().value),
        "fluency": known.value if known else None,
        "fluency_shown": bounded(known) if known else "-",
        "stays_shown": bounded(stays) if isinstance(stays, Interval) else "-",
        "on_curve": strength.on_curve,
    }
    for name, interval in (("x", x), ("y", y)):
        low, high = _ends(interval.value, interval.low, interval.high, EDGE)
        point |= {name: interval.value, f"{name}_low": low, f"{name}_high": high, f"{name}_shown": bounded(interval)}
    point["told"] = "; ".join(f"{title} {point[name]}" for name, title in _TOOLTIP.items())
    return point


def _name(row: BoardRow) -> str:
    """What a point is called in the picture: the method without its matrices."""
    if row.kind == "base":
        return row.name
    return Place.of(row.record).short + (" (control)" if baseline(row.record) == RANDOM else "")


def _lines(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points of each method's curve (see ``statistics.curves``) in their order, the base's among them."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        if point["kind"] != "base" and point["on_curve"]:
            curves.setdefault(point["edit"], []).append(point)
    lines = []
    for edit, of_one in curves.items():
        base = {"x": 0.0, "y": 1.0}
        ordered = sorted([base, *of_one], key=lambda point: (point["x"], -point["y"]))
        lines += [
            {"edit": edit, "random": of_one[0]["random"], "place": place, "x": point["x"], "y": point["y"]}
            for place, point in enumerate(ordered)
        ]
    return lines


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _ends(value: float, low: float, high: float, domain: tuple[float, float]) -> tuple[float, float]:
    """Where an interval is drawn: to the chart's edge where it is infinite, at the value alone where it is nan."""
    if math.isnan(low) or math.isnan(high):
        return value, value
    return low if math.isfinite(low) else domain[0], high if math.isfinite(high) else domain[1]


def _named(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points that stand for methods, best first, and the base; those whose names fit somewhere beside them."""
    named: list[dict[str, Any]] = []
    chosen = [point for point in points if point["chosen"]]
    for point in [point for point in chosen if point["kind"] != "base"] + [p for p in chosen if p["kind"] == "base"]:
        name = point["name"] if len(point["name"]) <= LETTERS else point["name"][: LETTERS - 1] + "…"
        places = ({**point, "name": name, "left": left, "below": below} for below in (0, 1) for left in (0, 1))
        named += [place for place in places if not any(_overlap(place, other) for other in named)][:1]
    return named


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the names of two points overlap, in a plot as narrow as a small window's."""
    (low, high, y), (start, end, level) = _name_place(one), _name_place(other)
    return abs(y - level) < LINE_HEIGHT and low < end and start < high


def _name_place(point: dict[str, Any]) -> tuple[float, float, float]:
    """Where a point's name begins and ends, and its height, in the axes' units."""
    ends = sorted([point["x"], point["x"] + (-1 if point["left"] else 1) * LETTER * (len(point["name"]) + 1)])
    return ends[0], ends[1], point["y"] + (-1 if point["below"] else 1) * LINE_HEIGHT / 2


def _names(x: Any, y: Any, faint: Any) -> Any:
    layers = []
    for left, below in itertools.product((0, 1), (0, 1)):
        chart = alt.Chart(alt.NamedData("named")).transform_filter(f"datum.left === {left} && datum.below === {below}")
        mark = chart.mark_text(
            align="right" if left else "left",
            dx=-9 if left else 9,
            dy=11 if below else -9,
            fontSize=11,
            color=INK,
            aria=False,
        )
        layers.append(mark.encode(x=x, y=y, text="name:N", opacity=faint))
    return alt.layer(*layers)


def _bars(title: str, of_axis: list[tuple[BoardRow, Interval]], *, logarithmic: bool) -> dict[str, Any]:
    known = [pair for pair in of_axis if math.isfinite(pair[1].value) and (pair[1].value > 0 or not logarithmic)]
    ends = _finite(end for _, interval in known for end in (interval.low, interval.high) if end > 0 or not logarithmic)
    low, high = min([1.0 if logarithmic else 0.0, *ends]), max([1.05, *ends])
    drawn_ends = [_ends(interval.value, interval.low, interval.high, (low, high)) for _, interval in known]
    bars = [
        {
            "edit": row.name,
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
        drawn.properties(height=ROW * len(bars)), f"{title} by method; 1 is the base.", rows=bars, base=[{"one": 1}]
    )


def _summary(board: Board) -> str:
    best = next((row for row in board.of("edit") if row.rank), None)
    return f"The first of {len(board.of('edit'))} methods is {best.spec}, {bounded(best.score())}." if best else ""


def _finished(chart: Any, description: str, **datasets: list[dict[str, Any]]) -> dict[str, Any]:
    """The chart as Vega-Lite, with the data that its layers name."""
    return {**themed(chart, description).to_dict(), "datasets": datasets}
