"""Leaderboards as text: on a terminal, Markdown, CSV, LaTeX, JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pandas as pd
from rich.box import HORIZONTALS
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ..records.encoding import plain
from ..records.schema import Interval
from .table import Board, BoardRow, Column

RULE = (
    "Rank: 1 + the number of edits whose whole interval (95 %) lies above this one's; equal ranks cannot be told apart "
    "here. Base and controls have none."
)

WIDE = 140
"""Columns of a terminal that have room for all."""
SHORT = {
    "recitation_removed": "removed",
    "perplexity_ratio": "ppl ratio",
    "components_removed": "parts removed",
    "seconds": "s",
}
"""Titles where room is scarce."""


def terminal(boards: Sequence[Board], all_columns: bool, width: int) -> Group:
    """Tables for a rich console; a narrow one leaves out the axes' own metrics, unless ``all_columns`` is set."""
    parts: list[Any] = []
    for board in boards:
        columns = board.shown(all_columns)
        if not all_columns and width < WIDE:
            columns = [column for column in columns if "/" not in column.key]
        table = Table(
            title=f"[bold]{escape(board.title)}[/bold]\n{escape(board.details)}",
            title_justify="left",
            title_style="",
            box=HORIZONTALS,
            padding=(0, 1, 0, 0),
        )
        table.add_column("rank", justify="right", no_wrap=True)
        table.add_column("edit", overflow="fold")
        for column in columns:
            heading = dataclasses.replace(column, title=SHORT.get(column.key, column.title)).heading
            table.add_column(
                "\n".join(textwrap.wrap(heading, 8, break_long_words=False)), justify="right", no_wrap=True
            )
        for _, rows in board.by_kind():
            for row in rows:
                cells = ("\n".join(_brief(row, column, all_columns)) for column in columns)
                table.add_row(_rank(row), escape(_name(row)), *cells)
            table.add_section()
        parts += [table, *([escape(board.note)] if board.note else []), ""]
    return Group(*parts, RULE)


def markdown(boards: Sequence[Board], all_columns: bool) -> str:
    """Tables in the Markdown of GitHub and of the Hugging Face hub, each under a heading."""
    text = ""
    for board in boards:
        columns = board.shown(all_columns)
        rows = [
            [_rank(row), _plain_markdown(_name(row)), *(" ".join(_parts(row, column)) for column in columns)]
            for row in board.rows
        ]
        lines = [["rank", "edit", *(column.heading for column in columns)], ["--:", "---", *("--:" for _ in columns)]]
        text += f"## {_plain_markdown(board.title)}\n\n{_plain_markdown(board.details)}\n\n"
        text += "".join(f"| {' | '.join(cells)} |\n" for cells in [*lines, *rows])
        text += f"\n{board.note}\n\n" if board.note else "\n"
    return text + RULE + "\n"


def csv(boards: Sequence[Board]) -> str:
    """One table of all boards, every number in full."""
    return str(frame(boards).to_csv(index=False))


def frame(boards: Sequence[Board]) -> pd.DataFrame:
    """A row for each row of the boards: what it is, metrics, ``KEY_low`` and ``KEY_high`` of intervals, its record."""
    if not boards:
        return pd.DataFrame()
    whole = pd.concat([_frame(board).astype(object) for board in boards], ignore_index=True)
    last = ["record", "command", "created"]
    return whole[[*(name for name in whole if name not in last), *last]]


def _frame(board: Board) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    intervals = {key for row in board.rows for key, cell in row.cells.items() if isinstance(cell, Interval)}
    about, missing = msgspec.structs.asdict(board.about), Interval(value=math.nan, low=math.nan, high=math.nan)
    for row in board.rows:
        values = {**about, "kind": row.kind, "rank": row.rank, "edit": row.spec, "method": row.method}
        for key in (column.key for column in board.columns):
            cell = row.cells.get(key, math.nan)
            values[key] = cell.value if isinstance(cell, Interval) else cell
            if key in intervals:
                ends = cell if isinstance(cell, Interval) else missing
                values |= {f"{key}_low": ends.low, f"{key}_high": ends.high}
        content, has_own = row.record.content, row.kind != "base"
        own = {"record": content.id, "command": content.command, "created": content.created}
        rows.append({**values, **{name: value if has_own else "" for name, value in own.items()}})
    return pd.DataFrame(rows).astype({"rank": "Int64", "limit": "Int64"})


