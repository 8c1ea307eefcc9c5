"""Charts of where memorization lives: curvature mass, strength by band, and what an edit costs against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from ...files import write_whole
from ..records.schema import Interval
from ..statistics.band_strength import ALL
from .html_report import VIRIDIS, Figure, Section, Table, pictures, report

ROW = 11
"""Height of a bar in pixels."""
CURVE_POINTS = 120
"""Number of a curve's points that are drawn; the data have all of them."""
HELD = (50, 80, 95)
"""Percent of the mass; a table says how many components hold it."""
LEAD = "How strongly memorized text and each task act on components of high and of low curvature."
FIGURES = ("mass", "bands", "bands_twins", "kinds", "cost")
ENDS = ["value", "low", "high"]


def mass(curves: pd.DataFrame) -> Figure:
    """Share of the curvature mass against the share of components kept, largest first.

    Args:
        curves: ``layer, proj, count, components, mass``, one row a point.
    """
    whole = curves.assign(kept=100 * curves["count"] / curves["components"], held=100 * curves["mass"])
    matrices = list(whole.groupby(["layer", "proj"], sort=False))
    drawn = pd.concat([_thin(rows) for _, rows in matrices])[["layer", "proj", "kept", "held"]]
    lowest = float(drawn["kept"].min())
    line = (
        alt.Chart()
        .mark_line()
        .encode(
            x=alt.X(
                "kept:Q",
                title="components kept, %",
                scale=alt.Scale(type="log", domain=[lowest, 100]),
                axis=alt.Axis(grid=False, tickCount=5, format="~g"),
            ),
            y=alt.Y("held:Q", title="curvature mass held, %", scale=alt.Scale(domain=[0, 100])),
            color=alt.Color("layer:O", title="layer", scale=alt.Scale(scheme=alt.SchemeParams(**VIRIDIS))),
            tooltip=["layer:O", alt.Tooltip("kept:Q", format=".3g"), alt.Tooltip("held:Q", format=".3g")],
        )
    )
    needed: list[list[str | float]] = [
        [f"layer {layer}, {proj}", *(float(rows["kept"][rows["held"] >= share - 1e-9].min()) for share in HELD)]
        for (layer, proj), rows in matrices
    ]
    return Figure(
        title="Curvature mass against components kept, largest curvature first",
        description="Percent of the curvature mass held by the components kept, largest first, a line a layer:",
        panels={proj: line.properties(data=rows, height=190) for proj, rows in _by_proj(drawn)},
        table=Table(columns=["matrix", *(f"components with {share} % of the mass, %" for share in HELD)], rows=needed),
    )


def bands(table: pd.DataFrame, names: Sequence[str], title: str) -> Figure:
    """Strength of one kind of text against another, by layer, a point and an interval for each band.

    Args:
        table: rows of ``Measured.relative`` of one kind and measure.
        names: the bands, from the highest curvature to the lowest.
        title: above.
    """
    percent = _percent(table[table["band"].isin(names) & table["layer"].notna()]).astype({"layer": int})
    base = alt.Chart().encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("band:N", sort=list(names)),
        color=_band(names),
        tooltip=["layer:O", "band:N", *_signed(ENDS)],
    )
    interval = base.mark_rule(strokeWidth=2, aria=False).encode(y=alt.Y("low:Q", title="stronger by, %"), y2="high:Q")
    point = base.mark_point(filled=True, size=35, opacity=1).encode(y="value:Q")
    zero = alt.Chart().mark_rule(strokeDash=[4, 3], color="gray", aria=False).encode(y=alt.datum(0))
    return Figure(
        title=title,
        description=f"{title}: percent by which it is stronger, by layer, an interval for each band of curvature:",
        panels={
            proj: alt.layer(zero, interval, point, data=rows).properties(height=190)
            for proj, rows in _by_proj(percent[["layer", "proj", "band", *ENDS]])
        },
        table=_wide(percent.assign(row=[f"layer {row.layer}, {row.proj}" for row in percent.itertuples()]), names),
    )


