"""Figures of an axis from per-item scores, and paired intervals of their changes by the bootstrap.

Items are long tables: ``task, axis, metric, item, value, weight, cluster, group``; items of one ``cluster`` are about
one thing, and ``group`` is a level or a relation within the task. A metric of one task is Σ weight·value / Σ weight
(``perplexity``: exp of that, weights being tokens). ``acc`` of an axis with several tasks is the plain mean over its
tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

Figures = dict[str, dict[str, float]]
RESAMPLES, LEVEL = 2000, 0.95
COLUMNS = ["task", "axis", "metric", "item", "value", "weight", "cluster", "group"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its interval: percentiles of the bootstrap at ``LEVEL``."""

    value: float
    low: float
    high: float


def figures(items: pd.DataFrame) -> Figures:
    """Every metric of every axis; in ``acc``'s axes also each family's."""
    result: Figures = {}
    for (axis, metric), group in items.groupby(["axis", "metric"], sort=False):
        result.setdefault(str(axis), {})[str(metric)] = float(_one(group["value"], group["weight"], str(metric)))
    for axis, metrics in result.items():
        if "acc" not in metrics and axis in FAMILIES:
            result[axis] = {"acc": float(np.mean(list(metrics.values()))), **metrics}
    return result


FAMILIES = ("facts_closed", "facts_open", "arithmetic", "logic", "commonsense")


def _one(value: pd.Series, weight: pd.Series, metric: str) -> float:
    mean = float((value * weight).sum() / weight.sum())
    return float(np.exp(mean)) if metric == "perplexity" else mean


class Paired:
    """Base and edited scores of the same items, resampled together.

    Args:
        base: items of the base model.
        edited: items of the edited model; the same items.
        chance: what guessing scores, by ``(axis, metric)``; 0 where not given.
        seed: of the resampling.

    Raises:
        ValueError: the items differ.
    """

    def __init__(
        self, base: pd.DataFrame, edited: pd.DataFrame, chance: Mapping[tuple[str, str], float], seed: int = 0
    ) -> None:
        keys = ["task", "axis", "metric", "item", "weight", "cluster", "group"]
        both = base.merge(edited, on=keys, how="outer", suffixes=("_base", "_edit"), indicator=True)
        if not (both["_merge"] == "both").all():
            raise ValueError("base and edit were not scored on the same items")
        self.chance = chance
        self.draws: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
        for task, of_task in both.groupby("task", sort=False):
            n = of_task["item"].nunique()
            rng = np.random.default_rng([seed, *str(task).encode()])
            times = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
            times = np.concatenate([np.ones((1, n), times.dtype), times])
            for (axis, metric), group in of_task.groupby(["axis", "metric"], sort=False):
                group = group.sort_values("item")
                weight = group["weight"].to_numpy()
                total = times @ weight
                sides = []
                for side in ("value_base", "value_edit"):
                    mean = times @ (weight * group[side].to_numpy()) / total
                    sides.append(np.exp(mean) if metric == "perplexity" else mean)
                self.draws[str(axis), str(metric)] = (sides[0], sides[1])
        for axis in FAMILIES:
            parts = [draws for (a, _), draws in self.draws.items() if a == axis]
            if parts:
                pair = (np.mean([p[0] for p in parts], axis=0), np.mean([p[1] for p in parts], axis=0))
                self.draws = {(axis, "acc"): pair, **self.draws}

    def change(self, axis: str, metric: str) -> Interval:
        """Edited - base."""
        base, edited = self.draws[axis, metric]
        return _interval(edited - base)

    def summary(self) -> dict[str, Interval]:
        """The summary figures that the axes at hand allow.

        ``recitation_removed`` = 1 - strict(edit) / strict(base). ``logic_kept`` = the mean over families of
        (acc - chance) / (1 - chance), edit over base. ``split_score`` = their harmonic mean, each clipped to 0..1.
        ``perplexity_ratio`` = perplexity(edit) / perplexity(base). A ratio to a base that recites nothing, or whose
        logic is no better than guessing, is nan, and the split score with it.
        """
        found: dict[str, np.ndarray] = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            if ("recitation", "strict") in self.draws:
                base, edited = self.draws["recitation", "strict"]
                found["recitation_removed"] = 1 - _ratio(edited, base)
            families = [key for key in self.draws if key[0] == "logic" and key[1] != "acc"]
            if families:
                base, edited = (
                    np.mean(
                        [(self.draws[f][i] - self.chance.get(f, 0)) / (1 - self.chance.get(f, 0)) for f in families],
                        axis=0,
                    )
                    for i in (0, 1)
                )
                found["logic_kept"] = _ratio(edited, base)
            if len(found) == 2:
                removed, kept = (np.clip(v, 0, 1) for v in found.values())
                found["split_score"] = np.where(removed + kept == 0, 0.0, 2 * removed * kept / (removed + kept))
            if ("fluency", "perplexity") in self.draws:
                base, edited = self.draws["fluency", "perplexity"]
                found["perplexity_ratio"] = edited / base
        return {name: _interval(draws) for name, draws in found.items()}


def _ratio(edited: np.ndarray, base: np.ndarray) -> np.ndarray:
    return np.where(base > 0, edited / base, np.nan)


def _interval(draws: np.ndarray) -> Interval:
    """The first draw is the sample itself; resamples that have no value are left out, but not where it has none."""
    tail = (1 - LEVEL) / 2 * 100
    known = draws[1:][~np.isnan(draws[1:])]
    low, high = (np.nan, np.nan) if np.isnan(draws[0]) else np.percentile(known, [tail, 100 - tail])
    return Interval(value=float(draws[0]), low=float(low), high=float(high))
