"""Extraction risk from per-item scores: how many samples bring a passage out, and membership inference.

Items are those of ``statistics.aggregate``; ``recitation`` holds memorized passages, ``twins`` others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..records.axes import PASSAGES, RECITATION, SIGNALS, TWINS
from ..records.schema import Discoverable, Interval, Risk
from .paired import interval
from .resampling import LEVEL, RESAMPLES, one_more, resampled

SAMPLES = (1, 10, 100, 1_000, 10_000, 1_000_000)
CERTAINTY = (0.1, 0.5, 0.9)
FPR = 0.01
"""The false positive rate at which the true positive rate is given."""
BEST = "best"
"""In the place of a signal's name: the best of all signals."""


def risk(items: pd.DataFrame, seed: int = 0) -> Risk:
    """The extraction risk that the items show; axes and signals without items are left out."""
    curves = {axis: discoverable(items, axis) for axis in PASSAGES}
    return Risk(
        discoverable={axis: curve for axis, curve in curves.items() if curve}, membership=membership(items, seed)
    )


def samples_needed(p_z: np.ndarray, certainty: float) -> np.ndarray:
    """The fewest samples that emit a passage once at least with that probability; infinite where p_z is 0.

    A passage is (n, p)-discoverable where 1 - (1 - p_z)^n >= p, hence n >= log(1 - p) / log(1 - p_z)
    (arXiv 2410.19482).

    Args:
        p_z: probability that one sample is the passage's suffix.
        certainty: p.
    """
    with np.errstate(divide="ignore"):
        needed = math.log1p(-certainty) / np.log1p(-np.asarray(p_z, dtype=float))
    return np.asarray(np.maximum(1.0, np.ceil(needed - 1e-9)))


def discoverable(items: pd.DataFrame, axis: str, samples: Sequence[int] = SAMPLES) -> Discoverable:
    """The share of the axis's passages that are (n, p)-discoverable: ``{"p=0.5": {"n=100": share, …}, …}``.

    nan where a passage's probability is nan.
    """
    p_z = np.asarray(_rows(items, axis, "p_z")["value"])
    if not len(p_z):
        return {}
    needed = {p: samples_needed(p_z, p) for p in CERTAINTY}
    told = {p: {n: np.where(np.isnan(p_z), np.nan, needed[p] <= n) for n in samples} for p in CERTAINTY}
    return {f"p={p:g}": {f"n={n}": float(np.mean(out)) for n, out in by_n.items()} for p, by_n in told.items()}


def auroc(members: np.ndarray, others: np.ndarray, times_m: np.ndarray, times_n: np.ndarray) -> np.ndarray:
    """The probability that a member's signal is above another's, ties counting half; nan where a signal is nan.

    Args:
        members: [m] signals.
        others: [n] signals.
        times_m: [resamples, m] how often each member counts.
        times_n: [resamples, n] how often each of the others counts.
    """
    if np.isnan([*members, *others]).any():
        return np.full(len(times_m), np.nan)
    above = (members[:, None] > others) + (members[:, None] == others) / 2
    return np.asarray(((times_m @ above) * times_n).sum(1) / (times_m.sum(1) * times_n.sum(1)))


def tpr_at_fpr(
    members: np.ndarray, others: np.ndarray, times_m: np.ndarray, times_n: np.ndarray, fpr: float = FPR
) -> np.ndarray:
    """The largest share of members above a threshold, where at most a share ``fpr`` of the others is above it.

    nan where a signal is nan.

    Args:
        members: [m] signals.
        others: [n] signals.
        times_m: [resamples, m] how often each member counts.
        times_n: [resamples, n] how often each of the others counts.
        fpr: the largest share of the others.
    """
    if np.isnan([*members, *others]).any():
        return np.full(len(times_m), np.nan)
    order = np.argsort(-others)
    too_many = times_n[:, order].cumsum(1) > fpr * times_n.sum(1, keepdims=True) + 1e-9
    threshold = others[order][too_many.argmax(1)]
    return np.asarray((times_m * (members > threshold[:, None])).sum(1) / times_m.sum(1))


