"""Which of many edits is chosen, and which are on the Pareto front between memory and reasoning."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import hmean

from ..records import record
from ..records.axes import KEPT
from ..records.record import Record
from ..records.schema import Interval
from .paired import SPLIT_SCORE, Paired, differences

_DIAL = re.compile(r"@[0-9.]+(?=\+|$)")
TIE = 0.02
"""The most by which a split score may be below another that it ties with. (With few items, intervals alone would make
all tie.)"""
_FAR = 1e9
"""By how much a metric that is not known misses its bound."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The parts of a record that a choice depends on.

    Attributes:
        spec: the edit's canonical spec.
        path: the record's.
        summary: its summary metrics.
        control: whether other edits are measured against it; such an edit is not chosen.
        removed: the share of components that its matrices lost; nan where the record has no components.
        dials: the dial of each step.
        seconds: that curvature, edit and suite took.
    """

    spec: str
    path: Path
    summary: Mapping[str, Interval]
    control: bool
    removed: float
    dials: tuple[float, ...]
    seconds: float

    @classmethod
    def of(cls, entry: Record) -> Row:
        """The row of a record."""
        return cls(
            spec=entry.spec,
            path=entry.path,
            summary=entry.summary,
            control=entry.is_control,
            removed=entry.components_removed,
            dials=entry.content.dials,
            seconds=sum(entry.seconds.values()),
        )

    def metric(self, name: str) -> float:
        """A summary metric's value, nan where there is none."""
        return self.summary[name].value if name in self.summary else math.nan

    @property
    def kept(self) -> float:
        """The mean of what is kept of each scored axis of ``axes.KEPT``, clipped to 0..1; nan where none was scored."""
        shares = [self.metric(f"{axis}_kept") for axis in KEPT]
        known = [min(max(share, 0.0), 1.0) for share in shares if not math.isnan(share)]
        return sum(known) / len(known) if known else math.nan

    @property
    def curve(self) -> tuple[str, float] | None:
        """The spec without its dial, and the dial; ``None`` for a chain whose steps have different ones."""
        return (_DIAL.sub("", self.spec), self.dials[0]) if len(set(self.dials)) == 1 else None

    def replicates(self) -> dict[str, np.ndarray]:
        """The bootstrap replicates of its summary metrics, from the record's items (see ``Paired``)."""
        return Paired.of(record.read(self.path)).summary_replicates()


def paired_difference(first: Row, other: Row) -> dict[str, Interval]:
    """First - other of each summary metric, paired: both edits are of the same items and seed."""
    return differences(first.replicates(), other.replicates())


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The limits that a chosen edit must be within.

    Attributes:
        max_perplexity_ratio: the highest perplexity(edit) / perplexity(base).
        min_kept: by axis of ``axes.KEPT``, the least share that is kept.
    """

    max_perplexity_ratio: float = 2.0
    min_kept: Mapping[str, float] = field(default_factory=dict)

    def excess(self, row: Row) -> dict[str, float]:
        """By how much each bound is missed: above 0 where it is. A metric that is not known misses its bound by far."""
        missed = {"perplexity_ratio": row.metric("perplexity_ratio") - self.max_perplexity_ratio}
        missed |= {f"{axis}_kept": least - row.metric(f"{axis}_kept") for axis, least in self.min_kept.items()}
        return {name: value if math.isfinite(value) else _FAR for name, value in missed.items()}

    def hold(self, row: Row) -> bool:
        """Whether a row is within all of them."""
        return max(self.excess(row).values()) <= 0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The edit that is chosen.

    Attributes:
        row: of the chosen edit; ``None`` where no edit is within the bounds.
        tied: the specs that tie with the highest split score, that one and the chosen one among them.
        why: the reason in words.
        silent: the spec that would have been chosen by silence alone (see :func:`silence_score`); ``None`` for none.
    """

    row: Row | None
    tied: tuple[str, ...]
    why: str
    silent: str | None = None


def dominated(values_nm: np.ndarray) -> np.ndarray:
    """For each of n rows, whether another is as good in all m columns, where more is better, and better in one.

    A row with a nan is not dominated, and dominates no other.
    """
    as_good_nn = np.all(values_nm[None] >= values_nm[:, None], axis=2)
    better_nn = np.any(values_nm[None] > values_nm[:, None], axis=2)
    return np.asarray(np.any(as_good_nn & better_nn, axis=1))


