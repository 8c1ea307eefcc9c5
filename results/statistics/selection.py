"""Which of many edits is chosen, and which are on the frontier between memory and reasoning."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..records import record
from ..records.record import Record
from .paired import KEPT, Interval, Paired, differences

SIGNS = {"recitation_removed": 1, "logic_kept": 1, "perplexity_ratio": -1}
"""The frontier's figures, and whether more of one is better."""
_DIAL = re.compile(r"@[0-9.]+(?=\+|$)")
TIE = 0.02
"""The most by which one split score may be below another that it ties with: of few items, none is told from another."""
_FAR = 1e9
"""By how much a figure that is not known misses its bound."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a choice goes by of one record.

    Attributes:
        spec: the edit, canonically.
        path: the record's.
        summary: its summary figures.
        control: whether it is one that others are measured against, which is not chosen.
        removed: the share of their components that its matrices lost; nan where it says none.
        dials: one a step.
        seconds: that it took.
    """

    spec: str
    path: Path
    summary: Mapping[str, Interval]
    control: bool
    removed: float
    dials: tuple[float, ...]
    seconds: float

    @classmethod
    def of(cls, found: Record) -> Row:
        """The row of a record."""
        return cls(
            spec=found.spec,
            path=found.path,
            summary=found.summary,
            control=found.is_control,
            removed=found.components_removed,
            dials=tuple(step["dial"] for step in found.content["steps"]),
            seconds=sum(found.seconds.values()),
        )

    def figure(self, name: str) -> float:
        """A summary figure's value, nan where there is none."""
        return self.summary[name].value if name in self.summary else math.nan

    @property
    def kept(self) -> float:
        """The mean of what is kept of each axis (``paired.KEPT``) that was asked, clipped to 0..1; nan of none."""
        shares = [self.figure(f"{axis}_kept") for axis in KEPT]
        known = [min(max(share, 0.0), 1.0) for share in shares if not math.isnan(share)]
        return sum(known) / len(known) if known else math.nan

    @property
    def curve(self) -> tuple[str, float] | None:
        """The spec without its dial, and the dial; ``None`` for a chain whose steps have different ones."""
        return (_DIAL.sub("", self.spec), self.dials[0]) if len(set(self.dials)) == 1 else None

    def draws(self) -> dict[str, np.ndarray]:
        """The summary figures of its items' resamples (see ``Paired.summary_draws``), read from the record."""
        found = record.read(self.path)
        seed = found.content["arguments"]["seed"]
        return Paired(found.items("base"), found.items("edit"), found.chance, seed).summary_draws()


def lead(first: Row, other: Row) -> dict[str, Interval]:
    """Each summary figure of an edit less another's of the same items and seed, paired: on the same resamples."""
    return differences(first.draws(), other.draws())


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a chosen edit must hold to.

    Attributes:
        max_perplexity_ratio: the highest perplexity(edit) / perplexity(base).
        min_kept: by axis of ``paired.KEPT``, the least share that is kept.
    """

    max_perplexity_ratio: float = 1.05
    min_kept: Mapping[str, float] = field(default_factory=dict)

    def excess(self, row: Row) -> dict[str, float]:
        """By bound, how far it is missed: above 0 where it is; a figure that is not known misses it far."""
        found = {"perplexity_ratio": row.figure("perplexity_ratio") - self.max_perplexity_ratio}
        found |= {f"{axis}_kept": least - row.figure(f"{axis}_kept") for axis, least in self.min_kept.items()}
        return {name: value if math.isfinite(value) else _FAR for name, value in found.items()}

    def hold(self, row: Row) -> bool:
        """Whether a row holds to all of them."""
        return max(self.excess(row).values()) <= 0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The edit that is chosen.

    Attributes:
        row: it; ``None`` where no edit may be.
        tied: the specs that cannot be told from the highest split score, it and the chosen one among them.
        why: in words.
    """

    row: Row | None
    tied: tuple[str, ...]
    why: str


def frontier(rows: Sequence[Row]) -> list[bool]:
    """For each row, whether no other is as good in every figure of ``SIGNS`` and better in one.

    A control, and a row that lacks one of the figures, is not on the frontier, and keeps none from it.
    """
    figures_nf = np.array([[sign * row.figure(name) for name, sign in SIGNS.items()] for row in rows])
    own = np.array([not row.control for row in rows])
    known = own & np.isfinite(figures_nf).all(axis=1) if rows else []
    on = []
    for figures_f, is_known in zip(figures_nf, known, strict=True):
        others_nf = figures_nf[known]
        beaten = (others_nf >= figures_f).all(axis=1) & (others_nf > figures_f).any(axis=1)
        on.append(bool(is_known and not beaten.any()))
    return on


def choose(rows: Iterable[Row], bounds: Bounds) -> Choice:
    """The edit with the highest split score of those within the bounds, controls left out.

    Edits tie with the highest where their split scores are at most ``TIE`` below it and the paired 95 % interval of the
    difference reaches 0. Of those, the one of the lowest perplexity ratio (in steps of 0.01) is chosen; then of the
    highest ``Row.kept``, the fewest components removed, and the first in order.
    """
    known = [row for row in rows if not (row.control or math.isnan(row.figure("split_score")))]
    fit = [row for row in known if bounds.hold(row)]
    if not fit:
        return Choice(row=None, tied=(), why=_none(known, bounds))
    best = min(fit, key=lambda row: (-row.figure("split_score"), *_preference(row)))
    tied = _tied(best, fit)
    chosen = min(tied, key=_preference)
    why = f"its split score is the highest of the {len(fit)} of {len(known)} edits within the bounds"
    if len(tied) > 1:
        why = (
            f"{len(tied)} of the {len(fit)} edits within the bounds tie with the highest split score "
            f"({best.figure('split_score'):.3f}, {best.spec}); of those it has the lowest perplexity ratio, in steps "
            "of 0.01, and then keeps the most over all axes"
        )
    return Choice(row=chosen, tied=tuple(row.spec for row in tied), why=why)


def worst_last(row: Row) -> tuple[bool, float]:
    """A key that sorts by split score, the highest first and those without one last."""
    score = row.figure("split_score")
    return math.isnan(score), -score


def _preference(row: Row) -> tuple[float, float, float, str]:
    kept, removed = (0.0 if math.isnan(value) else value for value in (row.kept, row.removed))
    return round(row.figure("perplexity_ratio"), 2), -kept, removed, row.spec


def _tied(best: Row, fit: Sequence[Row]) -> list[Row]:
    """The best, and those that are near it and that it does not lead for certain; only their items are read."""
    draws, least = best.draws(), best.figure("split_score") - TIE
    near = [row for row in fit if row.figure("split_score") >= least]
    return [row for row in near if row is best or not differences(draws, row.draws())["split_score"].low > 0]


def _none(known: Sequence[Row], bounds: Bounds) -> str:
    if not known:
        return "no edit has a split score"
    nearest = min(known, key=lambda row: max(bounds.excess(row).values()))
    missed = {name: value for name, value in bounds.excess(nearest).items() if value > 0}
    said = ", ".join(f"{name.replace('_', ' ')} {nearest.figure(name):.3f}" for name in missed)
    return f"none of {len(known)} edits is within the bounds; the nearest is {nearest.spec}, with {said}"
