"""Leaderboards as text: on a terminal, Markdown, LaTeX, and CSV and JSON (see ``board.data``)."""

from __future__ import annotations

import dataclasses
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.box import HORIZONTALS
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ..records.schema import Interval
from .columns import LEAD, LEAD_AT, MOST, READ_AT
from .data import RULE, as_json, csv, frame
from .table import Board, BoardRow, Cell, Column

__all__ = ["RULE", "WRITERS", "as_json", "csv", "frame", "latex", "markdown", "shown", "terminal"]
NAMED = ("rank", "method", "strength")
"""The columns of a text table that name its lines."""
NOT_REACHED = "not reached,"
WIDE = 140
"""Columns of a terminal that have room for all main figures."""
LAST = ("knowledge_kept", "draws", "seconds")
WIDE_ONLY = (*READ_AT, "recitation_removed", "perplexity_ratio", *LAST)
"""Figures that a narrower one leaves out."""
SHORT = {
    "recitation_removed": "removed",
    "reasoning_at_50": "at 50 %",
    "reasoning_at_90": "at 90 %",
    "lead": "lead",
    "perplexity_ratio": "ppl ratio",
    "components_removed": "parts removed",
    "seconds": "s",
}
"""Titles where room is scarce."""


def terminal(boards: Sequence[Board], all_columns: bool, width: int) -> Group:
    """Tables for a rich console; a narrow one leaves out some columns, unless ``all_columns`` is set."""
    parts: list[Any] = []
    for board in boards:
        columns = board.shown(all_columns)
        if not all_columns and width < WIDE:
            columns = [column for column in columns if column.key not in (WIDE_ONLY if board.about.attacks else LAST)]
        table = Table(
            title=f"[bold]{escape(board.title)}[/bold]\n{escape(board.details)}",
            title_justify="left",
            title_style="",
            box=HORIZONTALS,
            padding=(0, 1, 0, 0),
        )
        table.add_column("rank", justify="right", no_wrap=True)
        table.add_column("method", overflow="fold", min_width=10)
        table.add_column("strength", overflow="fold", min_width=6)
        for column in columns:
            heading = dataclasses.replace(column, title=SHORT.get(column.key, column.title)).heading
            table.add_column(
                "\n".join(textwrap.wrap(heading, 8, break_long_words=False)), justify="right", no_wrap=True
            )
        for _, rows in board.by_kind():
            for words, cells in _lines(rows):
                shown_cells = ("\n".join(_brief(cells, column, all_columns)) for column in columns)
                table.add_row(*map(escape, words), *shown_cells)
            table.add_section()
        parts += [table, *([escape(board.note)] if board.note else []), ""]
    return Group(*parts, RULE)


def markdown(boards: Sequence[Board], all_columns: bool) -> str:
    """Tables in the Markdown of GitHub and of the Hugging Face hub, each under a heading."""
    text = ""
    for board in boards:
        columns = board.shown(all_columns)
        rows = [
            [*map(_plain_markdown, words), *(" ".join(shown(cells, column)) for column in columns)]
            for words, cells in _lines(board.rows)
        ]
        lines = [[*NAMED, *(column.heading for column in columns)], ["--:", "---", "---", *("--:" for _ in columns)]]
        text += f"## {_plain_markdown(board.title)}\n\n{_plain_markdown(board.details)}\n\n"
        text += "".join(f"| {' | '.join(cells)} |\n" for cells in [*lines, *rows])
        text += f"\n{_plain_markdown(board.note)}\n\n" if board.note else "\n"
    return text + RULE + "\n"


def latex(boards: Sequence[Board], all_columns: bool) -> str:
    r"""``table`` environments for LaTeX with ``\usepackage{booktabs}``."""
    text = "% needs \\usepackage{booktabs}\n"
    for n, board in enumerate(boards, 1):
        text += _latex(board, all_columns, f"tab:memsplit-{n}") + "\n"
    return text


WRITERS: dict[str, Callable[[Sequence[Board], bool], str]] = {
    "markdown": markdown,
    "csv": lambda boards, _: csv(boards),
    "latex": latex,
    "json": lambda boards, _: as_json(boards),
}
"""What writes boards in each text format, by its name; the flag asks for every column, not the main ones alone."""


def _latex(board: Board, all_columns: bool, label: str) -> str:
    columns = board.shown(all_columns)
    rows = [
        [*words, *(" ".join(_brief(cells, column, all_columns)) for column in columns)]
        for words, cells in _lines(board.rows)
    ]
    styler = pd.DataFrame(rows, columns=[*NAMED, *(column.heading for column in columns)]).style
    styler = styler.hide(axis="index").format(escape="latex").format_index(_latex_heading, axis="columns")
    written: str = styler.to_latex(
        hrules=True,
        column_format="rll" + "r" * len(columns),
        position="tbp",
        position_float="centering",
        caption=_escaped_latex(f"{board.title} ({board.details}). {board.note}".strip()),
        label=label,
    )
    lines = written.replace("-∞", r"$-\infty$").replace("∞", r"$\infty$").splitlines()
    start = lines.index(r"\midrule") + 1
    for _, of_kind in reversed(board.by_kind()[1:]):
        lines.insert(start + len(_lines(board.rows[: board.rows.index(of_kind[0])])), r"\midrule")
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


def _lines(rows: Sequence[BoardRow]) -> list[tuple[tuple[str, str, str], Mapping[str, Cell]]]:
    """Rank, method and strength of each line of a text table, and its cells."""
    lines: list[tuple[tuple[str, str, str], Mapping[str, Cell]]] = []
    for row in rows:
        (name, label, cells), *others = row.lines()
        lines.append(((_rank(row), f"{name} (control)" if row.kind == "control" else name, label), cells))
        lines += [(("", name, label), cells) for name, label, cells in others]
    return lines


def _rank(row: BoardRow) -> str:
    return "" if row.kind != "edit" else "-" if row.rank is None else str(row.rank)


def _brief(cells: Mapping[str, Cell], column: Column, all_columns: bool) -> list[str]:
    """As :func:`shown`, where room is scarce: only the split score has its interval."""
    parts = shown(cells, column)
    return parts if all_columns or column.key == "split_score" or parts[0] == NOT_REACHED else parts[:1]


def shown(cells: Mapping[str, Cell], column: Column) -> list[str]:
    """A column's metric as text, and its interval if it has one.

    Of what is read off a curve that does not reach so far, how far it goes; of a lead that is read off where the
    control ends, where that is.
    """
    cell = cells.get(column.key)
    if not isinstance(cell, Interval):
        return ["-" if cell is None else column.show(cell)]
    most = cells.get(MOST)
    if math.isnan(cell.value) and column.key in READ_AT and isinstance(most, Interval):
        return [NOT_REACHED, f"at most {column.show(most.value)}"]
    value, at, stays = column.show(cell.value), cells.get(LEAD_AT), cells.get("stays_erased")
    if column.key == LEAD and isinstance(at, float) and isinstance(stays, Interval) and at < stays.value:
        value += f" (at {column.show(at)})"
    has_interval = cell.low == cell.low and value != "-"
    return [value, f"[{column.show(cell.low)}, {column.show(cell.high)}]"] if has_interval else [value]
