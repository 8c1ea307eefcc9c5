"""Charts of where memorization lives: curvature mass, strength by band, and what an edit costs against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ..files import replacing
from .spectrum import ALL

CURVE_POINTS = 120
"""Of a curve that are drawn; the data have them all."""
EMBED = {"actions": {"export": True, "source": False, "compiled": False, "editor": False}}
"""What the chart's menu offers: nothing that asks a server."""


def mass(curves: pd.DataFrame) -> Any:
    """Share of the curvature mass against the share of components kept, largest first.

    Args:
        curves: ``layer, proj, count, components, mass``, one row a point.
    """
    drawn = [_thin(rows) for _, rows in curves.groupby(["layer", "proj"], sort=False)]
    table = pd.concat(drawn).assign(kept=lambda t: 100 * t["count"] / t["components"], held=lambda t: 100 * t["mass"])
    chart = alt.Chart(table[["layer", "proj", "kept", "held"]]).mark_line()
    return _by_proj(
        chart.encode(
            x=alt.X(
                "kept:Q",
                title="components kept, %",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(grid=False),
            ),
            y=alt.Y("held:Q", title="curvature mass held, %", scale=alt.Scale(domain=[0, 100])),
            color=alt.Color("layer:O", title="layer", scale=alt.Scale(scheme="viridis")),
            tooltip=["layer:O", alt.Tooltip("kept:Q", format=".3g"), alt.Tooltip("held:Q", format=".3g")],
        ).properties(width=210, height=190),
        table["proj"],
        "Curvature mass against components kept, largest curvature first",
    )


def bands(table: pd.DataFrame, names: Sequence[str], title: str) -> Any:
    """Strength of one kind of text against another, by layer, a point and an interval for each band.

    Args:
        table: rows of ``Measured.relative`` of one kind and measure.
        names: the bands, from the highest curvature to the lowest.
        title: above.
    """
    rows = table[table["band"].isin(names) & table["layer"].notna()]
    percent = rows.assign(**{name: 100 * rows[name] for name in ("value", "low", "high")}).astype({"layer": int})
    columns = ["layer", "proj", "band", "value", "low", "high"]
    base = alt.Chart().encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("band:N", sort=list(names)),
        color=alt.Color("band:N", title="curvature", sort=list(names), scale=alt.Scale(scheme="viridis", reverse=True)),
        tooltip=["layer:O", "band:N", *(alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("value", "low", "high"))],
    )
    interval = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title="stronger by, %"), y2="high:Q")
    point = base.mark_point(filled=True, size=35, opacity=1).encode(y="value:Q")
    zero = alt.Chart().mark_rule(strokeDash=[4, 3], color="gray").encode(y=alt.datum(0))
    layers = alt.layer(zero, interval, point, data=percent[columns]).properties(width=210, height=190)
    return _by_proj(layers, percent["proj"], title).resolve_scale(y="independent")


def kinds(table: pd.DataFrame, names: Sequence[str]) -> Any:
    """Each kind of text against clean text, by band, over the matrices together.

    Args:
        table: rows of ``Measured.relative`` of one measure.
        names: the bands, from the highest curvature to the lowest.
    """
    rows = table[table["band"].isin(names) & table["layer"].isna()]
    percent = rows.assign(**{name: 100 * rows[name] for name in ("value", "low", "high")})
    order = percent[percent["band"] == names[-1]].sort_values("value", ascending=False)["kind"].tolist()
    base = alt.Chart(percent[["kind", "band", "value", "low", "high"]]).encode(
        y=alt.Y("kind:N", title=None, sort=order, axis=alt.Axis(labelLimit=260)),
        yOffset=alt.YOffset("band:N", sort=list(names)),
        color=alt.Color("band:N", title="curvature", sort=list(names), scale=alt.Scale(scheme="viridis", reverse=True)),
        tooltip=["kind:N", "band:N", *(alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("value", "low", "high"))],
    )
    interval = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title="stronger than on clean text by, %"), x2="high:Q"
    )
    point = base.mark_point(filled=True, size=35, opacity=1).encode(x="value:Q")
    return alt.layer(interval, point).properties(
        width=520, height=alt.Step(9), title="Each kind of text against clean text, by band of curvature"
    )


def cost(table: pd.DataFrame, title: str) -> Any:
    """What an edit costs each kind of text against how strongly it uses low curvature.

    Args:
        table: ``kind, band, value, low, high, cost``, one row a kind of text and band; each band is a panel.
        title: above.
    """
    percent = table.assign(**{name: 100 * table[name] for name in ("value", "low", "high", "cost")})
    base = alt.Chart().encode(
        y=alt.Y("cost:Q", title="lost by the edit, % of what is above guessing"),
        color=alt.Color("kind:N", title=None, sort=None, legend=alt.Legend(labelLimit=260)),
        tooltip=["kind:N", *(alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("value", "low", "high", "cost"))],
    )
    x = alt.X("low:Q", title="stronger than on clean text by, %", scale=alt.Scale(zero=False))
    interval = base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q")
    point = base.mark_point(filled=True, size=60, opacity=1).encode(x="value:Q")
    panel = alt.layer(interval, point, data=percent).properties(width=330, height=260)
    column = alt.Column("band:N", title=None, sort=list(dict.fromkeys(table["band"])))
    return panel.facet(column=column, title=title).resolve_scale(x="independent")


def write(folder: Path, charts: Mapping[str, Any], title: str) -> list[Path]:
    """Each chart as ``NAME.svg`` and ``NAME.png``, and all of them in one page, ``spectrum.html``; returns the files.

    The page holds its own JavaScript, and asks for nothing else. Every file is written in one step.
    """
    page = alt.vconcat(*charts.values(), title=title).resolve_scale(color="independent")
    written = [folder / "spectrum.html"]
    with replacing(written[0]) as partial:
        partial.write_text(page.to_html(inline=True, embed_options=EMBED), encoding="utf-8")
    for name, chart in charts.items():
        for kind in ("svg", "png"):
            path = folder / f"{name}.{kind}"
            with replacing(path) as partial:
                chart.save(partial, format=kind, scale_factor=2 if kind == "png" else 1)
            written.append(path)
    return written


def _thin(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, CURVE_POINTS).round().astype(int))]


def _by_proj(chart: Any, proj: pd.Series, title: str) -> Any:
    """One panel a projection, in the order of the model; the layer's matrices together come last."""
    names = [name for name in dict.fromkeys(proj) if name != ALL]
    order = [*names, *([ALL] if ALL in set(proj) else [])]
    return chart.facet(column=alt.Column("proj:N", title=None, sort=order), title=title)
