"""Whether the mean of paired values is above 0, by one-sided tests.

Values are one a cluster. Of bounded ones the lower bound is Gaffke's (Math. Methods Statist. 13, 2004; discussed in
arXiv 1905.06208): the alpha-quantile of Σ D_c x_c, where D is uniform over the weights (Dirichlet) of the clusters and
of one more at the floor. For values 0 and 1 it is Clopper and Pearson's, and it has width where all values agree. That
it holds for any bounded distribution is conjectured, not proved. With independent exponentials in place of D it is the
root in t of P(Σ G_c (x_c - t) <= 0) = alpha, and that probability is found by inverting the characteristic function
(Gil-Pelaez, Biometrika 38, 1951), so that nothing is drawn at random.

Of unbounded values no bound holds whatever they are (Bahadur and Savage, Ann. Math. Stat. 27, 1956). It is Student's or
the same corrected for skewness (Hall, J. R. Stat. Soc. B 54, 1992), whichever is farther: the first alone is too near
where a few clusters are far worse than the rest. Of a sum of means of independent samples it is Welch's (Biometrika 34,
1947), with the skewness of the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.stats import t as student

MOST = 1000.0
"""The largest answer of :func:`times_needed`."""

_FIRST, _NATS, _FAR = -8.0, 30.0, 20.0
_CELLS = 500_000
_REACH, _FARTHEST = 1 / 64, 1e3
"""First step from the estimate, and the largest distance at which a bound is searched."""


def p_not_above(
    x_c: np.ndarray, floor: float = -math.inf, times: float = 1.0, part_c: np.ndarray | None = None
) -> float:
    """One-sided p of "the mean is at most 0".

    Args:
        x_c: (C,) values, one a cluster.
        floor: the least value that there can be; ``-inf`` where there is none.
        times: every value is counted this often.
        part_c: (C,) which of several independent samples a cluster is of, counted from 0; one sample by default. Only
            the test without a floor looks at it: values spread around their own sample's mean.

    Returns:
        p, which is at most alpha exactly where the lower bound of the mean at alpha is at least 0; 1 where a value is
        not finite.
    """
    if not np.isfinite(x_c).all():
        return 1.0
    if math.isinf(floor):
        return _p_unbounded(x_c, times, np.zeros(len(x_c), dtype=int) if part_c is None else part_c)
    values, counts = np.unique(x_c, return_counts=True)
    return _gamma_sum(np.append(values, floor), np.append(counts * times, 1.0))


def turn(excess: Callable[[float], float], start: float, sign: int) -> float:
    """Invert a test: the nearest argument, above or below ``start``, at which p is no longer above its level.

    Args:
        excess: p - level at an argument; it falls in the direction of ``sign``.
        start: first argument.
        sign: 1 to search above ``start``, -1 to search below it.

    Returns:
        The argument; ``start`` where p is not above the level there; plus or minus infinity where it always is.
    """
    if not math.isfinite(start):
        return start
    if excess(start) <= 0:
        return start
    near, far = start, start + sign * _REACH
    while excess(far) > 0:
        near, far = far, start + 2 * (far - start)
        if abs(far) > _FARTHEST:
            return sign * math.inf
    return float(brentq(excess, near, far, xtol=1e-11, rtol=1e-11))


def times_needed(
    x_c: np.ndarray,
    floor: float,
    ceiling: float,
    alpha: float,
    alpha_below: float,
    part_c: np.ndarray | None = None,
) -> float | None:
    """How many times as many clusters, distributed as these, would show on which side of 0 the mean is.

    Args:
        x_c: (C,) values that do not show it.
        floor: the least value that there can be, or ``-inf``.
        ceiling: the largest value that there can be, or ``inf``.
        alpha: level of the test for a mean above 0.
        alpha_below: level of the test for a mean below 0.
        part_c: see :func:`p_not_above`.

    Returns:
        The factor, at least 1; ``None`` where more of the same would not show it, or not ``MOST`` times as many.
    """
    if not np.isfinite(x_c).all() or x_c.mean() == 0:
        return None
    if x_c.mean() < 0:
        x_c, floor, alpha = -x_c, -ceiling, alpha_below

    def missing(log_times: float) -> float:
        return p_not_above(x_c, floor, math.exp(log_times), part_c) - alpha

    if missing(math.log(MOST)) > 0:
        return None
    return math.exp(float(brentq(missing, 0.0, math.log(MOST), xtol=1e-9))) if missing(0.0) > 0 else 1.0


def _gamma_sum(value_v: np.ndarray, shape_v: np.ndarray) -> float:
    """P(Σ G_v value_v <= 0), G_v independent Gamma(shape_v): 1/2 - 1/π ∫ Im φ(s)/s ds, over u = log s by trapezoids.

    φ(s) = Π (1 - i s value_v)^-shape_v. What lies left of the first step is a geometric series.
    """
    nonzero = value_v != 0
    value_v, shape_v = value_v[nonzero], shape_v[nonzero]
    if not (value_v < 0).any():
        return 0.0 if len(value_v) else 1.0
    if not (value_v > 0).any():
        return 1.0
    largest = np.abs(value_v).max()
    if largest < 1e-150:  # its square would be 0
        value_v = value_v / largest
    value_v = value_v / math.sqrt(shape_v @ value_v**2)
    mean = float(shape_v @ value_v)
    if abs(mean) > _FAR:  # standard deviations; of sums of exponentials less than 1e-7 is beyond
        return float(mean < 0)
    u_c = np.arange(_FIRST, 60.0, 0.5)
    angle_cv = np.multiply.outer(np.exp(u_c), value_v)
    decayed_c = (0.5 * np.log1p(angle_cv**2) @ shape_v > _NATS) & (u_c > 0)
    step = _step(angle_cv[np.abs(angle_cv).min(axis=1) < 4], shape_v)
    s_u = np.exp(np.arange(_FIRST, u_c[decayed_c.argmax()], step))
    total = mean * float(s_u[0]) / math.expm1(step)
    for s in np.array_split(s_u, -(-len(s_u) * len(value_v) // _CELLS)):
        angle = np.multiply.outer(s, value_v)
        total += float((np.sin(np.arctan(angle) @ shape_v) * np.exp(-0.5 * (np.log1p(angle**2) @ shape_v))).sum())
    return min(1.0, max(0.0, 0.5 - step / math.pi * total))


def _step(angle_cv: np.ndarray, shape_v: np.ndarray) -> float:
    """The width of trapezoids that are wrong by e^-_NATS of what is integrated.

    An integrand that is analytic up to ±iψ, and M at most there, is summed with an error of M e^(-2πψ/step); the best
    ψ < π/2 is taken. Where all angles are beyond 2, no factor is above 1.
    """
    best = 0.0
    for psi in np.geomspace(0.005, 1.1, 9):
        grown = max(
            float((-0.5 * np.log1p(sign * 2 * math.sin(psi) * angle_cv + angle_cv**2) @ shape_v).max())
            for sign in (1, -1)
        )
        best = max(best, 2 * math.pi * float(psi) / (_NATS + max(grown, 0.0)))
    return min(best, 0.1)


def _p_unbounded(x_c: np.ndarray, times: float, part_c: np.ndarray) -> float:
    """Of Student's t of the sum of the parts' means (Welch's, where there are several) and Hall's, the larger p."""
    count_p = np.bincount(part_c)
    if count_p.min() < 2:
        return 1.0
    share_p = count_p / len(x_c)
    if (largest := np.abs(x_c).max()) > 1e100:  # its cube would overflow
        x_c = x_c / largest
    deviation_c = x_c - (np.bincount(part_c, x_c) / count_p)[part_c]
    sd_p = np.sqrt(np.bincount(part_c, deviation_c**2) / (count_p - 1))
    mean, n_p = float(x_c.mean()), times * count_p
    variance_p = share_p**2 * sd_p**2 / n_p
    error = math.sqrt(variance_p.sum())
    if not error:
        return float(mean <= 0)
    third_p = share_p**3 * np.bincount(part_c, deviation_c**3) / count_p / n_p**2
    skew = float(third_p.sum()) / error**3
    t = mean / error
    freedom = variance_p.sum() ** 2 / (variance_p**2 / (n_p - 1)).sum()
    corrected = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
    return float(student.sf(min(t, corrected), freedom))