def pareto_front(rows: Sequence[Row]) -> list[bool]:
    """For each row, whether no other is as good in every part of the split score and better in one.

    A control, and a row that lacks one of the metrics, is not on the front, and dominates no other.
    """
    values_nm = np.array([[row.metric(name) for name in SPLIT_SCORE] for row in rows]).reshape(-1, len(SPLIT_SCORE))
    known_n = np.isfinite(values_nm).all(axis=1) & np.array([not row.control for row in rows], bool)
    on_front: list[bool] = (known_n & ~dominated(np.where(known_n[:, None], values_nm, np.nan))).tolist()
    return on_front


def choose(rows: Iterable[Row], bounds: Bounds) -> Choice:
    """The edit with the highest split score of those within the bounds, controls left out.

    Edits tie with the highest where their split scores are at most ``TIE`` below it and the paired 95 % interval of the
    difference reaches 0. Of those, the one of the lowest perplexity ratio (in steps of 0.01) is chosen; then of the
    highest ``Row.kept``, then of the fewest components removed, then the first by spec.
    """
    known = [row for row in rows if not (row.control or math.isnan(row.metric("split_score")))]
    fit = [row for row in known if bounds.hold(row)]
    if not fit:
        return Choice(row=None, tied=(), why=_none(known, bounds))
    silent = max(fit, key=lambda row: (silence_score(row), row.spec))
    best = min(fit, key=lambda row: (-row.metric("split_score"), *_preference(row)))
    tied = _tied(best, fit)
    chosen = min(tied, key=_preference)
    why = f"its split score is the highest of the {len(fit)} of {len(known)} edits within the bounds"
    if len(tied) > 1:
        why = (
            f"{len(tied)} of the {len(fit)} edits within the bounds tie with the highest split score "
            f"({best.metric('split_score'):.3f}, {best.spec}); of those it has the lowest perplexity ratio, in steps "
            "of 0.01, and then keeps the most over all axes"
        )
    return Choice(row=chosen, tied=tuple(row.spec for row in tied), why=why, silent=silent.spec)


def silence_score(row: Row) -> float:
    """The harmonic mean of recitation removed and logic kept, each clipped to 0..1; -1 where one is not known.

    It was the split score until memory was measured: an edit that changes one token of each passage reaches 1.
    """
    score = float(hmean(np.clip([row.metric(name) for name in ("recitation_removed", "logic_kept")], 0, 1)))
    return -1.0 if math.isnan(score) else score


def worst_last(row: Row) -> tuple[bool, float]:
    """A sort key: by split score, the highest first and rows without one last."""
    score = row.metric("split_score")
    return math.isnan(score), -score


def _preference(row: Row) -> tuple[float, float, float, str]:
    kept, removed = (0.0 if math.isnan(value) else value for value in (row.kept, row.removed))
    return round(row.metric("perplexity_ratio"), 2), -kept, removed, row.spec


def _tied(best: Row, fit: Sequence[Row]) -> list[Row]:
    """The best row, and those near it whose paired difference from it may be 0; only the items of these are read."""
    replicates, least = best.replicates(), best.metric("split_score") - TIE
    near = [row for row in fit if row.metric("split_score") >= least]
    return [row for row in near if row is best or not differences(replicates, row.replicates())["split_score"].low > 0]


def _none(known: Sequence[Row], bounds: Bounds) -> str:
    if not known:
        return "no edit has a split score"
    nearest = min(known, key=lambda row: max(bounds.excess(row).values()))
    missed = {name: value for name, value in bounds.excess(nearest).items() if value > 0}
    figures = {name: nearest.metric(name) for name in missed}
    told = {name: f"{value:.3f}" if abs(value) < 1e5 else f"{value:.2e}" for name, value in figures.items()}
    values = ", ".join(f"{name.replace('_', ' ')} {text.replace('nan', '-')}" for name, text in told.items())
    return f"none of {len(known)} edits is within the bounds; the nearest is {nearest.spec}, with {values}"
