"""Leaderboards as text: on a terminal, Markdown, CSV, LaTeX, JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..records.record import plain
from ..statistics.paired import Interval
from .ranking import Board, Column, Entry

if TYPE_CHECKING:
    from rich.console import Group

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
    """Tables for a console of rich; in a narrow one the axes' own figures are left out, unless all are asked for."""
    from rich.box import HORIZONTALS
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    found: list[Any] = []
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
        for _, rows in _by_kind(board):
            for entry in rows:
                cells = ("\n".join(_brief(entry, column, all_columns)) for column in columns)
                table.add_row(_rank(entry), escape(_name(entry)), *cells)
            table.add_section()
        found += [table, *([escape(board.note)] if board.note else []), ""]
    return Group(*found, RULE)


def markdown(boards: Sequence[Board], all_columns: bool) -> str:
    """Tables of GitHub's and the hub's Markdown, each under a heading."""
    text = ""
    for board in boards:
        columns = board.shown(all_columns)
        rows = [
            [_rank(entry), _plain_markdown(_name(entry)), *(" ".join(_parts(entry, column)) for column in columns)]
            for entry in board.entries
        ]
        lines = [["rank", "edit", *(column.heading for column in columns)], ["--:", "---", *("--:" for _ in columns)]]
        text += f"## {_plain_markdown(board.title)}\n\n{_plain_markdown(board.details)}\n\n"
        text += "".join(f"| {' | '.join(cells)} |\n" for cells in [*lines, *rows])
        text += f"\n{board.note}\n\n" if board.note else "\n"
    return text + RULE + "\n"


def csv(boards: Sequence[Board]) -> str:
    """One table of all: every figure in full, a row an entry."""
    import pandas as pd

    frames = [board.frame() for board in boards]
    whole = pd.concat([frame.astype(object) for frame in frames], ignore_index=True)
    last = ["record", "command", "created"]
    return str(whole[[*(name for name in whole if name not in last), *last]].to_csv(index=False))


def latex(boards: Sequence[Board], all_columns: bool) -> str:
    r"""``table`` environments for LaTeX with ``\usepackage{booktabs}``."""
    text = "% needs \\usepackage{booktabs}\n"
    for n, board in enumerate(boards, 1):
        text += _latex(board, all_columns, f"tab:memsplit-{n}") + "\n"
    return text


def as_json(boards: Sequence[Board]) -> str:
    """All of it: each table with its columns and entries."""
    return json.dumps(plain({"rule": RULE, "boards": [_object(board) for board in boards]}), indent=2) + "\n"


def _object(board: Board) -> dict[str, Any]:
    return {
        **board.about,
        "older": board.older,
        "columns": [{"key": c.key, "title": c.title, "better": c.better} for c in board.columns],
        "entries": [
            {
                "kind": entry.kind,
                "rank": entry.rank,
                "edit": entry.spec,
                "method": entry.method,
                "figures": {
                    key: vars(cell) if isinstance(cell, Interval) else cell for key, cell in entry.cells.items()
                },
                **({"record": entry.record.id, "command": entry.record.content["command"]} if entry.method else {}),
            }
            for entry in board.entries
        ],
    }


def _latex(board: Board, all_columns: bool, label: str) -> str:
    import pandas as pd

    columns = board.shown(all_columns)
    rows = [
        [_rank(entry), _name(entry), *(" ".join(_brief(entry, column, all_columns)) for column in columns)]
        for entry in board.entries
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
    for _, of_kind in reversed([(kind, list(rows)) for kind, rows in _by_kind(board)][1:]):
        lines.insert(start + board.entries.index(of_kind[0]), r"\midrule")
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
    """So that no character of it means anything to Markdown or to a browser."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", text)


def _by_kind(board: Board) -> Iterable[tuple[str, Iterable[Entry]]]:
    return groupby(board.entries, key=lambda entry: entry.kind)


def _name(entry: Entry) -> str:
    return f"{entry.spec} (control)" if entry.kind == "control" else entry.spec


def _rank(entry: Entry) -> str:
    return "" if entry.kind != "edit" else "-" if entry.rank is None else str(entry.rank)


def _parts(entry: Entry, column: Column) -> list[str]:
    """The figure, and its interval if it has one."""
    cell = entry.cells.get(column.key)
    if cell is None:
        return ["-"]
    return shown(cell, column)


def _brief(entry: Entry, column: Column, all_columns: bool) -> list[str]:
    """The same where room is scarce: the split score's interval alone."""
    parts = _parts(entry, column)
    return parts if all_columns or column.key == "split_score" else parts[:1]


def shown(cell: Interval | float, column: Column) -> list[str]:
    """A cell's figure as text, and its interval if it has one."""
    if not isinstance(cell, Interval):
        return [column.show(cell)]
    value = column.show(cell.value)
    return [value] if value == "-" else [value, f"[{column.show(cell.low)}, {column.show(cell.high)}]"]
