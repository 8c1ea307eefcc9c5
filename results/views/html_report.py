"""Pages with charts: one HTML file that asks for nothing outside itself, light or dark as its reader's system is.

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

from ...files import replacing
from ..board.ranking import figure as number
from ..records.record import plain
from ..statistics.paired import Interval

FOLDER = Path(__file__).parent / "page"
INK, MUTED, LINE, ACCENT = "var(--ink)", "var(--muted)", "var(--line)", "var(--accent)"
VIRIDIS = {"name": "viridis", "extent": [0.2, 0.88]}
"""The part of the scheme that shows on white paper and on black."""


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
        told: what they show, for who does not see them.
        panels: each chart by its own title, without a width.
        width: pixels of each in a picture.
        columns: that a picture has.
        table: the same as figures.
    """

    title: str
    told: str
    panels: Mapping[str, Any]
    width: int = 210
    columns: int = 4
    table: Table | None = None

    def picture(self) -> dict[str, Any]:
        """All as one Vega-Lite chart, in colours for white paper."""
        import altair as alt

        single = len(self.panels) == 1
        panels = [
            chart.properties(width=self.width, **({} if single else {"title": title}))
            for title, chart in self.panels.items()
        ]
        room = {"left": 5, "top": 5, "right": 40, "bottom": 5}  # the reader's font may be wider than the one measured
        return _specification(alt.concat(*panels, columns=self.columns, title=self.title, padding=room))

    def on_page(self) -> list[tuple[str, dict[str, Any]]]:
        """Title and Vega-Lite of each, in the page's colours."""
        found = []
        for title, chart in self.panels.items():
            drawn = themed(chart, f"{self.told} {title}").configure_rule(color=MUTED)
            drawn = drawn.configure_legend(
                orient="bottom",
                columns=2,
                labelColor=MUTED,
                titleColor=INK,
                titleFontWeight="normal",
                symbolBaseFillColor=MUTED,
                symbolBaseStrokeColor=MUTED,
            )
            found.append((title, _specification(drawn)))
        return found


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
        lead: what stands under it; text, or markupsafe's ``Markup``, as a section's text may be.
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
        template: of :data:`FOLDER`; its elements with a ``data-chart`` show these.
        charts: Vega-Lite by name.
        scripts: files of :data:`FOLDER` that run after the charts' own.
        values: what the template asks for.
    """
    import jinja2
    from markupsafe import Markup

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
    """JSON that no browser takes for the end of a script; a number that JSON has no word for is null."""
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def themed(chart: Any, told: str) -> Any:
    """The chart in the page's colours, as wide as its place, with a description for who does not see it."""
    import altair as alt

    chart = chart.properties(width="container", description=told, autosize=alt.AutoSizeParams(type="fit-x"))
    chart = chart.configure(background="transparent", font="inherit").configure_view(stroke=None)
    return chart.configure_axis(
        labelColor=MUTED, titleColor=INK, gridColor=LINE, domainColor=LINE, tickColor=LINE, titleFontWeight="normal"
    ).configure_legend(labelColor=MUTED, titleColor=INK, titleFontWeight="normal")


def breakable(spec: str) -> str:
    """An edit's spec as HTML that breaks a line where one of its parts ends."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split("(?<=[:,+])", spec))


def pictures(
    folder: Path, figures: Mapping[str, Figure], known: Iterable[str], kinds: Sequence[str] = ("svg",)
) -> list[Path]:
    """Each figure as ``NAME.svg`` or ``NAME.png``, or both, each in one step; returns the files.

    Args:
        folder: where they go.
        figures: by name.
        known: names that there may be; an earlier run's pictures of those that are not among ``figures`` are removed.
        kinds: ``svg``, ``png``.
    """
    import vl_convert

    written = []
    for name, of_it in figures.items():
        drawn = of_it.picture()
        for kind in kinds:
            written.append(folder / f"{name}.{kind}")
            with replacing(written[-1]) as partial:
                if kind == "svg":
                    partial.write_text(vl_convert.vegalite_to_svg(drawn, vl_version=_version()), encoding="utf-8")
                else:
                    partial.write_bytes(vl_convert.vegalite_to_png(drawn, vl_version=_version(), scale=2))
    for name in set(known) - figures.keys():
        for kind in kinds:
            (folder / f"{name}.{kind}").unlink(missing_ok=True)
    return written


def _specification(chart: Any) -> dict[str, Any]:
    import altair as alt

    with alt.data_transformers.disable_max_rows():
        found: dict[str, Any] = chart.to_dict()
    return found


@functools.cache
def _script(*names: str) -> str:
    """The charts' library and the page's own scripts, as one."""
    import vl_convert

    own = "\n".join((FOLDER / name).read_text("utf-8") for name in names)
    bundle: str = vl_convert.javascript_bundle(own, vl_version=_version())
    assert "</script" not in bundle, "the bundle ends its own element"
    return bundle


def _version() -> str:
    """Altair's version of Vega-Lite, as vl-convert names it."""
    import altair as alt

    return "_".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _cell(value: str | float | Interval | None) -> str:
    """A table's cell; an interval stands in small letters under its figure."""
    from markupsafe import Markup

    if value is None or isinstance(value, str):
        return "-" if value is None else value
    if not isinstance(value, Interval):
        return number(value)
    ends = Markup(" <small>[{}, {}]</small>").format(number(value.low), number(value.high))
    return Markup("{}").format(number(value.value)) + (ends if value.low == value.low else "")
