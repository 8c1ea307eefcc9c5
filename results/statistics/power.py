"""How small a difference so many items show, and how many items a difference needs: at 80 % power, two-sided 5 %.

Both are about the test of one metric's paired differences, and go by what they vary by apart from the difference. For
McNemar's test of a 0/1 metric that is ``churn``: the share of items that change both ways alike, so that the share of
items that change at all is churn + difference. For sign flips it is ``sd``: the standard deviation of the differences
over clusters (an item that belongs to no other is a cluster).
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import norm

ALPHA, POWER = 0.05, 0.8
FEWEST = 6
"""Clusters; the p of 5 is never below 0.05, even if all differ the same way: 2 · 0.5^5 = 0.0625."""

_ALPHA_Z, _POWER_Z = (float(z) for z in norm.ppf([1 - ALPHA / 2, POWER]))


def clusters_needed(difference: float, *, churn: float | None = None, sd: float | None = None) -> int | None:
    """Clusters that show a true difference of this size in 80 % of all cases.

    McNemar: Connor's formula (Biometrics 43, 1987) and 1 / difference more, for the exact test seldom meets its 5 %.
    Sign flips: the normal approximation. One of ``churn`` and ``sd`` is given.

    Args:
        difference: above 0, in the metric's unit.
        churn: of a 0/1 metric.
        sd: of any other, in the metric's unit.

    Returns:
        At least 6; ``None`` where the differences have no spread to go by, or a 0/1 metric cannot differ so much.
    """
    if churn is None:
        needed = ((_ALPHA_Z + _POWER_Z) * (sd or math.nan) / difference) ** 2
    elif churn + difference <= 1:
        needed = _connor(difference, churn)
    else:
        needed = math.nan
    return max(FEWEST, math.ceil(needed)) if math.isfinite(needed) else None


def detectable(clusters: int, *, churn: float | None = None, sd: float | None = None) -> float:
    """The smallest true difference that so many clusters show in 80 % of all cases: ``clusters_needed`` turned round.

    Args:
        clusters: how many there are.
        churn: of a 0/1 metric.
        sd: of any other.

    Returns:
        In the metric's unit; nan where no difference would be seen, or the differences have no spread to go by.
    """
    if clusters < FEWEST:
        return math.nan
    if churn is None:
        return (_ALPHA_Z + _POWER_Z) * (sd or math.nan) / math.sqrt(clusters)
    largest = 1 - churn
    if largest <= 1 / clusters or _connor(largest, churn) > clusters:
        return math.nan
    return float(brentq(lambda difference: _connor(difference, churn) - clusters, 1 / clusters, largest))


def _connor(difference: float, churn: float) -> float:
    changed = churn + difference
    root = _ALPHA_Z * math.sqrt(changed) + _POWER_Z * math.sqrt(changed - difference**2)
    return (root / difference) ** 2 + 1 / difference
