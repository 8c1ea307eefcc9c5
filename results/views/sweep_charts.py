"""Charts of a sweep: the Pareto front between memory and reasoning, and what a dial does. Altair, no network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import msgspec
import pandas as pd
from markupsafe import Markup

from ...files import write_whole
from ..records.encoding import nan_for_null
from ..records.schema import Interval
from ..statistics import selection
from ..statistics.paired import SPLIT_SCORE
from ..statistics.selection import Bounds, Row
from .format import TITLES
from .html_report import VIRIDIS, Figure, Section, Table, breakable, pictures, report

STATES = ("chosen", "baseline", "frontier", "other", "out of bounds", "control")
_SHAPES = ["diamond", "square", "circle", "triangle-down", "cross", "triangle-up"]
_SIZES = [220, 160, 90, 35, 35, 60]
DIALLED = {
    "stays_erased": "stays erased",
    "recitation_left": "recitation left",
    "reasoning_kept": "reasoning kept",
    "fluency_kept": "fluency kept",
}
FURTHER = ("recitation_removed", "perplexity_ratio")
PANELS = 12
"""Base specs whose dial curve is drawn."""
TIP = [
    "spec",
    "split score",
    "stays erased",
    "net erased",
    "reasoning kept",
    "fluency kept",
    "recitation removed",
    "perplexity ratio",
]


def table(rows: Sequence[Row], bounds: Bounds, chosen: str | None, baseline: str | None) -> pd.DataFrame:
    """One line an edit: what the Pareto chart shows of it."""
    lines = []
    for row, on_front in zip(rows, selection.pareto_front(rows), strict=True):
        within = "frontier" if on_front else "other"
        kind = "control" if row.control else within if bounds.hold(row) else "out of bounds"
        state = {chosen: "chosen", baseline: "baseline"}.get(row.spec, kind)
        score = row.summary["split_score"]
        lines.append(
            {
                "spec": row.spec,
                "state": state,
                "size": _SIZES[STATES.index(state)],
                "split score": score.value,
                "low": score.low,
                "high": score.high,
                **{TITLES[name]: row.metric(name) for name in ("stays_erased", *SPLIT_SCORE, *FURTHER)},
            }
        )
    lines.sort(key=lambda line: -STATES.index(str(line["state"])))  # the chosen one is drawn over the others
    return pd.DataFrame(lines).replace([math.inf, -math.inf], math.nan)


def dials(rows: Sequence[Row]) -> pd.DataFrame:
    """A line a base spec, dial and figure of :data:`DIALLED`.

    Only base specs with several dials, at most ``PANELS`` of them, those of the highest split scores.
    """
    curves: dict[str, dict[float, Row]] = {}
    for row in rows:
        if row.curve is not None:
            curves.setdefault(row.curve[0], {})[row.curve[1]] = row
    several = {edit: points for edit, points in curves.items() if len(points) > 1}
    highest = {edit: max(_score(row) for row in points.values()) for edit, points in several.items()}
    lines = [
        {"edit": edit, "dial": dial, "figure": title, "value": _dialled(row, name)}
        for edit, points in sorted(several.items(), key=lambda item: -highest[item[0]])[:PANELS]
        for dial, row in sorted(points.items())
        for name, title in DIALLED.items()
    ]
    return pd.DataFrame(lines, columns=["edit", "dial", "figure", "value"]).replace([math.inf, -math.inf], math.nan)


def _score(row: Row) -> float:
    score = row.metric("split_score")
    return -math.inf if math.isnan(score) else score


def _dialled(row: Row, name: str) -> float:
    return 1 - row.metric("recitation_removed") if name == "recitation_left" else row.metric(name)


def pareto_figure(edits: pd.DataFrame, bounds: Bounds) -> Figure:
    """Stays erased against reasoning kept, perplexity as colour; and split score against perplexity.

    The shape says whether an edit is chosen, on the front, or out of bounds; the dashed line is perplexity's bound.
    """
    scale = alt.Scale(domain=STATES, range=_SHAPES)
    shape = alt.Shape("state:N", scale=scale, legend=alt.Legend(title=None, symbolSize=90, orient="top", columns=3))
    size = alt.Size("size:Q", legend=None, scale=None)
    above = max(2 * (bounds.max_perplexity_ratio - 1), 0.02)
    colour = alt.Color(
        "perplexity ratio:Q",
        scale=alt.Scale(scheme=alt.SchemeParams(**VIRIDIS), domain=[1, 1 + above], clamp=True),
        legend=alt.Legend(format=".2f", gradientLength=150),
    )
    tip = [alt.Tooltip(name, format=".3f") if name != "spec" else alt.Tooltip(name) for name in TIP]
    free = alt.Scale(zero=False, nice=False, padding=12)
    plain = alt.Chart(edits)
    points = plain.mark_point(filled=True, opacity=0.85).encode(shape=shape, size=size, color=colour, tooltip=tip)
    memory = points.encode(
        x=alt.X("net erased:Q", scale=free, axis=alt.Axis(format=".2f", tickCount=6)),
        y=alt.Y("reasoning kept:Q", scale=free, axis=alt.Axis(format=".2f")),
    )
    x = alt.X("perplexity ratio:Q", scale=free, axis=alt.Axis(format=".2f", tickCount=6))
    bars = plain.mark_rule(opacity=0.5, aria=False).encode(
        x=x, y=alt.Y("low:Q", scale=free, title="split score"), y2="high:Q"
    )
    bound = (
        alt.Chart(pd.DataFrame({"bound": [bounds.max_perplexity_ratio]}))
        .mark_rule(strokeDash=[4, 4], aria=False)
        .encode(x=alt.X("bound:Q", title="perplexity ratio"))
    )
    score = bars + points.encode(x=x, y=alt.Y("split score:Q", scale=free)) + bound
    return Figure(
        title="Frontier",
        description=f"{len(edits)} edits on dev, whose figures stand in the table of edits.",
        panels={
            "memory against reasoning": memory.properties(height=320),
            "split score against perplexity, 95 % intervals": score.properties(height=320),
        },
        width=380,
    )


def dial_figure(curves: pd.DataFrame) -> Figure:
    """A panel a base spec: the figures of :data:`DIALLED` by dial."""
    values = curves["value"].dropna()
    scale = alt.Scale(domain=[min([0.0, *values]), max([1.0, *values])])
    line = (
        alt.Chart()
        .mark_line(point=True)
        .encode(
            x=alt.X("dial:Q", title="dial (0 removes, 1 is the base)", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("value:Q", title=None, scale=scale),
            color=alt.Color("figure:N", title=None, sort=list(DIALLED.values()), scale=alt.Scale(scheme="tableau10")),
            strokeDash=alt.StrokeDash("figure:N", legend=None, sort=list(DIALLED.values())),
            tooltip=["edit", "dial", "figure", alt.Tooltip("value", format=".3f")],
        )
    )
    by_edit = {str(edit): rows for edit, rows in curves.groupby("edit", sort=False)}
    lines = curves.pivot_table("value", ["edit", "dial"], "figure", sort=False, dropna=False)[list(DIALLED.values())]
    return Figure(
        title="What the dial does",
        description="What stays erased, recitation left, reasoning and fluency kept by dial, of",
        panels={edit: line.properties(data=rows, height=200) for edit, rows in by_edit.items()},
        width=260,
        columns=3,
        table=Table(
            columns=["edit", "dial", *DIALLED.values()],
            rows=[
                [str(edit), float(dial), *map(float, row)]
                for (edit, dial), row in zip(lines.index, lines.to_numpy(), strict=True)
            ],
        ),
    )


FIGURES = ("frontier", "dials")


def write(folder: Path, content: Mapping[str, Any], rows: Sequence[Row], bounds: Bounds) -> None:
    """Write ``sweep.html``, ``frontier.svg`` and, where the grid has dials, ``dials.svg``."""
    edits = table(rows, bounds, content["chosen"]["spec"], content["baseline"])
    figures = {"frontier": pareto_figure(edits, bounds)}
    if len(curves := dials(rows)):
        figures["dials"] = dial_figure(curves)
    pictures(folder, figures, FIGURES)
    write_whole(folder / "sweep.html", page(content, figures))


def page(content: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """One HTML page with the choice, the charts and a table of the edits.

    Args:
        content: of ``sweep.json``.
        figures: by name.
    """
    chosen = content["chosen"]
    why = (
        Markup("<code>{}</code>: {}.").format(chosen["spec"], chosen["why"]) if chosen["spec"] else f"{chosen['why']}."
    )
    silent = Markup("By silence alone it would have been <code>{}</code>.").format(chosen["by_silence"])
    text = [why, silent] if chosen["by_silence"] not in (None, chosen["spec"]) else [why]
    sections = [Section(title="Chosen on dev", text=text)]
    if content["test"]:
        tested = content["test"]
        sections.append(Section(title="On test", table=_table(tested, [side["summary"] for side in tested.values()])))
    sections += [Section(title=figure.title, figure=figure) for figure in figures.values()]
    best = sorted(content["edits"], key=lambda edit: -(edit["summary"]["split_score"]["value"] or 0))
    of_dev = _table([edit["spec"] for edit in best], [edit["summary"] for edit in best])
    sections.append(Section(title="Edits on dev", table=of_dev))
    grids = Markup(" ").join(Markup("<code>{}</code>").format(grid) for grid in content["grids"])
    return report(f"Sweep of {content['model']}", grids, sections)


def _table(specs: Iterable[str], summaries: Sequence[Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for summary in summaries for name in summary))
    rows = [
        [Markup("<code>{}</code>").format(breakable(spec)), *(_interval(summary.get(name)) for name in names)]
        for spec, summary in zip(specs, summaries, strict=True)
    ]
    return Table(columns=["edit", *(name.replace("_", " ") for name in names)], rows=rows)


def _interval(figure: dict[str, float | None] | None) -> Interval | None:
    if figure is None or figure["value"] is None:
        return None
    return msgspec.convert(nan_for_null(figure), Interval)
