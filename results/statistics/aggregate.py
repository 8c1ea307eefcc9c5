"""Metrics of an axis, and of a level or relation, from per-item scores.

Items are long tables: ``task, axis, metric, item, value, weight, cluster, group``; items of one ``cluster`` are about
one thing, and ``group`` is a level or a relation within the task. A metric of one task is Σ weight·value / Σ weight
(``perplexity``: exp of that, weights being tokens). ``acc`` of an axis with several tasks is the plain mean over its
tasks. A metric is nan where the value of any of its items is nan.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..records.axes import FAMILIES
from ..records.schema import GroupMetric, Groups, Metrics


def metrics(items: pd.DataFrame) -> Metrics:
    """Every metric of every axis; axes of :data:`FAMILIES` also have ``acc``, the plain mean over their tasks."""
    result: Metrics = {}
    for (axis, metric), rows in items.groupby(["axis", "metric"], sort=False):
        result.setdefault(str(axis), {})[str(metric)] = _metric(_mean(rows), str(metric))
    scored = items[["axis", "task", "metric"]].drop_duplicates().groupby("axis")
    alone = {str(axis) for axis, rows in scored if rows["task"].is_unique}  # each task has one metric
    for axis, values in result.items():
        if "acc" not in values and axis in FAMILIES and axis in alone:
            result[axis] = {"acc": float(np.mean(list(values.values()))), **values}
    return result


def by_group(items: pd.DataFrame) -> Groups:
    """Metrics by task, metric, and level or relation; tasks without levels or relations are left out.

    Standard errors are by the spread of the clusters; nan where there is one cluster only.
    """
    groups: Groups = {}
    for (task, metric, group), rows in items[items["group"] != ""].groupby(["task", "metric", "group"]):
        mean = _mean(rows)
        value = _metric(mean, str(metric))
        error_c = (rows["weight"] * (rows["value"] - mean)).groupby(rows["cluster"]).sum() / rows["weight"].sum()
        se = standard_error(error_c.to_numpy()) * (value if metric == "perplexity" else 1)
        by_metric = groups.setdefault(str(task), {}).setdefault(str(metric), {})
        by_metric[str(group)] = GroupMetric(value=value, n=len(rows), se=float(se))
    return groups


def standard_error(error_c: np.ndarray) -> float:
    """The standard error of a mean, from each cluster's part in its error (C,); the parts add up to 0.

    nan where there is one cluster only.
    """
    n = len(error_c)
    return float(np.sqrt(n / (n - 1) * (error_c**2).sum())) if n > 1 else np.nan


def _mean(rows: pd.DataFrame) -> float:
    return float((rows["value"] * rows["weight"]).sum(skipna=False) / rows["weight"].sum())


def _metric(mean: float, metric: str) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(mean)) if metric == "perplexity" else mean
