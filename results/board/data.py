"""Leaderboards as data: a data frame, CSV and JSON, with every strength and every number in full."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import pandas as pd

from ..records.encoding import plain
from ..records.schema import Interval
from .table import Board, BoardRow, Cell, Strength

RULE = (
    "Rank: 1 + the number of methods whose split score is above this one's with the whole 95 % interval of the paired "
    "difference; equal ranks cannot be told apart here. Base and controls have none."
)


def csv(boards: Sequence[Board]) -> str:
    """One table of all boards, every number in full."""
    return str(frame(boards).to_csv(index=False))


def frame(boards: Sequence[Board]) -> pd.DataFrame:
    """Every figure of the boards.

    Returns:
        First a row for each row of the boards, at the ``level`` of a method; then one for each strength. Each has what
        it is, its metrics, ``KEY_low`` and ``KEY_high`` of those with intervals, and its records.
    """
    if not boards:
        return pd.DataFrame()
    frames = [_frame(board, level).astype(object) for level in ("method", "strength") for board in boards]
    whole = pd.concat(frames, ignore_index=True)
    last = ["record", "command", "created"]
    return whole[[*(name for name in whole if name not in last), *last]]


def _frame(board: Board, level: str) -> pd.DataFrame:
    """The rows of a level."""
    about = {**msgspec.structs.asdict(board.about), "attacks": " ".join(board.about.attacks), "level": level}
    intervals = {
        key
        for row in board.rows
        for cells in (row.cells, *(each.cells for each in row.strengths))
        for key, cell in cells.items()
        if isinstance(cell, Interval)
    }
    rows: list[dict[str, Any]] = []
    for row in board.rows:
        if level == "method":
            rows.append({**about, **_about(row, row.chosen), **_numbers(board, intervals, row.cells)})
        elif row.kind != "base":
            rows += [{**about, **_about(row, each), **_numbers(board, intervals, each.cells)} for each in row.strengths]
    made = pd.DataFrame(rows or [{**about, **_about(board.rows[0], None), **_numbers(board, intervals, {})}])
    return made.astype({"rank": "Int64", "limit": "Int64"}).iloc[: len(rows)]


def _about(row: BoardRow, strength: Strength | None) -> dict[str, Any]:
    """What a row of :func:`frame` says beside figures."""
    known = strength if row.kind != "base" else None
    return {
        "kind": row.kind,
        "rank": row.rank if known is not None and known is row.chosen else None,
        "name": row.name,
        "strength": known.label if known else "",
        "edit": known.spec if known else row.name,
        "method": row.method,
        "chosen": int(known is not None and known is row.chosen),
        "dev_split_score": known.dev if known else math.nan,
        "record": " ".join(record.id for record in known.records) if known else "",
        "command": known.records[0].content.command if known else "",
        "created": known.records[0].content.created if known else "",
    }


def _numbers(board: Board, intervals: Collection[str], cells: Mapping[str, Cell]) -> dict[str, float]:
    """The figures of all columns; nan for what there is not."""
    values = {}
    for key in (column.key for column in board.columns):
        cell = cells.get(key, math.nan)
        values[key] = cell.value if isinstance(cell, Interval) else cell
        if key in intervals:
            ends = (cell.low, cell.high) if isinstance(cell, Interval) else (math.nan, math.nan)
            values |= dict(zip((f"{key}_low", f"{key}_high"), ends, strict=True))
    return values


def as_json(boards: Sequence[Board]) -> str:
    """All tables with their columns and rows, every number in full."""
    return json.dumps(plain({"rule": RULE, "boards": [_object(board) for board in boards]}), indent=2) + "\n"


def _object(board: Board) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(board.about),
        "older": board.older,
        "warnings": board.warnings,
        "remarks": board.remarks,
        "columns": [{"key": c.key, "title": c.title, "better": c.better} for c in board.columns],
        "entries": [_entry(row) for row in board.rows],
    }


def _entry(row: BoardRow) -> dict[str, Any]:
    """A row with its strengths, weakest first."""
    entry: dict[str, Any] = {
        "kind": row.kind,
        "rank": row.rank,
        "name": row.name,
        "edit": row.spec,
        "method": row.method,
        "figures": row.cells,
    }
    if row.kind == "base":
        return entry
    if row.chosen:
        entry |= {"strength": row.chosen.label, "record": row.record.id, "command": row.record.content.command}
    strengths = [
        {
            "edit": each.spec,
            "strength": each.label,
            "chosen": each is row.chosen,
            "dev_split_score": each.dev,
            "records": [record.id for record in each.records],
            "figures": each.cells,
        }
        for each in row.strengths
    ]
    return {**entry, "strengths": strengths}