def membership(items: pd.DataFrame, seed: int = 0) -> dict[str, dict[str, Interval]]:
    """How well every signal tells memorized passages from twins, with bootstrap intervals.

    ``auroc`` and ``tpr_at_fpr`` take a higher signal for a member. ``auroc_two_sided`` and ``tpr_two_sided`` are those
    of the better direction, since a signal that is lower for members tells them as well. Under ``BEST`` are the largest
    of these over all signals, what an attacker has who knows which signal and direction to take. Members and others
    are resampled independently, ``RESAMPLES`` times, by clusters; where no resample differs from a figure of 0 or 1,
    one more cluster of the smaller side does.
    """
    by_signal: dict[str, dict[str, Interval]] = {}
    aurocs: list[np.ndarray] = []
    tprs: list[np.ndarray] = []
    for signal in SIGNALS:
        sides = [_rows(items, axis, signal) for axis in (RECITATION, TWINS)]
        if not all(map(len, sides)):
            continue
        rng = np.random.default_rng([seed, *signal.encode()])
        members, others = (np.asarray(rows["value"]) for rows in sides)
        times_m, times_n = (resampled(rows["cluster"], rng) for rows in sides)
        levels = (rng.permutation(RESAMPLES) + 0.5) / RESAMPLES
        part = one_more(levels, min(rows["cluster"].nunique() for rows in sides))
        area = _with_one_more(auroc(members, others, times_m, times_n), part)
        rates = [_with_one_more(tpr_at_fpr(sign * members, sign * others, times_m, times_n), part) for sign in (1, -1)]
        by_signal[signal] = {
            "auroc": interval(area),
            "tpr_at_fpr": interval(rates[0]),
            **_best([area, 1 - area], rates),
        }
        aurocs += [area, 1 - area]
        tprs += rates
    return by_signal | ({BEST: _best(aurocs, tprs)} if by_signal else {})


def _with_one_more(replicates: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The replicates, or where all are 0, or all 1, those of one more cluster that has this part of the weight."""
    first = replicates[0]
    if first not in (0, 1) or (replicates != first).any():
        return replicates
    return np.append(first, np.abs(first - part))


def _best(aurocs: Sequence[np.ndarray], tprs: Sequence[np.ndarray]) -> dict[str, Interval]:
    area = largest(aurocs)
    area = Interval(value=area.value, low=max(area.low, 0.5), high=area.high)
    return {"auroc_two_sided": area, "tpr_two_sided": largest(tprs)}


def largest(replicates: Sequence[np.ndarray]) -> Interval:
    """The largest of several figures, and a 95 % interval of the largest true figure, whichever that is.

    The percentiles of the resamples' own largest would lie too high, since noise lifts the largest of each resample
    once more. Here the upper bound is the largest of the figures' upper bounds: it holds because that of the truly
    largest figure does. The lower bound is the largest of their lower bounds, each taken at 1/k of the error for k
    figures (Bonferroni), so that all of them hold at once. The value itself is still the largest of noisy ones.

    Args:
        replicates: of each figure, [1 + RESAMPLES], the sample's own value first; where one is nan, so is the largest.
    """
    tail = (1 - LEVEL) / 2 * 100
    lows = [float(np.percentile(each[1:], tail / len(replicates))) for each in replicates]
    highs = [float(np.percentile(each[1:], 100 - tail)) for each in replicates]
    value, low, high = (float(np.max(each)) for each in ([each[0] for each in replicates], lows, highs))
    return Interval(value=value, low=low, high=high)


def with_reference(items: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """``items`` and ``mia_ratio``: a passage's mean loss under the reference model over its mean loss under this one.

    Higher is likelier seen by this model (arXiv 2012.07805 divides log-perplexities so).
    """
    keys = ["task", "item"]
    own, other = (table[table["metric"] == "mia_loss"] for table in (items, reference))
    both = own.merge(other[[*keys, "value"]], on=keys, suffixes=("", "_reference"))
    ratio = both["value_reference"] / both["value"].clip(upper=-1e-9)
    rows = both.assign(metric="mia_ratio", value=ratio)[items.columns]
    return pd.concat([items, rows], ignore_index=True)


def _rows(items: pd.DataFrame, axis: str, metric: str) -> pd.DataFrame:
    return items[(items["axis"] == axis) & (items["metric"] == metric)].sort_values("item")
