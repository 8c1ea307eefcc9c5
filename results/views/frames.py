"""Records as data frames, and as the short tables that a notebook or an interpreter shows."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ..records.record import Record
from ..records.schema import Change, Interval, Key
from ..statistics.compare import Comparison
from .format import within

COLUMNS = ["edit", "axis", "metric", "base", "edited", "change", "low", "high", "p", "n"]
SUMMARY = ("split_score", "erased", "stays_erased", "reasoning_kept", "fluency_kept", "recitation_removed")
"""The summary figures of a short table."""


def tidy(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each edit, axis and metric.

    Returns:
        The columns ``COLUMNS``: the edit's spec; the axis; the metric; its value for the base model and for the edited
        one; ``change``, edited - base, with the 95 % interval ``low`` to ``high``; its two-sided ``p``, not corrected
        for the number of metrics; and ``n``, the number of items.
    """
    rows = [row for record in records for row in _rows(record.spec, record.changes)]
    return pd.DataFrame(rows, columns=COLUMNS)


def compared(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """The same for edits against another edit: ``base`` is the first side's value, ``edited`` the other side's."""
    rows = [row for one in comparisons for row in _rows(one.other.label, one.changes)]
    return pd.DataFrame(rows, columns=COLUMNS)


def brief(summaries: Iterable[tuple[str, Mapping[str, Interval]]]) -> pd.DataFrame:
    """One row for each (edit, summary figures): the figures of ``SUMMARY`` as text, each with its 95 % interval."""
    return pd.DataFrame(
        [{"edit": edit, **{_title(name): _cell(summary.get(name)) for name in SUMMARY}} for edit, summary in summaries],
        columns=["edit", *map(_title, SUMMARY)],
    )


def as_text(title: str, table: pd.DataFrame) -> str:
    """A title and a table for an interpreter."""
    return f"{title}\n{table.to_string(index=False)}" if len(table) else f"{title}\nno records"


def as_html(title: str, table: pd.DataFrame) -> str:
    """The same for a notebook; every character of names and specs is text."""
    shown = table.to_html(index=False, escape=True, border=0, justify="left")
    return f'<p>{html.escape(title)}</p><div style="overflow-x: auto; white-space: nowrap">{shown}</div>'


def _rows(edit: str, changes: Mapping[Key, Change]) -> Sequence[tuple[object, ...]]:
    return [
        (edit, axis, metric, one.base, one.edited, one.value, one.low, one.high, one.p, one.n)
        for (axis, metric), one in changes.items()
    ]


def _title(name: str) -> str:
    return name.replace("_", " ")


def _cell(interval: Interval | None) -> str:
    return "-" if interval is None else within(interval)
