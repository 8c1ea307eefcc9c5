"""How small a difference a number of items shows, and how many items a difference needs: at 80 % power, two-sided 5 %.

Both are about the test of one metric's paired differences, and depend on the spread of these apart from the difference.
For McNemar's test of a 0/1 metric that is ``discordance``: the share of items whose changes cancel out, as many going
up as down; the share of items that change at all is discordance + difference. For sign flips it is ``sd``: the standard
deviation of the differences over clusters (an item that belongs to no other is a cluster).
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import norm

ALPHA, POWER = 0.05, 0.8
FEWEST = 6
"""Clusters. The p of 5 clusters is never below 0.05, even if all differ the same way: 2 · 0.5^5 = 0.0625."""

_ALPHA_Z, _POWER_Z = (float(z) for z in norm.ppf([1 - ALPHA / 2, POWER]))


def clusters_needed(difference: float, *, discordance: float | None = None, sd: float | None = None) -> int | None:
    """The number of clusters that show a true difference of this size in 80 % of all cases.

    McNemar: Connor's formula (Biometrics 43, 1987) and 1 / difference more, for the exact test seldom uses up its 5 %.
    Sign flips: the normal approximation. One of ``discordance`` and ``sd`` is given.

    Args:
        difference: above 0, in the metric's unit.
        discordance: for a 0/1 metric.
        sd: for any other, in the metric's unit.

    Returns:
        At least 6; ``None`` where the differences have no spread, or a 0/1 metric cannot differ by that much.
    """
    if discordance is None:
        needed = ((_ALPHA_Z + _POWER_Z) * (sd or math.nan) / difference) ** 2
    elif discordance + difference <= 1:
        needed = _connor(difference, discordance)
    else:
        needed = math.nan
    return max(FEWEST, math.ceil(needed)) if math.isfinite(needed) else None


def detectable(clusters: int, *, discordance: float | None = None, sd: float | None = None) -> float:
    """The smallest true difference that a number of clusters shows in 80 % of all cases; inverts ``clusters_needed``.

    Args:
        clusters: their number.
        discordance: for a 0/1 metric.
        sd: for any other, in the metric's unit.

    Returns:
        In the metric's unit; nan where no difference would be seen, or the differences have no spread.
    """
    if clusters < FEWEST:
        return math.nan
    if discordance is None:
        return (_ALPHA_Z + _POWER_Z) * (sd or math.nan) / math.sqrt(clusters)
    largest = 1 - discordance
    if largest <= 1 / clusters or _connor(largest, discordance) > clusters:
        return math.nan
    return float(brentq(lambda difference: _connor(difference, discordance) - clusters, 1 / clusters, largest))


def _connor(difference: float, discordance: float) -> float:
    changed = discordance + difference
    root = _ALPHA_Z * math.sqrt(changed) + _POWER_Z * math.sqrt(changed - difference**2)
    return (root / difference) ** 2 + 1 / difference
