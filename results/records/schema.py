"""What a record holds, version by version, and how an older one is brought to the newest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import UserError

NEWEST = 2
FIELDS = {
    *("id", "spec", "model", "weights", "edited_weights", "arguments", "steps", "matrices", "suite", "fingerprint"),
    *(
        "tasks",
        "base",
        "axes",
        "changes",
        "summary",
        "chance",
        "control",
        "command",
        "seconds",
        "versions",
        "created",
        "risk",
    ),
    "items_sha256",
}
"""What every record has; :func:`migrated` fills in what an older one had not."""


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """The content as the newest schema has it, with the schema that it was read from.

    Raises:
        UserError: it is of no schema that there was, or not as its schema says.
    """
    for version in range(content["schema"], NEWEST):
        try:
            content = {"read_from_schema": version, **_STEPS[version](content), "schema": version + 1}
        except (LookupError, TypeError, AttributeError) as error:
            raise UserError(f"what schema {version} has is not there ({error!r})") from error
    return content


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    """1 had no command, no fingerprint a task, no answers; what guessing scores follows from what was retained."""
    changes = content.get("changes", {})
    chance = {key: found for key, change in changes.items() if (found := _chance(change)) is not None}
    steps = content.get("steps", [])
    return {
        **content,
        "tasks": {task: {"n": n} for task, n in content.get("n", {}).items()},
        "chance": chance,
        "control": any(step.get("name") == "random" for step in steps),
        "command": "",
    }


def _chance(change: dict[str, Any]) -> float | None:
    """(edited - c) / (base - c) = kept, solved for c."""
    kept = (change.get("retained") or {}).get("value")
    if kept is None or kept == 1:
        return None
    guessing: float = (change["edited"] - kept * change["base"]) / (1 - kept)
    return round(guessing, 9) + 0.0


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}
