"""The leaderboard as one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from ..records.record import Record
from ..records.schema import Change, Interval, Key, RecordContent
from ..statistics.paired import SPLIT_SCORE
from ..views import html_report
from ..views.format import p_value, signed, significant
from . import charts as board_charts
from .formats import RULE, shown
from .methods import Place
from .table import Board, BoardRow, Cell, Column, Strength

LEAD = (
    "Did a weight edit remove verbatim memorization and leave reasoning alone? Every edit is scored on the same items "
    "as the base model, before and after attempts to bring the memory back."
)
FOLDED = (
    "split_score",
    "stays_erased",
    *SPLIT_SCORE,
    "knowledge_kept",
    "silence_score",
    "recitation_removed",
    "perplexity_ratio",
    "draws",
)
"""Columns of the strengths that fold out under a method."""
WIDTH = 640
"""Width of the picture's plot in a file of its own, in pixels."""


def html(boards: Sequence[Board], all_columns: bool = False) -> str:
    """The page.

    Args:
        boards: its tables.
        all_columns: show them from the beginning; a reader can show them at any time.
    """
    parts: list[dict[str, Any]] = []
    charts: dict[str, Any] = {}
    for n, board in enumerate(boards, 1):
        name = f"board-{n}"
        picture, bars = board_charts.picture(board), board_charts.bars(board)
        charts |= {f"{name}-frontier": picture} if picture else {}
        charts |= {f"{name}-bars-{i}": chart for i, (_, chart) in enumerate(bars)}
        parts.append(
            {
                "id": name,
                "board": board,
                "kinds": [kind for kind, _ in board.by_kind()],
                "methods": sorted({row.method for row in board.rows} - {""}),
                **_table(board, name),
                "picture": picture,
                "bars": bars,
                "records": [
                    _record(board, row, strength, record, name)
                    for row in board.rows
                    if row.kind != "base"
                    for strength in row.strengths
                    for record in strength.records
                ],
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


def svg(boards: Sequence[Board], all_columns: bool = False) -> str | None:
    """The picture of the first table that has one, as an SVG file; ``None`` where none has."""
    pictures = filter(None, map(board_charts.picture, boards))
    return next((html_report.svg(picture, WIDTH) for picture in pictures), None)


def _table(board: Board, name: str) -> dict[str, Any]:
    """Headings with their classes, and for each kind its rows, as cells and strengths, for ``table.html``."""
    headings = [column.heading.replace(" ↑", "\u00a0↑").replace(" ↓", "\u00a0↓") for column in board.columns]
    classes = ["number", "", "", *map(_class, board.columns)]
    folded = [column for column in board.columns if column.key in FOLDED]
    return {
        "columns": list(zip(["rank", "method", "strength", *headings], classes, strict=True)),
        "main": len(board.shown(False)) + 3,
        "folded": ["strength", *(column.heading for column in folded), "split score on dev", "records"],
        "rows": [
            (kind, [(_cells(row, board.columns, name), _strengths(row, folded, name)) for row in rows])
            for kind, rows in board.by_kind()
        ],
    }


def _cells(row: BoardRow, columns: Sequence[Column], name: str) -> list[str]:
    rank = Markup('<data value="{}">{}</data>').format(row.rank or "", row.rank or "-")
    label = Markup("<span>{}</span>").format(row.label)
    metrics = (_cell(column, row.cells) for column in columns)
    return [rank if row.kind == "edit" else "", _edit(row, name), label, *metrics]


def _strengths(row: BoardRow, columns: Sequence[Column], name: str) -> dict[str, Any]:
    """What folds out under a row: its strengths, the chosen one marked."""
    return {
        "name": row.name,
        "open": row.chosen is None,
        "draws": max(len(each.records) for each in row.strengths),
        "rows": [
            [
                _label(each.label or "-", each is row.chosen and len(row.strengths) > 1),
                *(_cell(column, each.cells) for column in columns),
                significant(each.dev),
                _links(each, name),
            ]
            for each in row.strengths
            if row.kind != "base"
        ],
    }


def _label(text: str, chosen: bool) -> Markup:
    return Markup("{}{}").format(text, Markup(" <small>chosen on dev</small>") if chosen else "")


def _links(strength: Strength, name: str) -> Markup:
    """A link to each draw's record, named by its seeds."""
    link = Markup('<a href="#{}">{}</a>')
    return Markup(", ").join(
        link.format(_anchor(record, name), ", ".join(Place.of(record).draw) or "record") for record in strength.records
    )


def _edit(row: BoardRow, name: str) -> Markup:
    if row.kind == "base":
        return Markup('<span data-edit="base" data-method="">base</span>')
    link = Markup('<a href="#{}" data-edit="{}" data-method="{}">{}</a>{}')
    note = Markup(" <small>control</small>") if row.kind == "control" else ""
    return link.format(_anchor(row.record, name), row.name, row.method, html_report.breakable(row.name), note)


def _cell(column: Column, cells: Mapping[str, Cell]) -> Markup:
    """The value, which sorts by ``value``, and its interval."""
    cell = cells.get(column.key, math.nan)
    value = cell.value if isinstance(cell, Interval) else cell
    text, *interval = shown(cells, column)
    data = Markup('<data value="{}">{}</data>').format("" if math.isnan(value) else repr(float(value)), text)
    return data + Markup("").join(Markup(" <small>{}</small>").format(part) for part in interval)


def _class(column: Column) -> str:
    words = ["number", column.better, "" if column.main else "more", "score" if column.key == "split_score" else ""]
    return " ".join(filter(None, words))


def _anchor(record: Record, name: str) -> str:
    """The anchor of a record's section: an edit may be in several tables, a record is in one."""
    return f"{name}-{record.id.rpartition('-')[2]}"


def _record(board: Board, row: BoardRow, strength: Strength, record: Record, name: str) -> dict[str, Any]:
    """What a record's section says; of one of several draws, the figures are its own."""
    content = record.content
    rank = "Control, not ranked" if row.kind == "control" else f"Rank {row.rank}" if row.rank else "No rank"
    standing = rank if strength is row.chosen else "Not the strength that stands for its method"
    own = strength.cells if len(strength.records) == 1 else record.summary
    summary = []
    for column in board.columns:
        if isinstance(own.get(column.key), Interval):
            text, *interval = shown(own, column)
            summary.append((column.title, text, "".join(interval)))
    return {
        "id": _anchor(record, name),
        "name": record.id,
        "spec": record.spec,
        "standing": standing,
        "command": content.command,
        "summary": summary,
        "settings": [(key, value) for key, value in _settings(content) if value not in ("", None)],
        "figures": [_metric(key, change) for key, change in record.changes.items()],
        "matrices": [
            (matrix.name, f"{matrix.kept:,}", f"{matrix.total:,}", significant(matrix.removed_norm))
            for matrix in content.matrices
        ],
    }


def _settings(content: RecordContent) -> Iterator[tuple[str, Any]]:
    yield "model", content.model
    yield "pretrained", content.pretrained
    yield "revision", content.revision
    yield "parameters", "" if content.parameters is None else f"{content.parameters:,}"
    for key in ("weights", "edited_weights", "dtype", "fingerprint"):
        yield key.replace("_", " "), getattr(content, key)
    for n, step in enumerate(content.steps, 1):
        name = f"step {n}" if len(content.steps) > 1 else "edit"
        yield name, _words({key: value for key, value in step.items() if value is not None})
    for factors in content.factors:
        shown_keys = ("corpus", "tokens", "length", "seed")
        yield "curvature", _words({key: value for key, value in factors.items() if key in shown_keys})
    arguments = msgspec.structs.asdict(content.arguments)
    yield (
        "arguments",
        _words({key: value for key, value in arguments.items() if value not in (None, False, (), "", msgspec.UNSET)}),
    )
    left_out = {name: f", {task.left_out} too long" if task.left_out else "" for name, task in content.tasks.items()}
    yield "tasks", ", ".join(f"{name} ({task.n}{left_out[name]})" for name, task in content.tasks.items())
    yield "not asked", ", ".join(skipped.task for skipped in content.skipped)
    yield "seconds", _words({phase: round(value, 1) for phase, value in content.seconds.items()})
    yield "hardware", _words(content.hardware)
    yield "versions", _words(content.versions)
    yield "created", content.created


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {'+'.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for key, value in values.items()
    )


def _metric(key: Key, change: Change) -> tuple[str, ...]:
    """The row of a metric in a record's table."""
    axis, metric = key
    kept = significant(change.normalized.value) if change.normalized else "-"
    sides = (significant(change.base), significant(change.edited), signed(change), kept)
    return axis.replace("_", " "), metric, *sides, p_value(change.p_holm), str(change.n)
