"""Edits against one another, item by item: what changed, by how much more or less, and which answers flipped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein

from ...errors import UserError
from ..records.record import Record
from ..records.store import Store
from . import significance
from .paired import Change, Interval, Key, Paired, differences, interval

FLIPS = ["task", "metric", "item", "before", "after", "prompt", "gold", "first", "other"]
"""Columns of :func:`flips`."""


@dataclass(frozen=True)
class Side:
    """One side of a record.

    Attributes:
        record: of an edit.
        name: ``base`` or ``edit``: whose scores.
    """

    record: Record
    name: str = "edit"

    @property
    def label(self) -> str:
        """What it is called."""
        return self.record.spec if self.name == "edit" else "base"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One side against a first.

    Attributes:
        first: what is compared with.
        other: what is compared.
        changes: other - first of every metric, with p corrected over all comparisons that were made together.
        summary: of every summary figure against the base: the first's, the other's, and other - first. The base
            itself has none.
    """

    first: Side
    other: Side
    changes: dict[Key, Change]
    summary: dict[str, tuple[Interval, Interval, Interval]]


def sides(store: Store, names: Sequence[str]) -> list[Side]:
    """The sides that are named, in order; ``base`` is the base model of the first record.

    Raises:
        UserError: ``base`` is not the first name, or the store has no such record.
    """
    if "base" in names[1:]:
        raise UserError("'base' comes first: expected memsplit compare base RECORD …")
    records = [store.find(name) for name in names if name != "base"]
    edits = [Side(found) for found in records]
    return [Side(records[0], "base"), *edits] if names[0] == "base" else edits


def compare(sides: Sequence[Side]) -> list[Comparison]:
    """Each side after the first against the first.

    Raises:
        UserError: they were not asked the same.
    """
    first, *others = sides
    seed = int(first.record.content["arguments"]["seed"])
    for other in others:
        check_same_items(first.record, other.record)
    pairs = [
        Paired(first.record.items(first.name), other.record.items(other.name), first.record.chance, seed)
        for other in others
    ]
    changes = _corrected([pair.changes() for pair in pairs])
    before = _against_base(first, seed)
    return [
        Comparison(first=first, other=other, changes=found, summary=_differences(before, _against_base(other, seed)))
        for other, found in zip(others, changes, strict=True)
    ]


def check_same_items(first: Record, other: Record) -> None:
    """Refuse two records that are not of edits of one model, or were not asked the same.

    Raises:
        UserError: their weights, types or fingerprints differ; it names the tasks and settings that do.
    """
    a, b = first.content, other.content
    for name in ("weights", "dtype"):
        if a.get(name) != b.get(name):
            raise UserError(
                f"{first.id} and {other.id} are not of the same base: {name} {a.get(name)} against {b.get(name)}"
            )
    if a["fingerprint"] == b["fingerprint"]:
        return
    differs = []
    for key in ("suite", "model"):
        if a[key] != b[key]:
            differs.append(f"{key} {a[key]} against {b[key]}")
    for key in ("split", "limit", "pack", "tasks"):
        one, two = a["arguments"].get(key), b["arguments"].get(key)
        if one != two:
            differs.append(f"--{key} {_word(one)} against {_word(two)}")
    alone = [sorted(x["tasks"].keys() - y["tasks"].keys()) for x, y in ((a, b), (b, a))]
    for own, which in zip(alone, ("the first", "the second"), strict=True):
        if own:
            differs.append(f"{', '.join(own)} in {which} alone")
    asked = [task for task in a["tasks"] if task in b["tasks"] and not _same_task(a["tasks"][task], b["tasks"][task])]
    if asked:
        differs.append(f"other items or prompts in {', '.join(asked)}")
    raise UserError(
        f"{first.id} ({a['fingerprint']}) and {other.id} ({b['fingerprint']}) were not asked the same: "
        f"{'; '.join(differs) or 'the fingerprints differ'}: expected records of one suite, split and limit"
    )