def kinds(table: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Each kind of text against clean text, by band, over the matrices together.

    Args:
        table: rows of ``Measured.relative`` of one measure.
        names: the bands, from the highest curvature to the lowest.
    """
    percent = _percent(table[table["band"].isin(names) & table["layer"].isna()])
    order = percent[percent["band"] == names[-1]].sort_values("value", ascending=False)["kind"].tolist()
    base = alt.Chart(percent[["kind", "band", *ENDS]]).encode(
        y=alt.Y("kind:N", title=None, sort=order, axis=alt.Axis(labelLimit=200)),
        yOffset=alt.YOffset("band:N", sort=list(names)),
        color=_band(names),
        tooltip=["kind:N", "band:N", *_signed(ENDS)],
    )
    interval = base.mark_rule(strokeWidth=2, aria=False).encode(
        x=alt.X("low:Q", title="stronger than on clean text by, %", axis=alt.Axis(tickCount=6)), x2="high:Q"
    )
    point = base.mark_point(filled=True, size=35, opacity=1).encode(x="value:Q")
    title = "Each kind of text against clean text, by band of curvature"
    return Figure(
        title=title,
        description=f"{title}: percent by which it is stronger, over the matrices together.",
        panels={"": alt.layer(interval, point).properties(height=ROW * len(names) * len(order))},
        width=520,
        table=_wide(percent.rename(columns={"kind": "row"}), names),
    )


def cost(table: pd.DataFrame, title: str) -> Figure:
    """What an edit costs each kind of text against how strongly it uses low curvature.

    Args:
        table: ``kind, band, value, low, high, cost``, one row a kind of text and band; each band is a panel.
        title: above.
    """
    percent = _percent(table).assign(cost=100 * table["cost"])
    base = alt.Chart().encode(
        y=alt.Y("cost:Q", title="lost by the edit, % of what is above guessing"),
        color=alt.Color("kind:N", title=None, sort=None, legend=alt.Legend(labelLimit=260, columns=1)),
        tooltip=["kind:N", *_signed([*ENDS, "cost"])],
    )
    x = alt.X(
        "low:Q", title="stronger than on clean text by, %", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)
    )
    interval = base.mark_rule(strokeWidth=2, aria=False).encode(x=x, x2="high:Q")
    point = base.mark_point(filled=True, size=60, opacity=1).encode(x="value:Q")
    names = list(dict.fromkeys(table["band"]))
    shown = _wide(percent.rename(columns={"kind": "row"}), names)
    lost = percent.drop_duplicates("kind").set_index("kind")["cost"]
    return Figure(
        title=title,
        description=f"{title}: percent lost by percent stronger than on clean text, a point a kind of text:",
        panels={
            band: alt.layer(interval, point, data=percent[percent["band"] == band]).properties(height=260)
            for band in names
        },
        width=330,
        table=Table(columns=[*shown.columns, "lost, %"], rows=[[*row, float(lost[row[0]])] for row in shown.rows]),
    )


def write(folder: Path, figures: Mapping[str, Figure], title: str, words: Sequence[str] = ()) -> list[Path]:
    """Each figure as ``NAME.svg`` and ``NAME.png``, and all of them in one page, ``spectrum.html``; returns the files.

    The page begins with ``words``, a paragraph each. Pictures of :data:`FIGURES` that an earlier run left and that this
    one does not make are removed. Every file is written in one step.
    """
    page = folder / "spectrum.html"
    sections = [Section(title="In words", text=words)] if words else []
    sections += [Section(title=figure.title, figure=figure) for figure in figures.values()]
    write_whole(page, report(title, LEAD, sections))
    return [page, *pictures(folder, figures, FIGURES, ("svg", "png"))]


def _thin(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, CURVE_POINTS).round().astype(int))]


def _by_proj(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """One panel a projection, in the order of the model; the layer's matrices together come last."""
    names = [name for name in dict.fromkeys(table["proj"]) if name != ALL]
    for name in [*names, *([ALL] if ALL in set(table["proj"]) else [])]:
        yield str(name), table[table["proj"] == name]


def _percent(rows: pd.DataFrame) -> pd.DataFrame:
    """In percent; an interval that is not finite is left out, for it cannot be drawn."""
    percent = rows.assign(**{name: 100 * rows[name] for name in ENDS})
    percent.loc[~np.isfinite(percent[["low", "high"]]).all(axis=1), ["low", "high"]] = np.nan
    return percent


def _band(names: Sequence[str]) -> alt.Color:
    scale = alt.Scale(scheme=alt.SchemeParams(**VIRIDIS), reverse=True)
    return alt.Color("band:N", title="curvature", sort=list(names), scale=scale)


def _signed(names: Sequence[str]) -> list[Any]:
    return [alt.Tooltip(f"{name}:Q", format="+.1f") for name in names]


def _wide(table: pd.DataFrame, names: Sequence[str]) -> Table:
    """A row of each ``row``, a column a band, with intervals."""
    cells = {
        (one.row, one.band): Interval(value=float(one.value), low=float(one.low), high=float(one.high))
        for one in table.itertuples()
    }
    rows = [[str(row), *(cells.get((row, name)) for name in names)] for row in dict.fromkeys(table["row"])]
    return Table(columns=["stronger by, %", *names], rows=rows)
