"""Figures of an axis, and of a level or relation, from per-item scores.

Items are long tables: ``task, axis, metric, item, value, weight, cluster, group``; items of one ``cluster`` are about
one thing, and ``group`` is a level or a relation within the task. A metric of one task is Σ weight·value / Σ weight
(``perplexity``: exp of that, weights being tokens). ``acc`` of an axis with several tasks is the plain mean over its
tasks. A figure of which an item is nan is nan.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

Figures = dict[str, dict[str, float]]
Groups = dict[str, dict[str, dict[str, dict[str, float]]]]
COLUMNS = ["task", "axis", "metric", "item", "value", "weight", "cluster", "group"]
FAMILIES = ("facts_closed", "facts_open", "arithmetic", "logic", "commonsense")
"""Axes whose ``acc`` is the mean over their tasks, where no task has an ``acc`` of its own."""


def figures(items: pd.DataFrame) -> Figures:
    """Every metric of every axis; in ``acc``'s axes also each family's."""
    result: Figures = {}
    for (axis, metric), rows in items.groupby(["axis", "metric"], sort=False):
        result.setdefault(str(axis), {})[str(metric)] = _figure(_mean(rows), str(metric))
    asked = items[["axis", "task", "metric"]].drop_duplicates().groupby("axis")
    alone = {str(axis) for axis, rows in asked if rows["task"].is_unique}  # each task asks for one thing
    for axis, metrics in result.items():
        if "acc" not in metrics and axis in FAMILIES and axis in alone:
            result[axis] = {"acc": float(np.mean(list(metrics.values()))), **metrics}
    return result


def by_group(items: pd.DataFrame) -> Groups:
    """``value``, ``n`` (items) and ``se`` by task, metric, and level or relation; tasks without those are left out.

    ``se`` is the standard error by the spread of the clusters, nan where there is but one.
    """
    found: Groups = {}
    for (task, metric, group), rows in items[items["group"] != ""].groupby(["task", "metric", "group"]):
        mean = _mean(rows)
        value = _figure(mean, str(metric))
        error_c = (rows["weight"] * (rows["value"] - mean)).groupby(rows["cluster"]).sum() / rows["weight"].sum()
        se = standard_error(error_c.to_numpy()) * (value if metric == "perplexity" else 1)
        found.setdefault(str(task), {}).setdefault(str(metric), {})[str(group)] = {
            "value": value,
            "n": len(rows),
            "se": se,
        }
    return found


def standard_error(error_c: np.ndarray) -> float:
    """Of a mean, from each cluster's part in its error (C,); they add up to 0. nan where there is but one."""
    n = len(error_c)
    return float(np.sqrt(n / (n - 1) * (error_c**2).sum())) if n > 1 else np.nan


def _mean(rows: pd.DataFrame) -> float:
    return float((rows["value"] * rows["weight"]).sum(skipna=False) / rows["weight"].sum())


def _figure(mean: float, metric: str) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(mean)) if metric == "perplexity" else mean