def flips(first: Side, other: Side) -> pd.DataFrame:
    """The items that one got right and the other wrong, with what both said.

    An item is told by the first metric of its task whose scores are all 0 or 1 (``strict``, ``acc``).

    Returns:
        A row an item (``FLIPS``): scores before and after, the prompt, and gold and both answers as lists of a token's
        text each.
    """
    keys = ["task", "metric", "item"]
    a, b = (side.record.items(side.name)[[*keys, "value"]] for side in (first, other))
    both = a.merge(b, on=keys, suffixes=("_a", "_b"), validate="one_to_one")
    is_binary = both.groupby(["task", "metric"], sort=False)[["value_a", "value_b"]].agg(lambda v: v.isin([0, 1]).all())
    binary = is_binary.all(axis=1)
    told = {task: metric for task, metric in reversed(binary[binary].index.tolist())}
    rows = both[[told.get(task) == metric for task, metric in zip(both["task"], both["metric"], strict=True)]]
    rows = rows[rows["value_a"] != rows["value_b"]].rename(columns={"value_a": "before", "value_b": "after"})
    said = [side.record.answers(side.name).set_index(["task", "item"]) for side in (first, other)]
    places = list(zip(rows["task"], rows["item"], strict=True))
    rows = rows.assign(
        prompt=[_cell(said[0], place, "prompt", "") for place in places],
        gold=[max((_cell(side, place, "gold", []) for side in said), key=len) for place in places],
        first=[_cell(said[0], place, "answer", []) for place in places],
        other=[_cell(said[1], place, "answer", []) for place in places],
    )
    return rows[FLIPS].reset_index(drop=True)


def marked(answer: Sequence[str], gold: Sequence[str]) -> list[tuple[str, bool]]:
    """The answer's text in runs, each with whether it differs from gold: by the fewest edits of whole tokens."""
    if "".join(answer) == "".join(gold):  # however it is cut
        return [("".join(answer), False)]
    runs: list[tuple[str, bool]] = []
    for step in Levenshtein.opcodes(list(gold), list(answer)):
        text = "".join(answer[step.dest_start : step.dest_end])
        if text:
            runs.append((text, step.tag != "equal"))
    return runs


def to_json(comparisons: Sequence[Comparison], flipped: Sequence[pd.DataFrame] | None = None) -> dict[str, Any]:
    """The one object of ``--json``."""
    found = []
    for i, one in enumerate(comparisons):
        entry: dict[str, Any] = {
            "spec": one.other.label,
            "record": one.other.record.id,
            "changes": {
                f"{axis}/{metric}": dataclasses.asdict(change) for (axis, metric), change in one.changes.items()
            },
            "summary": {
                name: dict(zip(("first", "other", "difference"), map(dataclasses.asdict, figures), strict=True))
                for name, figures in one.summary.items()
            },
        }
        if flipped is not None:
            entry["flips"] = flipped[i].to_dict("records")
        found.append(entry)
    first = comparisons[0].first
    return {"first": {"spec": first.label, "record": first.record.id}, "compared": found}


def _corrected(found: Sequence[Mapping[Key, Change]]) -> list[dict[Key, Change]]:
    """The changes with p by Holm's correction over all of them."""
    ps = iter(significance.holm([change.p for changes in found for change in changes.values()]))
    return [{key: dataclasses.replace(change, p_holm=next(ps)) for key, change in changes.items()} for changes in found]


def _against_base(side: Side, seed: int) -> dict[str, np.ndarray]:
    """The draws of a side's summary figures against its base; none of the base itself."""
    if side.name == "base":
        return {}
    found = side.record
    return Paired(found.items("base"), found.items("edit"), found.chance, seed).summary_draws()


def _differences(
    first: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> dict[str, tuple[Interval, Interval, Interval]]:
    return {
        name: (interval(first[name]), interval(other[name]), difference)
        for name, difference in differences(other, first).items()
    }


def _same_task(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.get("fingerprint") == b.get("fingerprint") and a.get("n") == b.get("n")


def _word(value: Any) -> str:
    return "none" if value in (None, [], "") else ",".join(value) if isinstance(value, list) else str(value)


def _cell(said: pd.DataFrame, place: tuple[str, int], column: str, otherwise: Any) -> Any:
    return said.at[place, column] if place in said.index else otherwise
