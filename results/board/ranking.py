"""Leaderboards: edits of one model, scored on the same items, in order of their split scores.

A rank is 1 + the number of edits whose whole interval lies above this one's, so that edits whose intervals overlap
with the best one's share the first: the approximate ranking of arXiv 2403.04132 (Chatbot Arena), here with intervals of
each edit by itself. The base and the controls stand in rows of their own and have no rank.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..records.record import Record
from ..statistics.paired import Change, Interval, Key
from ..views.terminal import TITLES

if TYPE_CHECKING:
    import pandas as pd

Cell = Interval | float
SAME = ("model", "weights", "suite", "fingerprint", "split", "limit", "dtype", "code")
"""What the records of one table have in common."""
HEADLINES = ("acc", "strict", "perplexity")
"""The metric that stands for an axis: the first of these that it has, else its first."""
RECITED = ("recitation", "quotes", "twins")
PHASES = ("curvature", "edit", "suite")
KINDS = ("base", "edit", "control")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of figures.

    Attributes:
        key: what it is called in data.
        title: what it is called in tables.
        better: ``higher``, ``lower``, or nothing.
        digits: after the point; ``None`` shows three that count.
        main: whether it is shown unless all are asked for.
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
        """A number of this column as text; a hyphen for none."""
        return figure(value) if self.digits is None or not math.isfinite(value) else f"{value:.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of a table.

    Attributes:
        kind: one of :data:`KINDS`.
        rank: ``None`` where it has none.
        record: that it is from; the base's is that of the newest edit.
        mark: what tells it from others of its spec, whose weights are others; may be empty.
        cells: by column; figures that it has not are left out.
        axes: what is left of each axis, of what the base has above guessing (recitation: of what it recites).
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
        return "" if self.kind == "base" else "+".join(step["name"] for step in self.record.content["steps"])

    def score(self) -> Interval:
        """The split score; nan where it has none."""
        cell = self.cells.get("split_score")
        return cell if isinstance(cell, Interval) else Interval(value=math.nan, low=math.nan, high=math.nan)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A table.

    Attributes:
        about: :data:`SAME`, of all its records.
        entries: base, edits in their order, controls.
        columns: of figures, those that any entry has.
        older: ids of records left out, for the same edit has a newer one.
    """

    about: dict[str, Any]
    entries: list[Entry]
    columns: list[Column]
    older: list[str]

    @property
    def title(self) -> str:
        """What is compared, in words."""
        about = self.about
        first = f", first {about['limit']} items of each task" if about["limit"] else ""
        return f"{about['model']}: suite {about['suite']}, {about['split']} part{first}"

    @property
    def details(self) -> str:
        """What else tells this table from another."""
        about = self.about
        code = f", scoring code {about['code'][:12]}" if about["code"] else ""
        return f"fingerprint {about['fingerprint']}, weights {about['weights'][:12]}, {about['dtype']}{code}"

    @property
    def note(self) -> str:
        """What was left out; may be empty."""
        n = len(self.older)
        return f"{n} older record{'s' if n > 1 else ''} of edits that have a newer one left out." if n else ""

    def of(self, kind: str) -> list[Entry]:
        """The entries of a kind."""
        return [entry for entry in self.entries if entry.kind == kind]

    def shown(self, all_columns: bool) -> list[Column]:
        """The columns that a table shows."""
        return [column for column in self.columns if all_columns or column.main]

    def frame(self) -> pd.DataFrame:
        """A row an entry: what it is, figures, ``KEY_low`` and ``KEY_high`` where there are intervals, its record."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        intervals = {key for entry in self.entries for key, cell in entry.cells.items() if isinstance(cell, Interval)}
        for entry in self.entries:
            row = {**self.about, "kind": entry.kind, "rank": entry.rank, "edit": entry.spec, "method": entry.method}
            for key in (column.key for column in self.columns):
                cell = entry.cells.get(key, math.nan)
                row[key] = cell.value if isinstance(cell, Interval) else cell
                if key in intervals:
                    row[f"{key}_low"], row[f"{key}_high"] = (
                        (cell.low, cell.high) if isinstance(cell, Interval) else (math.nan, math.nan)
                    )
            content = entry.record.content
            own = entry.kind != "base"
            row |= {name: content[key] if own else "" for name, key in (("record", "id"), ("command", "command"))}
            rows.append({**row, "created": content["created"] if own else ""})
        return pd.DataFrame(rows).astype({"rank": "Int64", "limit": "Int64"})


def boards(records: Iterable[Record]) -> list[Board]:
    """The tables of some records, one for each of :data:`SAME` that they have; of an edit's records the newest counts.

    Args:
        records: oldest first, as a store lists them.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for found in records:
        groups.setdefault(tuple(_about(found).values()), []).append(found)
    tables = [_board(of_one) for of_one in groups.values()]
    return sorted(tables, key=lambda board: _place(board.about))


def ranks(scores: Sequence[Interval]) -> list[int | None]:
    """1 + how many of the others have an interval that lies wholly above; ``None`` for a score that is not finite."""
    known = [score for score in scores if math.isfinite(score.value)]
    return [
        1 + sum(other.low > score.high for other in known) if math.isfinite(score.value) else None for score in scores
    ]


