"""Extraction risk from per-item scores: how many samples bring a passage out, and who can tell members from others.

Items are those of ``results.stats``; ``recitation`` holds the memorized passages, ``twins`` those never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from .paired import LEVEL, RESAMPLES, Interval

SAMPLES = (1, 10, 100, 1_000, 10_000, 1_000_000)
CERTAINTY = (0.1, 0.5, 0.9)
FPR = 0.01
"""False positive rate at which the true positive rate is told."""
AXES = ("recitation", "twins", "quotes")
SIGNALS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_pp", "mia_ratio")


@dataclass(frozen=True, kw_only=True)
class Risk:
    """What can be extracted from a model.

    Attributes:
        discoverable: by axis, the share of passages that so many samples bring out (see :func:`discoverable`).
        membership: by signal, how well it tells memorized passages from twins (see :func:`membership`).
    """

    discoverable: dict[str, dict[str, dict[str, float]]]
    membership: dict[str, dict[str, Interval]]


def risk(items: pd.DataFrame, seed: int = 0) -> Risk:
    """The extraction risk that the items tell; what they do not tell is left out."""
    curves = {axis: discoverable(items, axis) for axis in AXES}
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


def discoverable(items: pd.DataFrame, axis: str, samples: Sequence[int] = SAMPLES) -> dict[str, dict[str, float]]:
    """The share of the axis's passages that are (n, p)-discoverable: ``{"p=0.5": {"n=100": share, …}, …}``."""
    p_z = _values(items, axis, "p_z")
    if not len(p_z):
        return {}
    needed = {p: samples_needed(p_z, p) for p in CERTAINTY}
    return {f"p={p:g}": {f"n={n}": float(np.mean(needed[p] <= n)) for n in samples} for p in CERTAINTY}


def auroc(members: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The probability that a member's signal is above another's, ties counting half; over the last axis."""
    m, n = members.shape[-1], others.shape[-1]
    ranks = rankdata(np.concatenate([members, others], axis=-1), axis=-1)[..., :m]
    return np.asarray((ranks.sum(-1) - m * (m + 1) / 2) / (m * n))


def tpr_at_fpr(members: np.ndarray, others: np.ndarray, fpr: float = FPR) -> np.ndarray:
    """The largest share of members above a threshold that at most that share of others is above; over the last axis."""
    allowed = int(fpr * others.shape[-1] + 1e-9)
    threshold = -np.sort(-others, axis=-1)[..., min(allowed, others.shape[-1] - 1), None]
    return np.asarray(np.mean(members > threshold, axis=-1))


def membership(items: pd.DataFrame, seed: int = 0) -> dict[str, dict[str, Interval]]:
    """``auroc`` and ``tpr_at_fpr`` of every signal between memorized passages and twins, with bootstrap intervals.

    Each side is resampled by itself, ``RESAMPLES`` times.
    """
    found: dict[str, dict[str, Interval]] = {}
    for signal in SIGNALS:
        members, others = (_values(items, axis, signal) for axis in ("recitation", "twins"))
        if not len(members) or not len(others):
            continue
        rng = np.random.default_rng([seed, *signal.encode()])
        again = [side[rng.integers(len(side), size=(RESAMPLES, len(side)))] for side in (members, others)]
        found[signal] = {
            "auroc": _interval(auroc(members, others), auroc(again[0], again[1])),
            "tpr_at_fpr": _interval(tpr_at_fpr(members, others), tpr_at_fpr(again[0], again[1])),
        }
    return found


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


def _values(items: pd.DataFrame, axis: str, metric: str) -> np.ndarray:
    rows = items[(items["axis"] == axis) & (items["metric"] == metric)].sort_values("item")
    return np.asarray(rows["value"].to_numpy())


def _interval(value: np.ndarray, draws: np.ndarray) -> Interval:
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(value=float(value), low=float(low), high=float(high))
