"""A leaderboard's table: columns, and a row for the base, for each method and for each control."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from ..records.record import Record
from ..records.schema import Interval
from ..statistics.draws import Replicates
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
    attacks: tuple[str, ...] = ()
    unseen: str = ""

    @classmethod
    def of(cls, record: Record) -> Setting:
        """The setting of a record."""
        content = record.content
        given = {**msgspec.structs.asdict(content.arguments), **msgspec.structs.asdict(content)}
        attacks = tuple(sorted(attack.spec for attack in record.attacks))
        unseen = content.reference.weights if content.reference else ""
        return msgspec.convert({**given, "attacks": attacks, "unseen": unseen}, cls)

    @property
    def apart_from_items(self) -> Setting:
        """The setting without what differs between dev and test: in both, an edit is the same edit."""
        return msgspec.structs.replace(self, split="", fingerprint="")


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
class Strength:
    """A strength of a method.

    Attributes:
        spec: the edit's canonical spec; without its seeds where there are several draws.
        label: the strength in short, such as ``80 %``; empty where it has no number.
        records: its draws, at least one.
        cells: by column; metrics that it does not have are left out. Of several draws it is their mean.
        axes: by axis, the share that is left of what the base has above guessing (recitation: of what it recites).
        dev: the split score on dev, the mean over the draws that were scored there; nan where none was.
        on_curve: whether the method's curve goes through it: on dev no other strength beats it, nor does the base.
        replicates: of its summary metrics, over items and draws; empty where nothing is compared by them.
    """

    spec: str
    label: str
    records: tuple[Record, ...]
    cells: dict[str, Cell]
    axes: dict[str, Interval] = field(default_factory=dict)
    dev: float = math.nan
    on_curve: bool = True
    replicates: Replicates = field(default_factory=dict, repr=False)

    def score(self) -> Interval:
        """The split score; nan where there is none."""
        cell = self.cells.get("split_score")
        return cell if isinstance(cell, Interval) else Interval(value=math.nan, low=math.nan, high=math.nan)


@dataclass(frozen=True, kw_only=True)
class BoardRow:
    """A row of a table: the base, a method with its target matrices, or a control.

    Attributes:
        kind: one of :data:`KINDS`.
        rank: ``None`` where it has none.
        name: the method with its words and target matrices (see ``board.methods``); ``base``.
        strengths: weakest first, by what stays erased; the base's is that of the newest edit's base.
        chosen: the strength that stands for the method; ``None`` where none was chosen.
        cells: by column: the chosen strength's, and what is read off the curve of all.
    """

    kind: str
    rank: int | None = None
    name: str
    strengths: tuple[Strength, ...]
    chosen: Strength | None
    cells: dict[str, Cell]

    @property
    def spec(self) -> str:
        """The spec of the chosen strength; the method's name where none is chosen."""
        return self.name if self.chosen is None or self.kind == "base" else self.chosen.spec

    @property
    def method(self) -> str:
        """The names of its steps."""
        return "" if self.kind == "base" else self.record.content.method

    @property
    def record(self) -> Record:
        """The chosen strength's record, or that of its first draw; the weakest strength's where none is chosen."""
        return (self.chosen or self.strengths[0]).records[0]

    @property
    def axes(self) -> dict[str, Interval]:
        """By axis, the share that the chosen strength leaves (see :class:`Strength`)."""
        return self.chosen.axes if self.chosen else {}

    @property
    def label(self) -> str:
        """The chosen strength in short; of how many none was chosen."""
        return self.chosen.label if self.chosen else f"none of {len(self.strengths)} chosen"

    def score(self) -> Interval:
        """The chosen strength's split score; nan where there is none."""
        return self.chosen.score() if self.chosen else Interval(value=math.nan, low=math.nan, high=math.nan)

    def edits(self) -> list[tuple[str, dict[str, Cell]]]:
        """Spec and cells of what stands for the row: of each strength where none is chosen."""
        return [(self.spec, self.cells)] if self.chosen else [(each.spec, each.cells) for each in self.strengths]

    def lines(self) -> list[tuple[str, str, dict[str, Cell]]]:
        """Name, strength and cells of the lines that a text shows: all strengths where none is chosen."""
        of_all = [] if self.chosen else [("", each.label, each.cells) for each in self.strengths]
        return [(self.name, self.label, self.cells), *of_all]


@dataclass(frozen=True, kw_only=True)
class Board:
    """A table.

    Attributes:
        about: what all its records have in common.
        rows: the base, methods by rank, controls.
        columns: those in which any row has a metric.
        older: ids of the records that are left out because the same edit has a newer one.
        dev: the records of dev that strengths were chosen by.
        warnings: what speaks against the order of the methods; each a sentence.
        remarks: how strengths were chosen, and what is missing; each a sentence.
    """

    about: Setting
    rows: list[BoardRow]
    columns: list[Column]
    older: list[str]
    dev: tuple[Record, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What is compared, in words."""
        about = self.about
        first = f", first {about.limit} items of each task" if about.limit else ""
        attacks = "" if about.attacks else ", without attacks"
        return f"{about.model}: suite {about.suite}, {about.split} part{first}{attacks}"

    @property
    def details(self) -> str:
        """What else distinguishes this table from another."""
        about = self.about
        code = f", scoring code {about.code[:12]}" if about.code else ""
        attacks = f", attacks {' '.join(about.attacks)}" if about.attacks else ""
        unseen = f", unseen counterpart {about.unseen[:12]}" if about.unseen else ""
        return f"fingerprint {about.fingerprint}, weights {about.weights[:12]}, {about.dtype}{code}{attacks}{unseen}"

    @property
    def note(self) -> str:
        """What a reader of the table must know: warnings, remarks, and what was left out; may be empty."""
        n = len(self.older)
        left = f"{n} older record{'s' if n > 1 else ''} of edits that have a newer one left out." if n else ""
        return " ".join(filter(None, [*self.warnings, *self.remarks, left]))

    @property
    def records(self) -> list[Record]:
        """All records that the table is made of, each once."""
        shown = [record for row in self.rows for strength in row.strengths for record in strength.records]
        return list({record.id: record for record in [*shown, *self.dev]}.values())

    def of(self, kind: str) -> list[BoardRow]:
        """The rows of a kind."""
        return [row for row in self.rows if row.kind == kind]

    def by_kind(self) -> list[tuple[str, list[BoardRow]]]:
        """The rows of each kind that there is, in order."""
        return [(kind, rows) for kind in KINDS if (rows := self.of(kind))]

    def shown(self, all_columns: bool) -> list[Column]:
        """The columns that a table shows."""
        return [column for column in self.columns if all_columns or column.main]
