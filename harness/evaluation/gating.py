"""What ``memsplit gate`` and the pytest plugin share: their options, their checks, and the two records to compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ...errors import UserError, unknown
from ...model_edits.registry import DEFAULT_ATTACKS
from ...results.gate.policy import Policy
from ...results.records.axes import RECITATION
from ...results.records.record import Record
from ...results.records.store import Store
from .request import Request
from .task_selection import choose_parts

SCORED = (
    *("model", "pack", "corpus", "factor_tokens", "device", "dtype", "parallelize"),
    *("revision", "trust_remote_code", "dequantize"),
    *("suite", "tasks", "include_path", "split", "limit", "chat_template"),
    *("batch_size", "seed", "reference", "attacks"),
)
"""The fields of a request that say which model is scored, on what, and how; each is an option of ``memsplit gate``."""


def known_record(against: str | None, folder: Path) -> Record | None:
    """The record that ``against`` names; ``None`` where it is an edit's spec, or nothing.

    Args:
        against: a JSON file, a record's id, the hash that an id ends in, or a spec.
        folder: where records lie.

    Raises:
        UserError: the record cannot be read.
    """
    if against is None:
        return None
    store = Store(folder)
    is_id = any(against in (path.stem, path.stem.rpartition("-")[2]) for path in store.paths())
    return store.find(against) if is_id or against.endswith(".json") else None


def check_policy(policy: Policy, request: Request) -> None:
    """Refuse a policy that asks for an axis or metric that the request does not score.

    Raises:
        UserError: names the margin or the criterion, and what is scored.
    """
    parts, _ = choose_parts(request.suite, request.tasks, request.entry, request.include_path)
    known = {part.axis for part in parts} | {f"{part.axis}/{name}" for part in parts for name in part.metrics.values()}
    for name in policy.margins:
        if name not in known | {RECITATION}:
            raise unknown("axis in the policy's [margins]", name, known)
    for criterion, name in policy.needs:
        if name not in known:
            axes = ", ".join(sorted({part.axis for part in parts}))
            raise UserError(f"the policy asks for {criterion!r}, but {name} is not scored: expected it beside {axes}")


def with_attacks(policy: Policy, request: Request) -> Request:
    """The request, with the default attacks where the policy asks for ``stays_erased`` and none is named."""
    if policy.stays_erased is None or request.attacks:
        return request
    return dataclasses.replace(request, attacks=DEFAULT_ATTACKS)


def sides(records: Sequence[Record], old: Record | None) -> tuple[Record, Record | None]:
    """The new edit's record, and the old edit's: ``old``, or the second that was scored; ``None`` for the base."""
    new, *others = records
    return new, others[0] if others else old