def latex(boards: Sequence[Board], all_columns: bool) -> str:
    r"""``table`` environments for LaTeX with ``\usepackage{booktabs}``."""
    text = "% needs \\usepackage{booktabs}\n"
    for n, board in enumerate(boards, 1):
        text += _latex(board, all_columns, f"tab:memsplit-{n}") + "\n"
    return text


def as_json(boards: Sequence[Board]) -> str:
    """All tables with their columns and rows, every number in full."""
    return json.dumps(plain({"rule": RULE, "boards": [_object(board) for board in boards]}), indent=2) + "\n"


WRITERS: dict[str, Callable[[Sequence[Board], bool], str]] = {
    "markdown": markdown,
    "csv": lambda boards, _: csv(boards),
    "latex": latex,
    "json": lambda boards, _: as_json(boards),
}
"""What writes boards in each text format, by its name; the flag asks for every column, not the main ones alone."""


def _object(board: Board) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(board.about),
        "older": board.older,
        "columns": [{"key": c.key, "title": c.title, "better": c.better} for c in board.columns],
        "entries": [
            {
                "kind": row.kind,
                "rank": row.rank,
                "edit": row.spec,
                "method": row.method,
                "figures": row.cells,
                **({"record": row.record.id, "command": row.record.content.command} if row.method else {}),
            }
            for row in board.rows
        ],
    }


def _latex(board: Board, all_columns: bool, label: str) -> str:
    columns = board.shown(all_columns)
    rows = [
        [_rank(row), _name(row), *(" ".join(_brief(row, column, all_columns)) for column in columns)]
        for row in board.rows
    ]
    styler = pd.DataFrame(rows, columns=["rank", "edit", *(column.heading for column in columns)]).style
    styler = styler.hide(axis="index").format(escape="latex").format_index(_latex_heading, axis="columns")
    written: str = styler.to_latex(
        hrules=True,
        column_format="rl" + "r" * len(columns),
        position="tbp",
        position_float="centering",
        caption=_escaped_latex(f"{board.title} ({board.details}). {board.note}".strip()),
        label=label,
    )
    lines = written.replace("-∞", r"$-\infty$").replace("∞", r"$\infty$").splitlines()
    start = lines.index(r"\midrule") + 1
    for _, of_kind in reversed(board.by_kind()[1:]):
        lines.insert(start + board.rows.index(of_kind[0]), r"\midrule")
    return "\n".join(lines) + "\n"


def _latex_heading(text: str) -> str:
    for arrow, command in (("↑", r"$\uparrow$"), ("↓", r"$\downarrow$")):
        if text.endswith(arrow):
            return _escaped_latex(text.removesuffix(arrow)) + command
    return _escaped_latex(text)


def _escaped_latex(text: str) -> str:
    special = {c: f"\\{c}" for c in "&%$#_{}"} | {
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
    return "".join(special.get(c, c) for c in text)


def _plain_markdown(text: str) -> str:
    """``text`` with every character escaped that means something to Markdown or to a browser."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", text)


def _name(row: BoardRow) -> str:
    return f"{row.spec} (control)" if row.kind == "control" else row.spec


def _rank(row: BoardRow) -> str:
    return "" if row.kind != "edit" else "-" if row.rank is None else str(row.rank)


def _parts(row: BoardRow, column: Column) -> list[str]:
    """The metric as text, and its interval if it has one."""
    cell = row.cells.get(column.key)
    return ["-"] if cell is None else shown(cell, column)


def _brief(row: BoardRow, column: Column, all_columns: bool) -> list[str]:
    """As :func:`_parts`, where room is scarce: only the split score has its interval."""
    parts = _parts(row, column)
    return parts if all_columns or column.key == "split_score" else parts[:1]


def shown(cell: Interval | float, column: Column) -> list[str]:
    """A cell's value as text, and its interval if it has one."""
    if not isinstance(cell, Interval):
        return [column.show(cell)]
    value = column.show(cell.value)
    return [value] if value == "-" else [value, f"[{column.show(cell.low)}, {column.show(cell.high)}]"]
