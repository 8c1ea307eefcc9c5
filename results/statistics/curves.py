"""A method's curve over its strengths: reasoning kept where so much stays erased, and its lead over a control's.

A curve's points are a method's strengths, each at (stays erased, reasoning kept), and the base model at (0, 1), which
is what every method makes of a model at no strength. In the place of what stays erased is 1 - scar where that is less,
as in the split score. A point is passed over where another one has at least as much
erased and keeps at least as much (it is not on the Pareto front): nobody who wants so much erased would choose it.
Between neighbours of those that are left the curve is a straight line. Before the first it is level, since the first
erases more than what is asked; beyond the last there is none.

Points move from resample to resample. So each resample has its own front, and is read off by itself: the interval of a
figure covers what moves the points as well as what moves the figure between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..records.schema import Interval
from .draws import Replicates
from .paired import interval
from .resampling import LEVEL


@dataclass(frozen=True)
class Curve:
    """The curves of a sample and of its resamples.

    Attributes:
        erased_pb: what stays erased, [points, 1 + RESAMPLES], ascending in each resample. In the place of a point that
            is passed over, the next one that is not stands again.
        kept_pb: the reasoning kept at these points, descending.
    """

    erased_pb: np.ndarray
    kept_pb: np.ndarray

    @classmethod
    def through(cls, strengths: Iterable[Replicates]) -> Curve | None:
        """The curve of strengths and base; ``None`` where of no strength both figures are known."""
        points = [(counted(each), each["reasoning_kept"]) for each in strengths if _known(each)]
        if not points:
            return None
        none = np.zeros_like(points[0][0])
        erased, kept = (np.stack(rows) for rows in zip((none, none + 1), *points, strict=True))
        order = np.lexsort((kept, erased), axis=0)
        erased, kept = (np.take_along_axis(each, order, axis=0) for each in (erased, kept))
        for place in range(len(kept) - 2, -1, -1):
            passed = kept[place] <= kept[place + 1]
            for each in (erased, kept):
                each[place, passed] = each[place + 1, passed]
        return cls(erased, kept)

    @property
    def most(self) -> np.ndarray:
        """The most that stays erased on the curve, [1 + RESAMPLES]."""
        return np.asarray(self.erased_pb[-1])

    def kept_at(self, erased: np.ndarray | float) -> np.ndarray:
        """The reasoning kept where so much or more stays erased, [1 + RESAMPLES]; nan where the curve ends before.

        Args:
            erased: a number for all resamples, or one for each.
        """
        at_b = np.broadcast_to(np.asarray(erased, float), self.most.shape)
        right_b = (self.erased_pb < at_b).sum(axis=0)
        last = len(self.erased_pb) - 1
        x1, y1 = self._point(np.minimum(right_b, last))
        x0, y0 = self._point(np.maximum(right_b - 1, 0))
        with np.errstate(invalid="ignore", divide="ignore"):
            between = y0 + (at_b - x0) / (x1 - x0) * (y1 - y0)
        value = np.where((x1 == at_b) | (right_b == 0), y1, between)
        return np.asarray(np.where(right_b > last, np.nan, value))

    def _point(self, place_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates of one point of each resample."""
        column = np.arange(len(place_b))
        return self.erased_pb[place_b, column], self.kept_pb[place_b, column]


def counted(strength: Replicates) -> np.ndarray:
    """What stays erased of a strength, or 1 - scar where that is less, [1 + RESAMPLES]."""
    stays = strength["stays_erased"]
    return np.minimum(stays, 1 - strength["scar"]) if "scar" in strength else stays


def lead(curve: Curve, control: Curve, erased: np.ndarray) -> np.ndarray:
    """Reasoning kept less the control's, both read off at the same stays erased, [1 + RESAMPLES].

    Args:
        curve: the method's.
        control: the control's, on the same resamples.
        erased: what stays erased (see :func:`counted`) of the strength that stands for the method, [1 + RESAMPLES].
            Where the control's curve does not reach it, both are read off at the most that the control reaches.
    """
    at = np.minimum(erased, control.most)
    return np.asarray(curve.kept_at(at) - control.kept_at(at))


def read_off(replicates: np.ndarray) -> Interval:
    """The value and its interval, of which the bounds are nan where more than 5 % of resamples have no value.

    Such a curve reaches its place by luck of the items: an interval of the resamples that do would be of those alone.
    """
    found = interval(replicates)
    if np.isnan(replicates[1:]).mean() <= 1 - LEVEL:
        return found
    return Interval(value=found.value, low=np.nan, high=np.nan)


def _known(strength: Replicates) -> bool:
    """Whether the sample's own point is known."""
    names = ("stays_erased", "reasoning_kept")
    return all(name in strength and np.isfinite(strength[name][0]) for name in names)
