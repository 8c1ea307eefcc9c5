"""The leaderboard as one HTML file that asks for nothing outside itself."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..statistics.paired import Change, Interval, Key
from ..views import html_report
from ..views.terminal import p_text, signed
from .formats import RULE, shown
from .ranking import KINDS, Board, Column, Entry, figure

LEAD = (
    "Did a weight edit remove verbatim memorization and leave reasoning alone? Every edit is scored on the same items "
    "as the base model."
)


def html(boards: Sequence[Board], all_columns: bool = False) -> str:
    """The page.

    Args:
        boards: its tables.
        all_columns: show them from the beginning; a reader can show them at any time.
    """
    from markupsafe import Markup

    from . import charts as board_charts

    parts: list[dict[str, Any]] = []
    charts: dict[str, Any] = {}
    for n, board in enumerate(boards, 1):
        name = f"board-{n}"
        frontier, bars = board_charts.frontier(board), board_charts.bars(board)
        charts |= {f"{name}-frontier": frontier} if frontier else {}
        charts |= {f"{name}-bars-{i}": chart for i, (_, chart) in enumerate(bars)}
        parts.append(
            {
                "id": name,
                "board": board,
                "kinds": [kind for kind in KINDS if board.of(kind)],
                "methods": sorted({entry.method for entry in board.entries} - {""}),
                "table": Markup(_table(board, name, all_columns)),  # noqa: S704  its cells are escaped
                "frontier": frontier,
                "bars": bars,
                "records": [_record(board, entry, name) for entry in board.entries if entry.kind != "base"],
            }
        )
    return html_report.render(
        "board.html",
        charts,
        scripts=["board.js"],
        title="memsplit leaderboard",
        lead=LEAD,
        boards=parts,
        rule=RULE,
        all_columns=all_columns,
    )


def _table(board: Board, name: str, all_columns: bool) -> str:
    import pandas as pd
    from markupsafe import escape
    from pandas.io.formats.style import Styler

    columns = {column.key: column for column in board.columns}
    titles = {"rank": "rank", "edit": "edit", **{key: column.heading for key, column in columns.items()}}
    rows = [[entry, entry, *(entry.cells.get(key, math.nan) for key in columns)] for entry in board.entries]
    styler = Styler.from_custom_template([str(html_report.FOLDER)], html_table="table.html")(
        pd.DataFrame(rows, columns=list(titles), dtype=object)
    )
    styler = styler.hide(axis="index").set_caption(str(escape(board.title)))
    styler = styler.format_index(
        lambda key: str(escape(titles[key]).replace(" ↑", "\u00a0↑").replace(" ↓", "\u00a0↓")), axis="columns"
    )
    styler = styler.format(
        {
            "rank": _rank,
            "edit": lambda entry: _edit(entry, name),
            **{key: functools.partial(_cell, column) for key, column in columns.items()},
        }
    )
    classes = ["number", "", *map(_class, columns.values())]
    kinds = [entry.kind for entry in board.entries]
    html: str = styler.to_html(doctype_html=False, classes=classes, kinds=kinds, all_columns=all_columns)
    return html


def _rank(entry: Entry) -> str:
    return "" if entry.kind != "edit" else f'<data value="{entry.rank or ""}">{entry.rank or "-"}</data>'


def _edit(entry: Entry, name: str) -> str:
    from markupsafe import Markup

    if entry.kind == "base":
        return '<span data-edit="base" data-method="">base</span>'
    link = Markup('<a href="#{}" data-edit="{}" data-method="{}">{}</a>{}')
    note = Markup(" <small>control</small>") if entry.kind == "control" else ""
    return str(link.format(_anchor(entry, name), entry.spec, entry.method, html_report.breakable(entry.spec), note))


def _cell(column: Column, cell: Interval | float) -> str:
    """The figure, which sorts by ``value``, and its interval."""
    value = cell.value if isinstance(cell, Interval) else cell
    text, *interval = shown(cell, column)
    data = f'<data value="{"" if math.isnan(value) else repr(float(value))}">{text}</data>'
    return data + "".join(f" <small>{part}</small>" for part in interval)


def _class(column: Column) -> str:
    words = ["number", column.better, "" if column.main else "more", "score" if column.key == "split_score" else ""]
    return " ".join(filter(None, words))


def _anchor(entry: Entry, name: str) -> str:
    """Of a record's section: an edit may stand in several tables, a record in one."""
    return f"{name}-{entry.record.id.rpartition('-')[2]}"


def _record(board: Board, entry: Entry, name: str) -> dict[str, Any]:
    """What a record's section says."""
    content = entry.record.content
    standing = "Control, not ranked" if entry.kind == "control" else f"Rank {entry.rank}" if entry.rank else "No rank"
    summary = []
    for column in board.columns:
        cell = entry.cells.get(column.key)
        if isinstance(cell, Interval):
            text, *interval = shown(cell, column)
            summary.append((column.title, text, "".join(interval)))
    return {
        "id": _anchor(entry, name),
        "name": entry.record.id,
        "spec": entry.spec,
        "standing": standing,
        "command": content["command"],
        "summary": summary,
        "settings": [(key, value) for key, value in _settings(content) if value not in ("", None)],
        "figures": [_figures(key, change) for key, change in entry.record.changes.items()],
        "matrices": [
            (matrix["name"], f"{matrix['kept']:,}", f"{matrix['total']:,}", figure(matrix["removed_norm"]))
            for matrix in content["matrices"]
        ],
    }


def _settings(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "model", content["model"]
    for key in ("pretrained", "revision", "parameters", "weights", "edited_weights", "dtype", "fingerprint"):
        value = content.get(key)
        yield key.replace("_", " "), f"{value:,}" if isinstance(value, int) else value or ""
    for n, step in enumerate(content["steps"], 1):
        name = f"step {n}" if len(content["steps"]) > 1 else "edit"
        yield name, _words({key: value for key, value in step.items() if value is not None})
    for factors in content.get("factors") or ():
        yield (
            "curvature",
            _words({key: factors[key] for key in factors if key in ("corpus", "tokens", "length", "seed")}),
        )
    passed = {key: value for key, value in content["arguments"].items() if value not in (None, False, [], "")}
    yield "arguments", _words(passed)
    yield "tasks", ", ".join(f"{task} ({about['n']})" for task, about in content["tasks"].items())
    yield "not asked", ", ".join(skipped["task"] for skipped in content.get("skipped") or ())
    yield "seconds", _words({phase: round(value, 1) for phase, value in content["seconds"].items()})
    yield "hardware", _words(content.get("hardware") or {})
    yield "versions", _words(content["versions"])
    yield "created", content["created"]


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {'+'.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for key, value in values.items()
    )


def _figures(key: Key, change: Change) -> tuple[str, ...]:
    axis, metric = key
    kept = figure(change.retained.value) if change.retained else "-"
    sides = (figure(change.base), figure(change.edited), signed(change), kept)
    return axis.replace("_", " "), metric, *sides, p_text(change.p_holm), str(change.n)
