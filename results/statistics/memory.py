"""How much of the memorized passages a model still holds, in bits, against twins and a model that never saw either.

The code length of a suffix is its mean -log2 p of a token given all gold tokens before it, in bits a token. With B the
base model, E the edited one and U the unseen counterpart, a model that was never trained on the passages:

- memory of m = [mean code length of twins - of memorized passages] under m, less the same under U. What makes all text
  alike dearer cancels, and so does what the passages are cheaper for any model. Without U nothing is taken off.
  (Counterfactual memorization, arXiv 2112.12938; unintended memorization in bits, arXiv 2505.24832.)
- erased = 1 - memory(E) / memory(B): below 0 where the edit adds memory, above 1 where passages became dearer than they
  are to U.
- stays erased = the least of erased and of the same after each attack: not to attack is an attack too, so that what an
  attack itself destroys is not counted for the edit. An attacked model's memory is taken against U after that attack.
- scar = erased - 1 where that is above 0. Net erased = the lesser of what stays erased and 1 - scar.
- ks_shorter and ks_longer: the two one-sided Kolmogorov-Smirnov distances of the edited model's code lengths of the
  memorized passages from U's: how far its shorter ones outnumber U's (memory is left), and its longer ones (a scar).

All sides are resampled together, clusters as a whole, on the resamples of ``statistics.paired``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..records.axes import LOG_PROB, RECITATION, TWINS
from ..records.tables import BASE, EDIT, UNSEEN, attacked
from .resampling import LEVEL, replicates_of_mean, resampled, task_rng


class Memory:
    """Replicates, [1 + RESAMPLES] with the sample's own value first, of the memory of several models.

    Args:
        sides: each model's items by its side in a record's table; the base's and the edited model's at least. Each must
            hold the same passages and twins.
        seed: of the resampling.
        group: only memorized passages of this group; all by default.

    Attributes:
        known: whether the sides have memorized passages and twins with code lengths.
    """

    def __init__(self, sides: Mapping[str, pd.DataFrame], seed: int, group: str | None = None) -> None:
        self._gap: dict[str, np.ndarray] = {}
        self._times = np.empty((0, 0))
        self._lengths: dict[str, np.ndarray] = {}
        base = sides[BASE]
        self.known = all(len(_lengths(base, axis)) for axis in (RECITATION, TWINS))
        if not self.known:
            return
        for axis in (RECITATION, TWINS):
            rows = _lengths(base, axis)
            times = resampled(rows["cluster"], task_rng(seed, str(rows["task"].iloc[0])))
            chosen = np.ones(len(rows), bool)
            if axis == RECITATION:
                chosen = (rows["group"] == group).to_numpy() if group is not None else chosen
                self._times = times[:, chosen]
            for side, items in sides.items():
                own = _lengths(items, axis)
                if own["item"].tolist() != rows["item"].tolist():
                    raise ValueError(f"{side} and base were not scored on the same passages")
                bits = own["value"].to_numpy()[chosen]
                mean = replicates_of_mean(bits, times[:, chosen])
                if axis == RECITATION:
                    self._lengths[side] = bits
                    self._gap[side] = -mean
                else:
                    with np.errstate(invalid="ignore"):
                        self._gap[side] = self._gap[side] + mean

    def bits(self, side: str) -> np.ndarray:
        """The memory of a side's model, bits a token, with U's part taken off where there is U.

        Args:
            side: ``base``, ``edit`` or one of an attack, whose floor is U after the same attack.
        """
        attack = side.partition("+")[2]
        floor = self._gap.get(attacked(UNSEEN, attack) if attack else UNSEEN)
        with np.errstate(invalid="ignore"):  # infinite code lengths
            return np.asarray(self._gap[side] - (0.0 if floor is None else floor))

    @functools.cached_property
    def shown(self) -> bool:
        """Whether the base is shown to hold memory: the 95 % interval of its memory lies above 0."""
        base = self.bits(BASE)
        return bool(base[0] > 0 and np.isfinite(base).all() and np.percentile(base[1:], 100 * (1 - LEVEL) / 2) > 0)

    def erased(self, side: str = EDIT) -> np.ndarray:
        """1 - memory / memory(base); nan where the base is not shown to hold any, or either is not finite."""
        base, left = self.bits(BASE), self.bits(side)
        if not self.shown:
            return np.full(len(base), np.nan)
        with np.errstate(all="ignore"):
            return np.where((base > 0) & np.isfinite(base) & np.isfinite(left), 1 - left / base, np.nan)

    @property
    def attacks(self) -> list[str]:
        """The attacks whose sides there are; where there is U, only those that U was attacked by too."""
        found = [side.partition("+")[2] for side in self._gap if side.startswith(f"{EDIT}+")]
        return [name for name in found if UNSEEN not in self._gap or attacked(UNSEEN, name) in self._gap]

    def stays_erased(self) -> np.ndarray | None:
        """The least of erased before and after all attacks, resample by resample; ``None`` without attacks."""
        left = [self.erased(attacked(EDIT, attack)) for attack in self.attacks]
        return np.min([self.erased(), *left], axis=0) if left else None

    def distances(self) -> tuple[np.ndarray, np.ndarray] | None:
        """``ks_shorter`` and ``ks_longer`` of the edited model from U; ``None`` without U, nan with a length of nan."""
        if UNSEEN not in self._lengths:
            return None
        edited, unseen = self._lengths[EDIT], self._lengths[UNSEEN]
        if np.isnan(edited).any() or np.isnan(unseen).any():
            unknown = np.full(len(self._times), np.nan)
            return unknown, unknown
        values = np.unique(np.concatenate([edited, unseen]))
        difference = self._shares_below(edited, values) - self._shares_below(unseen, values)
        return np.maximum(difference.max(axis=1), 0.0), np.maximum(-difference.min(axis=1), 0.0)

    def _shares_below(self, lengths: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The share of code lengths that are at most each of the values, [1 + RESAMPLES, values]."""
        order = np.argsort(lengths, kind="stable")
        counted = np.pad(self._times[:, order].cumsum(axis=1), ((0, 0), (1, 0)))
        with np.errstate(invalid="ignore"):  # a resample without any passage of the group
            return np.asarray(counted[:, np.searchsorted(lengths[order], values, side="right")] / counted[:, -1:])

    def summary_replicates(self) -> dict[str, np.ndarray]:
        """The replicates of the summary metrics of memory, by name."""
        if not self.known:
            return {}
        erased = self.erased()
        summary = {
            "memory_base": self.bits(BASE),
            "memory": self.bits(EDIT),
            "erased": erased,
            "scar": np.where(np.isnan(erased), np.nan, np.maximum(erased - 1, 0.0)),
        }
        if distances := self.distances():
            summary |= dict(zip(("ks_shorter", "ks_longer"), distances, strict=True))
        if (stays := self.stays_erased()) is not None:
            summary |= {"stays_erased": stays, "net_erased": np.minimum(stays, 1 - summary["scar"])}
        return summary


def groups(items: pd.DataFrame) -> list[str]:
    """The groups of the memorized passages, in the order of their first items."""
    found = _lengths(items, RECITATION)["group"].unique()
    return [str(group) for group in found if group]


def _lengths(items: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The code length of each passage of an axis as ``value``, in the order of the items."""
    rows = items[(items["axis"] == axis) & (items["metric"] == LOG_PROB)].sort_values("item")
    return rows.assign(value=-rows["value"] / math.log(2))
