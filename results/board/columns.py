"""The columns of a table, and what a strength has in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..records.axes import FLUENCY, LOGIC, PASSAGES, QUOTES, RECITATION, headline
from ..records.record import Record
from ..records.schema import BEFORE_MEMORY, Interval, Metrics
from ..statistics.paired import SPLIT_SCORE
from ..views.format import TITLES
from .table import Cell, Column

READ_AT = {"reasoning_at_50": 0.5, "reasoning_at_90": 0.9}
"""Columns of the reasoning that a method keeps where so much stays erased, read off its curve."""
MOST, LEAD, LEAD_AT = "most_erased", "lead", "lead_at"
"""Columns of the most that stays erased on a method's curve, of its lead over the random control, and of the stays
erased at which that is read off."""
PHASES = ("curvature", "edit", "suite")


def cells(draws: Sequence[Record], figures: Mapping[str, Interval]) -> dict[str, Cell]:
    """What a strength has in the columns.

    Args:
        draws: its records. What is no summary metric is the mean over them, without an interval.
        figures: its summary metrics.
    """
    kept = {f"{axis}_kept": share for axis, share in axes(draws, figures).items() if axis not in PASSAGES}
    each = [dict(_plain(record)) for record in draws]
    plain = {name: _mean([one[name] for one in each]) for name in each[0] if all(name in one for one in each)}
    return {**kept, **figures, **plain, "draws": float(len(draws))}


def of_base(record: Record) -> dict[str, Cell]:
    """What the base has in the columns."""
    return dict(_headlines(record.content.base))


def axes(draws: Sequence[Record], figures: Mapping[str, Interval]) -> dict[str, Interval]:
    """By axis, the share that is left: 1 - what was removed, what was kept, or its headline's normalized score."""
    return {axis: share for axis in draws[0].content.edited if (share := _left(draws, figures, axis))}


def _left(draws: Sequence[Record], figures: Mapping[str, Interval], axis: str) -> Interval | None:
    if axis == RECITATION and (removed := figures.get("recitation_removed")):
        return Interval(value=1 - removed.value, low=1 - removed.high, high=1 - removed.low)
    if axis in PASSAGES:
        return None
    if kept := figures.get(f"{axis}_kept"):
        return kept
    changes = [record.changes.get((axis, headline(record.content.edited[axis]))) for record in draws]
    shares = [change.normalized for change in changes if change and change.normalized]
    if len(shares) in (0, 1):
        return shares[0] if shares else None
    return Interval(value=_mean([share.value for share in shares]), low=math.nan, high=math.nan)


def _plain(record: Record) -> Iterator[tuple[str, float]]:
    """What a record has that is no summary metric."""
    yield from _headlines(record.content.edited)
    matrices = record.content.matrices
    if not math.isnan(record.components_removed):  # of all matrices together; and the mean of ‖W - W'‖ / ‖W‖
        yield "components_removed", record.components_removed
        yield "norm_removed", sum(matrix.removed_norm for matrix in matrices) / len(matrices)
    seconds = record.seconds
    yield from ((f"seconds_{phase}", value) for phase, value in seconds.items())
    yield "seconds", sum(seconds.values())


def _headlines(metrics: Metrics) -> Iterator[tuple[str, float]]:
    for axis, of_axis in metrics.items():
        name = headline(of_axis)
        yield f"{axis}/{name}", of_axis[name]


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else float(np.mean(values))


def columns(records: Sequence[Record]) -> list[Column]:
    """All columns that these records may fill, in order."""
    headlines: dict[str, str] = {}
    for record in records:
        for axis, metrics in record.content.edited.items():
            headlines.setdefault(axis, headline(metrics))
    attacked = any("stays_erased" in record.summary for record in records)
    kept = [f"{axis}_kept" for axis in headlines if axis not in (LOGIC, FLUENCY, *PASSAGES)]
    return [
        Column(key="split_score", title=TITLES["split_score"], better="higher", main=True),
        *(Column(key=key, title=TITLES[key], better="higher", main=True) for key in ("stays_erased", *SPLIT_SCORE[1:])),
        *(
            Column(key=key, title=f"at {100 * share:.0f} % erased", better="higher", main=True)
            for key, share in READ_AT.items()
        ),
        Column(key=LEAD, title="lead over random", better="higher", main=True),
        Column(key=LEAD_AT, title="lead read off at"),
        Column(key=MOST, title="most that stays erased", better="higher"),
        Column(key="knowledge_kept", title=TITLES["knowledge_kept"], better="higher", main=True),
        *(Column(key=key, title=TITLES[key]) for key in ("net_erased", "erased", "scar", "memory_base", "memory")),
        *(Column(key=key, title=TITLES[key], better="lower") for key in ("ks_shorter", "ks_longer")),
        Column(key=BEFORE_MEMORY, title="silence score", better="higher", main=not attacked),
        Column(key="recitation_removed", title=TITLES["recitation_removed"], better="higher", main=True),
        Column(key="logic_kept", title=TITLES["logic_kept"], better="higher", main=not attacked),
        *(_axis_column(axis, metric) for axis, metric in headlines.items()),
        Column(key="perplexity_ratio", title=TITLES["perplexity_ratio"], better="lower", main=not attacked),
        *(Column(key=key, title=TITLES.get(key, key.replace("_", " ")), better="higher") for key in kept),
        Column(key="draws", title="draws", digits=0, main=True),
        Column(key="components_removed", title="components removed"),
        Column(key="norm_removed", title="norm removed"),
        Column(key="seconds", title="seconds", digits=1, main=True),
        *(Column(key=f"seconds_{phase}", title=f"{phase}, s", digits=1) for phase in PHASES),
    ]


def _axis_column(axis: str, metric: str) -> Column:
    words, lower = axis.replace("_", " "), metric == "perplexity" or axis in (RECITATION, QUOTES)
    title = metric if metric == "perplexity" else words if metric == "acc" else f"{words} {metric.replace('_', ' ')}"
    better = "higher" if metric == "acc" else "lower" if lower else ""
    return Column(key=f"{axis}/{metric}", title=title, better=better)
