"""Edits against one another, item by item: which metrics differ, by how much, and which answers flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein

from ...errors import UserError
from ..records import tables
from ..records.record import Record
from ..records.schema import Change, Interval, Key
from ..records.store import Store
from . import significance
from .paired import OF_MEMORY, Paired, differences, interval

OF_ATTACKS = ("stays_erased", "net_erased", "split_score")
"""The summary metrics that only compare after the same attacks."""
OF_REFERENCE = (
    *("memory_base", "memory", "ks_shorter", "ks_longer", "split_score"),
    *OF_MEMORY,
    "mia_ratio",
)
"""The metrics, of summaries and items, that only compare against the same unseen counterpart."""
FLIPS = ["task", "metric", "item", "before", "after", "prompt", "gold", "first", "other"]
"""Columns of :func:`flips`."""


@dataclass(frozen=True)
class Side:
    """One side of a record.

    Attributes:
        record: of an edit.
        name: ``base`` or ``edit``.
    """

    record: Record
    name: str = "edit"

    @property
    def label(self) -> str:
        """The edit's spec, or ``base``."""
        return self.record.spec if self.name == "edit" else "base"

    @property
    def items(self) -> pd.DataFrame:
        """Its scores."""
        return tables.items(self.record, self.name)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One side against a first.

    Attributes:
        first: the side that the other is compared with.
        other: the side that is compared.
        changes: other - first of every metric that both have, with p corrected over all comparisons that were made
            together.
        summary: every summary metric of the first, of the other, and other - first; each is against the base. Empty
            where one side is the base.
        left_out: why metrics that both have are left out, a line each.
    """

    first: Side
    other: Side
    changes: dict[Key, Change]
    summary: dict[str, tuple[Interval, Interval, Interval]]
    left_out: Sequence[str] = ()


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
        UserError: their records are of different items (see :func:`check_same_items`).
    """
    first, *others = sides
    seed = first.record.content.arguments.seed
    for other in others:
        check_same_items(first.record, other.record)
    apart = [_apart(first, other) for other in others]
    pairs = [
        Paired(*_shared(first.items, other.items, without), first.record.chance, seed)
        for other, without in zip(others, apart, strict=True)
    ]
    changes = _corrected([pair.changes() for pair in pairs])
    before = _against_base(first, seed)
    return [
        Comparison(
            first=first,
            other=other,
            changes=of_it,
            summary=_differences(_without(before, apart_by), _against_base(other, seed)),
            left_out=[f"{', '.join(names)}: left out, as {why}" for why, names in apart_by.items()],
        )
        for other, of_it, apart_by in zip(others, changes, apart, strict=True)
    ]


def _apart(first: Side, other: Side) -> dict[str, list[str]]:
    """The metrics of both records that do not compare, by what differs: attacks, or the unseen counterpart."""
    a, b = first.record, other.record
    own = [
        {name for _, name in side.record.changes} | ({*side.record.summary} if first.name == "edit" else set())
        for side in (first, other)
    ]
    both = own[0] & own[1]
    one, two = ([*sorted(attack.spec for attack in record.attacks)] for record in (a, b))
    unseen = [record.content.reference for record in (a, b)]
    found: dict[str, Sequence[str]] = {}
    if one != two:
        found[f"the attacks differ ({_word(tuple(one))} against {_word(tuple(two))})"] = OF_ATTACKS
    if len({each.weights if each else "" for each in unseen}) > 1:
        names = [each.model if each else "none" for each in unseen]
        found[f"the references differ ({names[0]} against {names[1]})"] = OF_REFERENCE
    return {why: kept for why, names in found.items() if (kept := [name for name in names if name in both])}


