"""A leaderboard's table: columns, and a row for the base, for each edit and for each control."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from ..records.record import Record
from ..records.schema import Interval
from ..views.format import significant

Cell = Interval | float
KINDS = ("base", "edit", "control")


class Setting(Struct, frozen=True, kw_only=True):
    """What the records of one table have in common; only these are comparable (see ``records.schema.Evaluation``)."""

    model: str
    weights: str
    suite: str
    fingerprint: str
    split: str
    limit: int | None
    dtype: str
    code: str

    @classmethod
    def of(cls, record: Record) -> Setting:
        """The setting of a record."""
        content = record.content
        return msgspec.convert({**msgspec.structs.asdict(content.arguments), **msgspec.structs.asdict(content)}, cls)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of metrics.

    Attributes:
        key: its name in data.
        title: its name in tables.
        better: ``higher`` or ``lower``; empty where neither is better.
        digits: after the point; ``None`` shows three significant ones.
        main: whether a table shows it by default.
    """

    key: str
    title: str
    better: str = ""
    digits: int | None = None
    main: bool = False

    @property
    def heading(self) -> str:
        """The title, and an arrow to where it is better."""
        return self.title + {"higher": " ↑", "lower": " ↓", "": ""}[self.better]

    def show(self, value: float) -> str:
        """A number of this column as text; a hyphen for nan."""
        return significant(value) if self.digits is None or not math.isfinite(value) else f"{value:.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class BoardRow:
    """A row of a table.

    Attributes:
        kind: one of :data:`KINDS`.
        rank: ``None`` where it has none.
        record: its record; the base's is that of the newest edit.
        mark: what distinguishes it from others of its spec that have other weights; may be empty.
        cells: by column; metrics that it does not have are left out.
        axes: by axis, the share that is left of what the base has above guessing (recitation: of what it recites).
    """

    kind: str
    rank: int | None = None
    record: Record
    mark: str = ""
    cells: dict[str, Cell]
    axes: dict[str, Interval] = field(default_factory=dict)

    @property
    def spec(self) -> str:
        """The edit, with its mark; ``base``."""
        return "base" if self.kind == "base" else self.record.spec + (f" ({self.mark})" if self.mark else "")

    @property
    def method(self) -> str:
        """The names of its steps."""
        return "" if self.kind == "base" else self.record.content.method

    def score(self) -> Interval:
        """The split score; nan where there is none."""
        cell = self.cells.get("split_score")
        return cell if isinstance(cell, Interval) else Interval(value=math.nan, low=math.nan, high=math.nan)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A table.

    Attributes:
        about: what all its records have in common.
        rows: the base, edits by rank, controls.
        columns: those in which any row has a metric.
        older: ids of the records that are left out because the same edit has a newer one.
    """

    about: Setting
    rows: list[BoardRow]
    columns: list[Column]
    older: list[str]

    @property
    def title(self) -> str:
        """What is compared, in words."""
        about = self.about
        first = f", first {about.limit} items of each task" if about.limit else ""
        return f"{about.model}: suite {about.suite}, {about.split} part{first}"

    @property
    def details(self) -> str:
        """What else distinguishes this table from another."""
        about = self.about
        code = f", scoring code {about.code[:12]}" if about.code else ""
        return f"fingerprint {about.fingerprint}, weights {about.weights[:12]}, {about.dtype}{code}"

    @property
    def note(self) -> str:
        """What was left out; may be empty."""
        n = len(self.older)
        return f"{n} older record{'s' if n > 1 else ''} of edits that have a newer one left out." if n else ""

    def of(self, kind: str) -> list[BoardRow]:
        """The rows of a kind."""
        return [row for row in self.rows if row.kind == kind]

    def by_kind(self) -> list[tuple[str, list[BoardRow]]]:
        """The rows of each kind that there is, in order."""
        return [(kind, rows) for kind in KINDS if (rows := self.of(kind))]

    def shown(self, all_columns: bool) -> list[Column]:
        """The columns that a table shows."""
        return [column for column in self.columns if all_columns or column.main]
