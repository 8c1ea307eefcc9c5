"""Whether paired differences could be chance: exact McNemar, sign flips, and Holm's correction over many metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import binomtest

FLIPS = 10_000
"""Number of random flips; where there are at most as many flips at all, each is tried once."""


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p of a 0/1 metric under "a changed item was as likely to go either way" (Psychometrika 12, 1947).

    Args:
        gained: items that went from 0 to 1.
        lost: items that went from 1 to 0.

    Returns:
        The exact binomial p; 1 where no item changed.
    """
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip(gain_c: np.ndarray, rng: np.random.Generator) -> float:
    """Two-sided p of a sum of paired differences under "each difference was as likely to have either sign".

    ``scipy.stats.permutation_test`` computes the same from (C, flips) random permutations, which takes much longer.

    Args:
        gain_c: (C,) differences, added up over the items of a cluster.
        rng: draws the flips.

    Returns:
        The share of flips whose sum is at least as far from 0 as the one seen: of all flips where they are at most
        ``FLIPS``, else (b + 1) / (n + 1) of ``FLIPS`` random ones (arXiv 1603.05766); 1 where nothing differs, nan
        where a difference is not finite.
    """
    gain_c = gain_c[gain_c != 0]
    if not np.isfinite(gain_c).all():
        return np.nan
    bound = abs(gain_c.sum()) - 1e-9 * np.abs(gain_c).sum()  # equal sums may differ in the last bits
    every = 2 ** len(gain_c) <= FLIPS
    signs = _every(len(gain_c)) if every else _random(len(gain_c), rng)
    as_far = sum(int((np.abs(part @ gain_c) >= bound).sum()) for part in signs)
    return as_far / 2 ** len(gain_c) if every else (as_far + 1) / (FLIPS + 1)


def _every(n: int) -> Iterator[np.ndarray]:
    """(2^n, n) signs."""
    yield 1.0 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)


def _random(n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """(FLIPS, n) signs, a tenth at a time."""
    for _ in range(10):
        yield 1.0 - 2 * np.unpackbits(rng.integers(256, size=(FLIPS // 10, -(-n // 8)), dtype=np.uint8), axis=1)[:, :n]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scand. J. Stat. 6, 1979): the k-th smallest of m is multiplied by m - k + 1.

    Returns:
        Corrected p in the same order, at most 1. A nan stands for no test: it is not counted, and stays nan.
    """
    values = np.array(p, dtype=float)
    order = np.argsort(values)[: int((~np.isnan(values)).sum())]  # nan sorts last
    steps = values[order] * (len(order) - np.arange(len(order)))
    values[order] = np.minimum(1, np.maximum.accumulate(steps))
    return [float(value) for value in values]
