"""Pages with charts: one HTML file that loads nothing from elsewhere, light or dark as its reader's system is.

Charts are drawn by Vega-Lite, whose bundle is in the page, through its interpreter of expressions: the page's own rule
(Content-Security-Policy) allows the one script whose hash it names, no ``eval``, and no request. Colours of lines and
letters are the page's (CSS variables), so that a chart follows its theme and prints in black.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup, escape

from ...files import write_whole
from ..records.encoding import plain
from ..records.schema import Interval
from .format import significant

FOLDER = Path(__file__).parent / "page"
INK, MUTED, LINE, ACCENT = "var(--ink)", "var(--muted)", "var(--line)", "var(--accent)"
VIRIDIS = {"name": "viridis", "extent": [0.2, 0.88]}
"""The part of the colour scheme that is visible on white and on black."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns and rows of a table; the first column names the row, the others are numbers with their intervals."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | Interval | None]]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Charts that belong together: side by side in a picture, as wide as there is room on a page.

    Attributes:
        title: of all.
        description: what they show, for readers who do not see them.
        panels: each chart by its own title, without a width.
        width: of each chart in a picture, in pixels.
        columns: number of charts side by side in a picture.
        table: the numbers that they show.
    """

    title: str
    description: str
    panels: Mapping[str, Any]
    width: int = 210
    columns: int = 4
    table: Table | None = None

    def picture(self) -> dict[str, Any]:
        """All as one Vega-Lite chart, in colours for white paper."""
        single = len(self.panels) == 1
        panels = [
            chart.properties(width=self.width, **({} if single else {"title": title}))
            for title, chart in self.panels.items()
        ]
        room = {"left": 5, "top": 5, "right": 40, "bottom": 5}  # the reader's font may be wider than the one measured
        return _specification(alt.concat(*panels, columns=self.columns, title=self.title, padding=room))

    def on_page(self) -> list[tuple[str, dict[str, Any]]]:
        """Title and Vega-Lite of each, in the page's colours."""
        charts = []
        for title, chart in self.panels.items():
            drawn = themed(chart, f"{self.description} {title}").configure_rule(color=MUTED)
            drawn = drawn.configure_legend(
                orient="bottom",
                columns=2,
                labelColor=MUTED,
                titleColor=INK,
                titleFontWeight="normal",
                symbolBaseFillColor=MUTED,
                symbolBaseStrokeColor=MUTED,
            )
            charts.append((title, _specification(drawn)))
        return charts


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report: a heading, and under it paragraphs, charts, a table, or some of them."""

    title: str
    text: Sequence[str] = ()
    figure: Figure | None = None
    table: Table | None = None


def report(title: str, lead: str, sections: Iterable[Section]) -> str:
    """A page of sections.

    Args:
        title: its heading.
        lead: the paragraph under it; text, or markupsafe's ``Markup``, as a section's text may be.
        sections: in their order.
    """
    charts: dict[str, Any] = {}
    parts = []
    for n, section in enumerate(sections, 1):
        panels = section.figure.on_page() if section.figure else []
        names = {f"chart-{n}-{i}": panel for i, panel in enumerate(panels, 1)}
        charts |= {name: chart for name, (_, chart) in names.items()}
        parts.append(
            {"id": f"part-{n}", "section": section, "panels": [(name, panel[0]) for name, panel in names.items()]}
        )
    return render("report.html", charts, title=title, lead=lead, parts=parts)


def render(template: str, charts: Mapping[str, Any], scripts: Sequence[str] = (), **values: object) -> str:
    """A page.

    Args:
        template: file of :data:`FOLDER`; its elements with a ``data-chart`` show the charts.
        charts: Vega-Lite by name.
        scripts: files of :data:`FOLDER` that run after the charts' own.
        values: of the template's variables.
    """
    script = _script("charts.js", *scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["cell"] = _cell
    return environment.get_template(template).render(
        version=importlib.metadata.version("memsplit"),
        style=Markup((FOLDER / "style.css").read_text("utf-8")),  # noqa: S704  ours
        script=Markup(script),  # noqa: S704  ours, and the charts' library
        script_hash=f"sha256-{digest}",
        charts=Markup(data(charts)),  # noqa: S704  no < in it
        **values,
    )


def data(value: object) -> str:
    """JSON in which a browser sees no end of a script; nan and infinities are null."""
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def themed(chart: Any, description: str) -> Any:
    """The chart in the page's colours, as wide as its place, with a description for readers who do not see it."""
    chart = chart.properties(width="container", description=description, autosize=alt.AutoSizeParams(type="fit-x"))
    chart = chart.configure(background="transparent", font="inherit").configure_view(stroke=None)
    return chart.configure_axis(
        labelColor=MUTED, titleColor=INK, gridColor=LINE, domainColor=LINE, tickColor=LINE, titleFontWeight="normal"
    ).configure_legend(labelColor=MUTED, titleColor=INK, titleFontWeight="normal")


