"""Leaderboards: edits of one model, scored on the same items, in order of their split scores.

A rank is 1 + the number of edits whose whole interval lies above this one's, so that edits whose intervals overlap
with the best one's share the first: the approximate ranking of arXiv 2403.04132 (Chatbot Arena), here with intervals of
each edit by itself. The base and the controls stand in rows of their own and have no rank.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from ..records.axes import FLUENCY, LOGIC, PASSAGES, QUOTES, RECITATION, TWINS, headline
from ..records.record import Record
from ..records.schema import Interval, Metrics
from ..statistics.paired import SPLIT_SCORE
from ..views.format import TITLES
from .table import Board, BoardRow, Cell, Column, Setting

PHASES = ("curvature", "edit", "suite")


def boards(records: Iterable[Record]) -> list[Board]:
    """The tables of some records, one for each setting; of several records of an edit the newest is taken.

    Args:
        records: oldest first, as a store lists them.
    """
    groups: dict[Setting, list[Record]] = {}
    for record in records:
        groups.setdefault(Setting.of(record), []).append(record)
    tables = [_board(of_one) for of_one in groups.values()]
    return sorted(tables, key=lambda board: _place(board.about))


def ranks(scores: Sequence[Interval]) -> list[int | None]:
    """1 + how many of the others have an interval that lies wholly above; ``None`` for a score that is not finite."""
    known = [score for score in scores if math.isfinite(score.value)]
    return [
        1 + sum(other.low > score.high for other in known) if math.isfinite(score.value) else None for score in scores
    ]


def _place(about: Setting) -> tuple[object, ...]:
    """A sort key: model by model; the test part first, and whole tasks before their first items."""
    limit = about.limit or math.inf
    return about.model, about.suite, about.split != "test", -limit, about.fingerprint, about.weights


def _board(records: Sequence[Record]) -> Board:
    newest = {_edit(record): record for record in records}
    older = [record.id for record in records if newest[_edit(record)] is not record]
    times = Counter(spec for spec, _ in newest)
    edits: list[BoardRow] = []
    controls: list[BoardRow] = []
    for record in newest.values():
        mark = _mark(record) if times[record.spec] > 1 else ""
        (controls if record.is_control else edits).append(_row(record, mark))
    ranked = [
        dataclasses.replace(row, rank=rank)
        for row, rank in zip(edits, ranks([row.score() for row in edits]), strict=True)
    ]
    base = BoardRow(kind="base", record=records[-1], cells=dict(_headlines(records[-1].content.base)))
    rows = [base, *sorted(ranked, key=_order), *sorted(controls, key=_order)]
    keys = {key for row in rows for key in row.cells}
    columns = [column for column in _columns(records) if column.key in keys]
    return Board(about=Setting.of(records[0]), rows=rows, columns=columns, older=older)


def _order(row: BoardRow) -> tuple[float, float, float, str]:
    """A sort key: by rank, then by score, then by perplexity; rows without them last."""
    value, ratio = row.score().value, row.cells.get("perplexity_ratio")
    ppl = ratio.value if isinstance(ratio, Interval) and not math.isnan(ratio.value) else math.inf
    return math.inf if row.rank is None else row.rank, math.inf if math.isnan(value) else -value, ppl, row.spec


def _edit(record: Record) -> tuple[str, str]:
    """What makes two records of one edit: a spec makes other weights of other curvature."""
    return record.spec, record.content.edited_weights


def _mark(record: Record) -> str:
    return f"{record.content.arguments.factor_tokens or 'all'} factor tokens, {record.id.rpartition('-')[2][:6]}"


def _row(record: Record, mark: str) -> BoardRow:
    left = {axis: share for axis in record.content.edited if (share := _left(record, axis))}
    kept = {f"{axis}_kept": share for axis, share in left.items() if axis not in PASSAGES}
    seconds = record.seconds
    cells: dict[str, Cell] = {
        **kept,
        **record.summary,
        **dict(_headlines(record.content.edited)),
        **_size(record),
        **{f"seconds_{phase}": value for phase, value in seconds.items()},
        "seconds": sum(seconds.values()),
    }
    return BoardRow(kind="control" if record.is_control else "edit", record=record, mark=mark, cells=cells, axes=left)


def _left(record: Record, axis: str) -> Interval | None:
    """The share of an axis that is left: 1 - what was removed, what was kept, or its headline's normalized score."""
    if axis == RECITATION and (removed := record.summary.get("recitation_removed")):
        return Interval(value=1 - removed.value, low=1 - removed.high, high=1 - removed.low)
    if axis in PASSAGES:
        return None
    change = record.changes.get((axis, headline(record.content.edited[axis])))
    return record.summary.get(f"{axis}_kept") or (change.normalized if change else None)


def _headlines(axes: Metrics) -> Iterator[tuple[str, float]]:
    for axis, metrics in axes.items():
        name = headline(metrics)
        yield f"{axis}/{name}", metrics[name]


def _size(record: Record) -> dict[str, Cell]:
    """The share of components removed, all matrices together, and the mean over matrices of ‖W - W'‖ / ‖W‖."""
    matrices = record.content.matrices
    if math.isnan(record.components_removed):
        return {}
    norm = sum(matrix.removed_norm for matrix in matrices) / len(matrices)
    return {"components_removed": record.components_removed, "norm_removed": norm}


def _columns(records: Sequence[Record]) -> list[Column]:
    """All columns that these records may fill, in order."""
    axes: dict[str, str] = {}
    for record in records:
        for axis, metrics in record.content.edited.items():
            axes.setdefault(axis, headline(metrics))
    kept = [f"{axis}_kept" for axis in axes if axis not in (LOGIC, *PASSAGES)]
    return [
        Column(key="split_score", title=TITLES["split_score"], better="higher", main=True),
        *(Column(key=key, title=TITLES[key], better="higher", main=True) for key in (*SPLIT_SCORE, "knowledge_kept")),
        *(Column(key=key, title=TITLES[key]) for key in ("erased", "scar", "memory_base", "memory")),
        *(Column(key=key, title=TITLES[key], better="lower") for key in ("ks_shorter", "ks_longer")),
        Column(key="recitation_removed", title=TITLES["recitation_removed"], better="higher", main=True),
        Column(key="logic_kept", title=TITLES["logic_kept"], better="higher"),
        *(_axis_column(axis, metric) for axis, metric in axes.items()),
        Column(key="perplexity_ratio", title=TITLES["perplexity_ratio"], better="lower", main=True),
        *(Column(key=key, title=TITLES.get(key, key.replace("_", " ")), better="higher") for key in kept),
        Column(key="components_removed", title="components removed", main=True),
        Column(key="norm_removed", title="norm removed"),
        Column(key="seconds", title="seconds", digits=1, main=True),
        *(Column(key=f"seconds_{phase}", title=f"{phase}, s", digits=1) for phase in PHASES),
    ]


def _axis_column(axis: str, metric: str) -> Column:
    words, lower = axis.replace("_", " "), metric == "perplexity" or axis in (RECITATION, QUOTES)
    title = metric if metric == "perplexity" else words if metric == "acc" else f"{words} {metric.replace('_', ' ')}"
    better = "higher" if metric == "acc" else "lower" if lower else ""
    return Column(key=f"{axis}/{metric}", title=title, better=better, main=axis not in (TWINS, FLUENCY))
