"""A method's curve over its strengths: reasoning kept where so much stays erased, and its lead over a control's.

A curve's points are strengths of a method, each at (net erased, reasoning kept), and the base model at (0, 1), which is
what every method makes of a model at no strength. Points are sorted by net erased; of points of equal net erased the
one that keeps more comes first. Between neighbours the curve is a straight line; beyond the last point there is none.
Which strengths it goes through must be settled without these replicates, or the best of many would be chosen by luck.

Points move from resample to resample. So each resample sorts its own, and is read off by itself: the interval of a
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
        erased_pb: net erased, [points, 1 + RESAMPLES], ascending in each resample.
        kept_pb: the reasoning kept at these points.
    """

    erased_pb: np.ndarray
    kept_pb: np.ndarray

    @classmethod
    def through(cls, strengths: Iterable[Replicates]) -> Curve | None:
        """The curve of strengths and base; ``None`` where of no strength both figures are known."""
        points = [(each["net_erased"], each["reasoning_kept"]) for each in strengths if _known(each)]
        if not points:
            return None
        none = np.zeros_like(points[0][0])
        erased, kept = (np.stack(rows) for rows in zip((none, none + 1), *points, strict=True))
        order = np.lexsort((-kept, erased), axis=0)
        return cls(np.take_along_axis(erased, order, axis=0), np.take_along_axis(kept, order, axis=0))

    @property
    def most(self) -> np.ndarray:
        """The most net erased on the curve, [1 + RESAMPLES]."""
        return np.asarray(self.erased_pb[-1])

    def kept_at(self, erased: np.ndarray | float) -> np.ndarray:
        """The reasoning kept where so much is net erased, [1 + RESAMPLES]; nan where the curve does not reach it.

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
        value = np.where(x1 == at_b, y1, np.where(right_b == 0, np.nan, between))
        return np.asarray(np.where(right_b > last, np.nan, value))

    def _point(self, place_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates of one point of each resample."""
        column = np.arange(len(place_b))
        return self.erased_pb[place_b, column], self.kept_pb[place_b, column]


def lead(curve: Curve, control: Curve, erased: np.ndarray) -> np.ndarray:
    """Reasoning kept less the control's, both read off at the same net erased, [1 + RESAMPLES].

    Args:
        curve: the method's.
        control: the control's, on the same resamples.
        erased: net erased by the strength that stands for the method, [1 + RESAMPLES]. Where the control's curve
            does not reach it, both are read off at the most that the control reaches.
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
    names = ("net_erased", "reasoning_kept")
    return all(name in strength and np.isfinite(strength[name][0]) for name in names)
