"""Charts of a sweep: the frontier between memory and reasoning, and what a dial does along it. Altair, no network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from ..files import replacing
from . import frontier
from .frontier import Bounds, Row

STATES = ("chosen", "baseline", "frontier", "other", "out of bounds", "control")
_SHAPES = ["diamond", "square", "circle", "triangle-down", "cross", "triangle-up"]
_SIZES = [220, 160, 90, 35, 35, 60]
DIALLED = {
    "recitation_left": "recitation left",
    "logic_kept": "logic kept",
    "perplexity_ratio": "perplexity ratio",
}
PANELS = 12
"""Base specs whose dial curve is drawn."""
TIP = ["spec", "split score", "recitation removed", "logic kept", "kept of all axes", "perplexity ratio"]


def table(rows: Sequence[Row], bounds: Bounds, chosen: str | None, baseline: str | None) -> pd.DataFrame:
    """A line an edit: what the frontier's chart shows of it."""
    lines = []
    for row, on in zip(rows, frontier.frontier(rows), strict=True):
        state = {chosen: "chosen", baseline: "baseline"}.get(row.spec) or (
            "control" if row.control else "out of bounds" if not bounds.hold(row) else "frontier" if on else "other"
        )
        score = row.summary["split_score"]
        lines.append(
            {
                "spec": row.spec,
                "state": state,
                "size": _SIZES[STATES.index(state)],
                "split score": score.value,
                "low": score.low,
                "high": score.high,
                "recitation removed": row.figure("recitation_removed"),
                "logic kept": row.figure("logic_kept"),
                "kept of all axes": row.kept,
                "perplexity ratio": row.figure("perplexity_ratio"),
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
    score = row.figure("split_score")
    return -math.inf if math.isnan(score) else score


def _dialled(row: Row, name: str) -> float:
    return 1 - row.figure("recitation_removed") if name == "recitation_left" else row.figure(name)


def frontier_chart(found: pd.DataFrame, bounds: Bounds) -> alt.HConcatChart:
    """Left, recitation removed against logic kept, perplexity as colour; right, split score against perplexity.

    The shape says whether an edit is chosen, on the frontier, or out of bounds; the dashed line is the perplexity's.
    """
    scale = alt.Scale(domain=STATES, range=_SHAPES)
    shape = alt.Shape("state:N", scale=scale, legend=alt.Legend(title="edit", symbolSize=90))
    size = alt.Size("size:Q", legend=None, scale=None)
    above = max(2 * (bounds.max_perplexity_ratio - 1), 0.02)
    colour = alt.Color(
        "perplexity ratio:Q",
        scale=alt.Scale(scheme="viridis", domain=[1, 1 + above], clamp=True),
        legend=alt.Legend(format=".2f"),
    )
    tip = [alt.Tooltip(name, format=".3f") if name != "spec" else alt.Tooltip(name) for name in TIP]
    free = alt.Scale(zero=False, nice=False, padding=12)
    plain = alt.Chart(found)
    points = plain.mark_point(filled=True, opacity=0.85).encode(shape=shape, size=size, color=colour, tooltip=tip)
    memory = points.encode(
        x=alt.X("recitation removed:Q", scale=free, axis=alt.Axis(format=".2f")),
        y=alt.Y("logic kept:Q", scale=free, axis=alt.Axis(format=".2f")),
    )
    x = alt.X("perplexity ratio:Q", scale=free, axis=alt.Axis(format=".2f"))
    bars = plain.mark_rule(opacity=0.3).encode(x=x, y=alt.Y("low:Q", scale=free, title="split score"), y2="high:Q")
    bound = (
        alt.Chart(pd.DataFrame({"bound": [bounds.max_perplexity_ratio]}))
        .mark_rule(strokeDash=[4, 4])
        .encode(x=alt.X("bound:Q", title="perplexity ratio"))
    )
    score = bars + points.encode(x=x, y=alt.Y("split score:Q", scale=free)) + bound
    return alt.hconcat(
        memory.properties(width=380, height=320, title="memory against reasoning").interactive(),
        score.properties(width=380, height=320, title="split score against perplexity, 95 % intervals"),
    )


def dial_chart(found: pd.DataFrame) -> alt.FacetChart:
    """A panel a base spec: recitation left, logic kept and perplexity ratio by dial."""
    line = (
        alt.Chart(found)
        .mark_line(point=True)
        .encode(
            x=alt.X("dial:Q", title="dial (0 removes, 1 is the base)"),
            y=alt.Y("value:Q", title=None),
            color=alt.Color("figure:N", title=None, scale=alt.Scale(scheme="tableau10")),
            strokeDash=alt.StrokeDash("figure:N", title=None),
            tooltip=["edit", "dial", "figure", alt.Tooltip("value", format=".3f")],
        )
        .properties(width=260, height=200)
    )
    return line.facet(facet=alt.Facet("edit:N", title=None), columns=3)


def write(folder: Path, content: Mapping[str, Any], rows: Sequence[Row], bounds: Bounds) -> None:
    """Write ``sweep.html``, ``frontier.svg`` and, where the grid has dials, ``dials.svg``."""
    found = table(rows, bounds, content["chosen"]["spec"], content["baseline"])
    charts: dict[str, Any] = {"frontier": frontier_chart(found, bounds)}
    if len(curves := dials(rows)):
        charts["dials"] = dial_chart(curves)
    specs = {name: chart.to_dict() for name, chart in charts.items()}
    for name in ("frontier", "dials"):
        if name in specs:
            _text(folder / f"{name}.svg", vl_convert.vegalite_to_svg(specs[name], vl_version=_version()))
        else:
            (folder / f"{name}.svg").unlink(missing_ok=True)
    _text(folder / "sweep.html", page(content, specs))


def page(content: Mapping[str, Any], charts: Mapping[str, Mapping[str, Any]]) -> str:
    """One HTML page with the choice, the charts and a table of the edits; nothing is fetched.

    Args:
        content: of ``sweep.json``.
        charts: Vega-Lite specifications by name.
    """
    chosen, model = content["chosen"], content["model"]
    heading = f"Sweep of {model}"
    parts = [f"<h1>{escape(heading)}</h1>", f"<p>{' '.join(f'<code>{escape(g)}</code>' for g in content['grids'])}</p>"]
    spec = f"<code>{escape(chosen['spec'])}</code>: " if chosen["spec"] else ""
    parts.append(f"<h2>Chosen on dev</h2><p>{spec}{escape(chosen['why'])}.</p>")
    if content["test"]:
        parts.append(
            f"<h2>On test</h2>{_table(list(content['test']), [s['summary'] for s in content['test'].values()])}"
        )
    titles = {"frontier": "Frontier", "dials": "What the dial does"}
    parts += [f'<h2>{titles[name]}</h2><div class="chart" id="{name}"></div>' for name in charts]
    best = sorted(content["edits"], key=lambda edit: -(edit["summary"]["split_score"]["value"] or 0))
    parts.append(f"<h2>Edits on dev</h2>{_table([e['spec'] for e in best], [e['summary'] for e in best])}")
    options = '{actions: {source: false, compiled: false, editor: false}, renderer: "svg", config: {background: null}}'
    calls = [f'vegaEmbed("#{name}", {_json(chart)}, {options});' for name, chart in charts.items()]
    script = vl_convert.javascript_bundle("\n".join(calls), vl_version=_version()).replace("</script", "<\\/script")
    return _PAGE.format(title=escape(heading), body="\n".join(parts), script=script)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b;
  background: #fff; }}
.scroll, .chart {{ overflow-x: auto; }}
.chart svg {{ max-width: none; }}
table {{ border-collapse: collapse; font-size: .9rem; }}
th, td {{ padding: .25rem .75rem .25rem 0; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
</style>
</head>
<body>
<main>
{body}
</main>
<script type="module">
{script}
</script>
</body>
</html>
"""


def _table(specs: Sequence[str], summaries: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for summary in summaries for name in summary))
    head = "".join(f'<th scope="col">{escape(name.replace("_", " "))}</th>' for name in ("edit", *names))
    lines = [
        f"<tr><td><code>{escape(spec)}</code></td>" + "".join(_cell(summary.get(name)) for name in names) + "</tr>"
        for spec, summary in zip(specs, summaries, strict=True)
    ]
    rows = "".join(lines)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(figure: Mapping[str, float | None] | None) -> str:
    if figure is None or figure["value"] is None:
        return "<td>-</td>"
    bounds = [figure["low"], figure["high"]]
    between = "" if None in bounds else f' title="95 % interval {bounds[0]:.3f} to {bounds[1]:.3f}"'
    return f"<td{between}>{figure['value']:.3f}</td>"


def _json(value: object) -> str:
    """JSON that may stand inside a script of a page."""
    return json.dumps(value, allow_nan=False).replace("</", "<\\/")


def _version() -> str:
    """Altair's version of Vega-Lite, as vl-convert names it."""
    return "_".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _text(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