def _without(figures: Mapping[str, np.ndarray], apart: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    dropped = {name for names in apart.values() for name in names}
    return {name: values for name, values in figures.items() if name not in dropped}


def _shared(
    first: pd.DataFrame, other: pd.DataFrame, apart: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the tasks' metrics that both have and that compare: ``mia_ratio``, for one, takes a reference."""
    keys = ["task", "axis", "metric"]
    dropped = {name for names in apart.values() for name in names}
    first, other = (items[~items["metric"].isin(dropped)] for items in (first, other))
    a, b = (pd.MultiIndex.from_frame(items[keys]) for items in (first, other))
    return first[a.isin(b)], other[b.isin(a)]


def check_same_items(first: Record, other: Record) -> None:
    """Refuse two records whose items cannot be paired: of other weights, or of other items or prompts.

    Raises:
        UserError: their weights, types or fingerprints differ; it names the tasks and settings that do.
    """
    a, b = first.content, other.content
    for name in ("weights", "dtype"):
        if getattr(a, name) != getattr(b, name):
            values = f"{name} {getattr(a, name)} against {getattr(b, name)}"
            raise UserError(f"{first.id} and {other.id} are not of the same base: {values}")
    if a.fingerprint == b.fingerprint:
        return
    differs = [
        f"{key} {getattr(a, key)} against {getattr(b, key)}"
        for key in ("suite", "model")
        if getattr(a, key) != getattr(b, key)
    ]
    for key in ("split", "limit", "pack", "tasks"):
        one, two = getattr(a.arguments, key), getattr(b.arguments, key)
        if one != two:
            differs.append(f"--{key} {_word(one)} against {_word(two)}")
    alone = [sorted(x.tasks.keys() - y.tasks.keys()) for x, y in ((a, b), (b, a))]
    for own, which in zip(alone, ("the first", "the second"), strict=True):
        if own:
            differs.append(f"{', '.join(own)} in {which} alone")
    both = [(task, a.tasks[task], b.tasks[task]) for task in a.tasks if task in b.tasks]
    changed = [task for task, x, y in both if (x.fingerprint, x.n) != (y.fingerprint, y.n)]
    if changed:
        differs.append(f"other items or prompts in {', '.join(changed)}")
    raise UserError(
        f"{first.id} ({a.fingerprint}) and {other.id} ({b.fingerprint}) were not asked the same: "
        f"{'; '.join(differs) or 'the fingerprints differ'}: expected records of one suite, split and limit"
    )


def flips(first: Side, other: Side) -> pd.DataFrame:
    """The items that one got right and the other wrong, with both answers.

    Right and wrong are by the first metric of an item's task whose scores are all 0 or 1 (``strict``, ``acc``).

    Returns:
        One row an item (``FLIPS``): scores before and after, the prompt, and gold and both answers, each a list of the
        tokens' texts.
    """
    keys = ["task", "metric", "item"]
    a, b = (side.items[[*keys, "value"]] for side in (first, other))
    both = a.merge(b, on=keys, suffixes=("_a", "_b"), validate="one_to_one")
    is_binary = both.groupby(["task", "metric"], sort=False)[["value_a", "value_b"]].agg(lambda v: v.isin([0, 1]).all())
    binary = is_binary.all(axis=1)
    metric_of = {task: metric for task, metric in reversed(binary[binary].index.tolist())}
    rows = both[[metric_of.get(task) == metric for task, metric in zip(both["task"], both["metric"], strict=True)]]
    rows = rows[rows["value_a"] != rows["value_b"]].rename(columns={"value_a": "before", "value_b": "after"})
    answers = [tables.answers(side.record, side.name).set_index(["task", "item"]) for side in (first, other)]
    places = list(zip(rows["task"], rows["item"], strict=True))
    rows = rows.assign(
        prompt=[_cell(answers[0], place, "prompt", "") for place in places],
        gold=[max((_cell(side, place, "gold", []) for side in answers), key=len) for place in places],
        first=[_cell(answers[0], place, "answer", []) for place in places],
        other=[_cell(answers[1], place, "answer", []) for place in places],
    )
    return rows[FLIPS].reset_index(drop=True)


def marked(answer: Sequence[str], gold: Sequence[str]) -> list[tuple[str, bool]]:
    """The answer's text in runs, each with whether it differs from gold, by the fewest edits of whole tokens."""
    if "".join(answer) == "".join(gold):  # however it is cut
        return [("".join(answer), False)]
    runs: list[tuple[str, bool]] = []
    for step in Levenshtein.opcodes(list(gold), list(answer)):
        text = "".join(answer[step.dest_start : step.dest_end])
        if text:
            runs.append((text, step.tag != "equal"))
    return runs


def to_json(comparisons: Sequence[Comparison], flipped: Sequence[pd.DataFrame] | None = None) -> dict[str, Any]:
    """The one object of ``--json``, typed values in it (see ``records.encoding.plain``)."""
    compared = []
    for i, one in enumerate(comparisons):
        entry: dict[str, Any] = {
            "spec": one.other.label,
            "record": one.other.record.id,
            "changes": {"/".join(key): change for key, change in one.changes.items()},
            "summary": {
                name: dict(zip(("first", "other", "difference"), values, strict=True))
                for name, values in one.summary.items()
            },
        }
        if one.left_out:
            entry["left_out"] = list(one.left_out)
        if flipped is not None:
            entry["flips"] = flipped[i].to_dict("records")
        compared.append(entry)
    first = comparisons[0].first
    return {"first": {"spec": first.label, "record": first.record.id}, "compared": compared}


def _corrected(uncorrected: Sequence[Mapping[Key, Change]]) -> list[dict[Key, Change]]:
    """The changes with p by Holm's correction over all of them."""
    ps = iter(significance.holm([change.p for changes in uncorrected for change in changes.values()]))
    return [
        {key: msgspec.structs.replace(change, p_holm=next(ps)) for key, change in changes.items()}
        for changes in uncorrected
    ]


def _against_base(side: Side, seed: int) -> dict[str, np.ndarray]:
    """The replicates of a side's summary metrics against its base; empty for the base itself."""
    return {} if side.name == "base" else Paired.of(side.record, seed).summary_replicates()


def _differences(
    first: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]
) -> dict[str, tuple[Interval, Interval, Interval]]:
    return {
        name: (interval(first[name]), interval(other[name]), difference)
        for name, difference in differences(other, first).items()
    }


def _word(value: Any) -> str:
    return "none" if value in (None, (), "") else ",".join(value) if isinstance(value, tuple) else str(value)


def _cell(answers: pd.DataFrame, place: tuple[str, int], column: str, otherwise: Any) -> Any:
    return answers.at[place, column] if place in answers.index else otherwise
