"""Records made of given scores, for the tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from memsplit.results.records import record
from memsplit.results.records.record import Record
from memsplit.results.records.schema import Key, Results, Risk
from memsplit.results.statistics import aggregate
from memsplit.results.statistics.paired import Paired


def made(
    folder: Path,
    base: pd.DataFrame,
    edited: pd.DataFrame,
    *,
    chance: Mapping[Key, float] | None = None,
    answers: pd.DataFrame | None = None,
    **content: Any,
) -> Record:
    """A record of these items, written; ``content``, by the JSON's keys, takes the place of what it would say."""
    chance = chance or {}
    both = Paired(base, edited, chance)
    spec = content.get("spec", "kfac-80")
    risk = Risk(discoverable={}, membership={})
    whole = {
        "spec": spec,
        "model": "olmo-tiny",
        "weights": "w" * 64,
        "edited_weights": "e" * 64,
        "made_from": "m" * 64,
        "arguments": {"split": "test", "seed": 0, "limit": None},
        "suite": "memsplit",
        "fingerprint": "f" * 16,
        "tasks": {
            str(task): {"axis": rows["axis"].iloc[0], "version": 1.0, "fingerprint": "t", "n": rows["item"].nunique()}
            for task, rows in base.groupby("task")
        },
        "steps": [{"name": spec.split("-")[0], "percent": 80.0, "dial": 0.0}],
        "matrices": [{"name": "m.weight", "kept": 20, "total": 100, "removed_norm": 0.5}],
        "factors": [],
        "versions": {"memsplit": "0"},
        "control": spec.startswith("random"),
        "command": f"memsplit-eval --edit {spec}",
        "created": "2026-01-01T00:00:00+00:00",
        "seconds": {"base": 1.0, "curvature": 2.0, "edit": 3.0, "suite": 4.0},
        "hardware": {"device": "cpu", "machine": "x", "threads": 1},
        "skipped": [],
        "base": aggregate.metrics(base),
        "axes": aggregate.metrics(edited),
        "chance": {f"{axis}/{metric}": value for (axis, metric), value in chance.items()},
        "changes": {f"{a}/{m}": change for (a, m), change in both.changes().items()},
        "summary": both.summary(),
        "risk": {"base": risk, "edit": risk},
        **content,
    }
    items = pd.concat([base.assign(side="base"), edited.assign(side="edit")], ignore_index=True)
    return record.write(folder, spec.split(":")[0], msgspec.convert(whole, Results), items, answers)
