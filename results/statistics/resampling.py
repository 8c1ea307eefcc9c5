"""Bootstrap resamples of clusters: the same for everything that is scored on the items of one task."""

from __future__ import annotations

import numpy as np
import pandas as pd

RESAMPLES, LEVEL = 2000, 0.95


def task_rng(seed: int, task: str) -> np.random.Generator:
    """The generator that a task's clusters are resampled by."""
    return np.random.default_rng([seed, *task.encode()])


def cluster_times(clusters: int, rng: np.random.Generator) -> np.ndarray:
    """How often each cluster counts, [1 + RESAMPLES, clusters]: once, and then as often as it is drawn."""
    drawn = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES)
    return np.concatenate([np.ones((1, clusters)), drawn])


def resampled(cluster: pd.Series, rng: np.random.Generator) -> np.ndarray:
    """How often each item counts, [1 + RESAMPLES, items]: as often as its cluster (see :func:`cluster_times`)."""
    codes, names = pd.factorize(cluster)
    return cluster_times(len(names), rng)[:, codes]


def one_more(levels: np.ndarray, clusters: int) -> np.ndarray:
    """The part of the weight, [RESAMPLES], that one more cluster has where all that were seen agree.

    As in Gaffke's bounds (see ``statistics.noninferiority``), the part is Beta(1, C) for C clusters. Half of the
    replicates are without it, for the bound on the near side; the others have the upper half of that distribution, so
    that the quantile at 97.5 % is Clopper and Pearson's limit.

    Args:
        levels: [RESAMPLES] quantiles, 0 to 1, evenly spread, in any order.
        clusters: C.
    """
    return np.where(levels < 0.5, 0.0, 1 - (1 - levels) ** (1 / clusters))


def replicates_of_mean(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The weighted mean of values [items] in each resample, [1 + RESAMPLES]; nan in one that has none of them.

    Where a value is infinite, a resample without it is nan too.
    """
    with np.errstate(all="ignore"):
        return np.asarray(times @ values / times.sum(axis=1))
