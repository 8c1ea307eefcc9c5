"""Draws of one edit: records that differ in a seed alone, and their figures over items and draws together.

A method that draws (sampled labels, random components, a training's batches) gives other weights with another seed.
The figure of several draws is their mean. Its interval covers items and draws: in each resample, the items are those
that every edit's resample has (see ``Paired.summary_replicates``), and of D draws D - 1 are drawn with replacement.
With D in place of D - 1 the variance over draws would be too small by (D - 1) / D, which matters for the two to five
draws that there usually are (Rao and Wu, "Resampling inference with complex survey data", JASA 83, 1988). One draw says
nothing about others: its interval is of the items alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ..records import tables
from ..records.axes import DISTANCES, LOG_PROB, PASSAGES, STRICT
from ..records.record import Record
from .paired import Paired
from .resampling import RESAMPLES, task_rng

Replicates = Mapping[str, np.ndarray]
"""By summary metric, [1 + RESAMPLES]: the sample's own value, then those of its bootstrap resamples."""


def of_record(record: Record, seed: int) -> dict[str, np.ndarray]:
    """The replicates of a record's summary metrics, as ``Paired.of`` gives them, in a quarter of its time.

    Args:
        record: whose items are read.
        seed: of the resamples; edits that are compared need the same.

    Raises:
        UserError: the record's items are damaged or gone.
    """
    sides = {name: _summarized(items) for name, items in tables.sides(record).items()}
    paired = Paired(sides.pop(tables.BASE), sides.pop(tables.EDIT), record.chance, seed, sides)
    return paired.summary_replicates()


def together(draws: Sequence[Replicates], seed: int, name: str) -> dict[str, np.ndarray]:
    """The replicates of the mean over draws of each summary metric that all of them have.

    Args:
        draws: each draw's, on the same resamples of the items.
        seed: of the resampling of draws.
        name: of what is drawn; the draws of two edits are resampled apart.
    """
    if len(draws) == 1:
        return dict(draws[0])
    n = len(draws)
    drawn = task_rng(seed, name).multinomial(n - 1, np.full(n, 1 / n), size=RESAMPLES) / (n - 1)
    share_bn = np.concatenate([np.full((1, n), 1 / n), drawn])
    names = [metric for metric in draws[0] if all(metric in draw for draw in draws)]
    return {metric: _weighted(share_bn, np.stack([draw[metric] for draw in draws], axis=1)) for metric in names}


def _weighted(share_bn: np.ndarray, values_bn: np.ndarray) -> np.ndarray:
    """Σ share · value over the draws of each resample; a value of share 0 counts for nothing, also where it is nan."""
    with np.errstate(invalid="ignore"):  # infinite perplexities
        return np.asarray(np.where(share_bn > 0, share_bn * values_bn, 0.0).sum(axis=1))


def _summarized(items: pd.DataFrame) -> pd.DataFrame:
    """The scores that summary metrics are made of: of passages, code lengths and strict recitation, which all have."""
    passages = items["axis"].isin(PASSAGES) & ~items["metric"].isin((LOG_PROB, STRICT[1]))
    return items[~passages & ~items["metric"].isin(DISTANCES)]
