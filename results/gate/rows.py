"""The scores of the sides that a gate compares, item by item, and the metrics that an edit can keep."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...errors import UserError
from ..records import tables
from ..records.axes import FAMILIES, RECITATION, TWINS
from ..records.schema import Key

_KEYS = [column for column in tables.ITEMS if column != "value"]
_ORDER = ["axis", "metric", "task", "item"]


def matched(**sides: pd.DataFrame) -> pd.DataFrame:
    """One table of the same items, with a column a side in place of ``value``.

    Raises:
        ValueError: the items differ, or one was scored more than once.
    """
    tables_by_side = {name: items.sort_values(_ORDER, ignore_index=True) for name, items in sides.items()}
    rows = next(iter(tables_by_side.values()))[_KEYS]
    if rows.duplicated(_ORDER).any():
        raise ValueError("an item was scored more than once")
    for side in tables_by_side.values():
        if len(side) != len(rows) or not (side[_KEYS].to_numpy() == rows.to_numpy()).all():
            raise ValueError("the sides were not scored on the same items")
    return rows.assign(**{name: side["value"] for name, side in tables_by_side.items()})


def by_metric(**sides: pd.DataFrame) -> dict[Key, pd.DataFrame]:
    """:func:`matched`, by axis and metric, of those that all sides have: ``mia_ratio``, for one, takes a reference.

    Raises:
        UserError: a side lacks a metric of an axis that is a mean over its tasks.
        ValueError: see :func:`matched`.
    """
    known = {name: set(zip(items["axis"], items["metric"], strict=True)) for name, items in sides.items()}
    shared = set.intersection(*known.values())
    for axis, metric in sorted(set.union(*known.values()) - shared):
        if axis in FAMILIES:
            raise UserError(f"{axis}/{metric} was not scored of every side: expected records of the same tasks")
    of_shared = {
        name: items[np.array([key in shared for key in zip(items["axis"], items["metric"], strict=True)], bool)]
        for name, items in sides.items()
    }
    return {(str(a), str(m)): part for (a, m), part in matched(**of_shared).groupby(["axis", "metric"])}


def scored(by_key: Mapping[Key, pd.DataFrame], criterion: str, key: Key) -> pd.DataFrame:
    """The rows of a metric that a criterion is about.

    Raises:
        UserError: it was not scored.
    """
    if key not in by_key:
        known = ", ".join(sorted({axis for axis, _ in by_key})) or "nothing"
        raise UserError(
            f"the policy asks for {criterion!r}, but {'/'.join(key)} was not scored: expected one of {known}"
        )
    return by_key[key]


def kept(by_key: Mapping[Key, pd.DataFrame], chance: Mapping[Key, float]) -> dict[str, list[pd.DataFrame]]:
    """The rows, by task, of every ``AXIS`` (its ``acc``) and ``AXIS/METRIC`` that is a share and can be kept."""
    shares = {
        key: part
        for key, part in by_key.items()
        if (key in chance or key[0] in FAMILIES)
        and key[0] not in (RECITATION, TWINS)
        and part["base"].between(0, 1).all()
    }
    found = {"/".join(key): [part] for key, part in shares.items()}
    for axis in dict.fromkeys(axis for axis, _ in shares):
        own = [part for key, part in shares.items() if key[0] == axis]
        tasks = [task for part in own for task in part["task"].unique()]
        if (axis, "acc") in shares:
            found[axis] = [shares[axis, "acc"]]
        elif axis in FAMILIES and len(set(tasks)) == len(tasks):
            found[axis] = own
    return found