def figure(value: float) -> str:
    """A number with three figures that count; a hyphen for none."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    return (
        f"{value:.3f}"
        if size < 10
        else f"{value:.1f}"
        if size < 100
        else f"{value:.0f}"
        if size < 1e5
        else f"{value:.2e}"
    )


def _about(found: Record) -> dict[str, Any]:
    content = found.content
    return {
        name: content["arguments"].get(name) if name in ("split", "limit") else content.get(name, "") for name in SAME
    }


def _place(about: Mapping[str, Any]) -> tuple[object, ...]:
    """Model by model; the test part first, and what was asked in full."""
    limit = about["limit"] or math.inf
    return about["model"], about["suite"], about["split"] != "test", -limit, about["fingerprint"], about["weights"]


def _board(records: Sequence[Record]) -> Board:
    newest = {_edit(found): found for found in records}
    older = [found.id for found in records if newest[_edit(found)] is not found]
    times = Counter(spec for spec, _ in newest)
    edits: list[Entry] = []
    controls: list[Entry] = []
    for found in newest.values():
        (controls if found.is_control else edits).append(_entry(found, _mark(found) if times[found.spec] > 1 else ""))
    ranked = [
        dataclasses.replace(entry, rank=rank)
        for entry, rank in zip(edits, ranks([entry.score() for entry in edits]), strict=True)
    ]
    base = Entry(kind="base", record=records[-1], cells=dict(_headlines(records[-1].content["base"])))
    entries = [base, *sorted(ranked, key=_order), *sorted(controls, key=_order)]
    found_keys = {key for entry in entries for key in entry.cells}
    columns = [column for column in _columns(records) if column.key in found_keys]
    return Board(about=_about(records[0]), entries=entries, columns=columns, older=older)


def _order(entry: Entry) -> tuple[float, float, float, str]:
    """By rank, then by score, then by perplexity; what has none last."""
    value, ratio = entry.score().value, entry.cells.get("perplexity_ratio")
    ppl = ratio.value if isinstance(ratio, Interval) and not math.isnan(ratio.value) else math.inf
    return math.inf if entry.rank is None else entry.rank, math.inf if math.isnan(value) else -value, ppl, entry.spec


def _edit(found: Record) -> tuple[str, str]:
    """A spec may make other weights of other curvature."""
    return found.spec, str(found.content["edited_weights"])


def _mark(found: Record) -> str:
    tokens = found.content["arguments"].get("factor_tokens")
    return f"{tokens or 'all'} factor tokens, {found.id.rpartition('-')[2][:6]}"


def _entry(found: Record, mark: str) -> Entry:
    content, summary = found.content, found.summary
    changes = found.changes
    left = {axis: of_it for axis in content["axes"] if (of_it := _left(content, changes, summary, axis))}
    kept = {f"{axis}_kept": of_it for axis, of_it in left.items() if axis not in RECITED}
    seconds = found.seconds
    cells: dict[str, Cell] = {
        **kept,
        **summary,
        **dict(_headlines(content["axes"])),
        **_size(found),
        **{f"seconds_{phase}": value for phase, value in seconds.items()},
        "seconds": sum(seconds.values()),
    }
    return Entry(kind="control" if found.is_control else "edit", record=found, mark=mark, cells=cells, axes=left)


def _left(
    content: Mapping[str, Any], changes: Mapping[Key, Change], summary: Mapping[str, Interval], axis: str
) -> Interval | None:
    """The share of an axis that is left: 1 - what was removed, what was kept, or what its headline retained."""
    if axis == "recitation" and (removed := summary.get("recitation_removed")):
        return Interval(value=1 - removed.value, low=1 - removed.high, high=1 - removed.low)
    if axis in RECITED:
        return None
    change = changes.get((axis, _headline(content["axes"][axis])))
    return summary.get(f"{axis}_kept") or (change.retained if change else None)


def _headline(metrics: Iterable[str]) -> str:
    known = list(metrics)
    return next((name for name in HEADLINES if name in known), known[0])


def _headlines(axes: Mapping[str, Mapping[str, float | None]]) -> Iterator[tuple[str, float]]:
    for axis, metrics in axes.items():
        name = _headline(metrics)
        value = metrics[name]
        yield f"{axis}/{name}", math.nan if value is None else value


def _size(found: Record) -> dict[str, Cell]:
    """The share of components removed, all matrices together, and the mean over matrices of ‖W - W'‖ / ‖W‖."""
    matrices = found.content["matrices"]
    if math.isnan(found.components_removed):
        return {}
    norm = sum(matrix["removed_norm"] for matrix in matrices) / len(matrices)
    return {"components_removed": found.components_removed, "norm_removed": norm}


def _columns(records: Sequence[Record]) -> list[Column]:
    """All that there may be, in order."""
    axes: dict[str, str] = {}
    for found in records:
        for axis, metrics in found.content["axes"].items():
            axes.setdefault(axis, _headline(metrics))
    kept = [f"{axis}_kept" for axis in axes if axis not in ("logic", *RECITED)]
    return [
        Column(key="split_score", title=TITLES["split_score"], better="higher", main=True),
        Column(key="recitation_removed", title=TITLES["recitation_removed"], better="higher", main=True),
        Column(key="logic_kept", title=TITLES["logic_kept"], better="higher", main=True),
        *(_axis_column(axis, metric) for axis, metric in axes.items()),
        Column(key="perplexity_ratio", title=TITLES["perplexity_ratio"], better="lower", main=True),
        *(Column(key=key, title=TITLES.get(key, key.replace("_", " ")), better="higher") for key in kept),
        Column(key="components_removed", title="components removed", main=True),
        Column(key="norm_removed", title="norm removed"),
        Column(key="seconds", title="seconds", digits=1, main=True),
        *(Column(key=f"seconds_{phase}", title=f"{phase}, s", digits=1) for phase in PHASES),
    ]


def _axis_column(axis: str, metric: str) -> Column:
    words, lower = axis.replace("_", " "), metric == "perplexity" or axis in ("recitation", "quotes")
    title = metric if metric == "perplexity" else words if metric == "acc" else f"{words} {metric.replace('_', ' ')}"
    better = "higher" if metric == "acc" else "lower" if lower else ""
    return Column(key=f"{axis}/{metric}", title=title, better=better, main=axis not in ("twins", "fluency"))