def breakable(spec: str) -> Markup:
    """An edit's spec as HTML that breaks a line where one of its parts ends."""
    return Markup("<wbr>").join(escape(part) for part in re.split("(?<=[:,+])", spec))


def svg(chart: Mapping[str, Any], width: int) -> str:
    """A page's chart as an SVG file, in the page's light colours on white.

    Args:
        chart: Vega-Lite in the page's colours, as :func:`themed` makes it.
        width: of what it plots, in pixels; axes and room for names come on top.
    """
    light = dict(re.findall(r"--([a-z]+): light-dark\((#[0-9a-f]+),", (FOLDER / "style.css").read_text("utf-8")))
    config = {**chart["config"], "background": "white", "font": "sans-serif"}
    text = json.dumps(plain({**chart, "config": config, "width": width, "autosize": "pad"}), allow_nan=False)
    in_light = re.sub(r"var\(--([a-z]+)\)", lambda found: light.get(found[1], found[0]), text)
    drawn: str = vl_convert.vegalite_to_svg(json.loads(in_light), vl_version=_version())
    names = dict.fromkeys(re.findall(r'id="((?:clip|gradient_)\d+)"', drawn))  # numbered on from picture to picture
    numbers = {name: f"{name.rstrip('0123456789')}{n}" for n, name in enumerate(names)}
    return re.sub(r"(?:clip|gradient_)\d+", lambda found: numbers.get(found[0], found[0]), drawn)


def pictures(
    folder: Path, figures: Mapping[str, Figure], known: Iterable[str], kinds: Sequence[str] = ("svg",)
) -> list[Path]:
    """Each figure as ``NAME.svg`` or ``NAME.png``, or both, each in one step; returns the files.

    Args:
        folder: where they go.
        figures: by name.
        known: all names that figures have had; an earlier run's pictures of those not in ``figures`` are removed.
        kinds: ``svg``, ``png``.
    """
    written = []
    for name, of_it in figures.items():
        drawn = of_it.picture()
        for kind in kinds:
            written.append(folder / f"{name}.{kind}")
            if kind == "svg":
                write_whole(written[-1], vl_convert.vegalite_to_svg(drawn, vl_version=_version()))
            else:
                write_whole(written[-1], vl_convert.vegalite_to_png(drawn, vl_version=_version(), scale=2))
    for name in set(known) - figures.keys():
        for kind in kinds:
            (folder / f"{name}.{kind}").unlink(missing_ok=True)
    return written


def _specification(chart: Any) -> dict[str, Any]:
    with alt.data_transformers.disable_max_rows():
        specification: dict[str, Any] = chart.to_dict()
    return specification


@functools.cache
def _script(*names: str) -> str:
    """The charts' library and the page's own scripts, as one."""
    own = "\n".join((FOLDER / name).read_text("utf-8") for name in names)
    bundle: str = vl_convert.javascript_bundle(own, vl_version=_version())
    assert "</script" not in bundle, "the bundle ends its own element"
    return bundle


def _version() -> str:
    """Altair's version of Vega-Lite, as vl-convert names it."""
    return "_".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _cell(value: str | float | Interval | None) -> str:
    """A table's cell; an interval is in small letters under its value."""
    if value is None or isinstance(value, str):
        return "-" if value is None else value
    if not isinstance(value, Interval):
        return significant(value)
    ends = Markup(" <small>[{}, {}]</small>").format(significant(value.low), significant(value.high))
    return Markup("{}").format(significant(value.value)) + (ends if value.low == value.low else "")
