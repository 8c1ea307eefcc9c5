"""Records whose figures a test chooses, made of items that have these figures, as a store has them."""

import functools
import math
import re
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from memsplit.results.records import record, tables
from memsplit.results.records.record import Record
from memsplit.results.records.schema import Results
from memsplit.results.statistics import aggregate
from memsplit.results.statistics.paired import Paired

N = 30
"""Items of each task."""
ALIKE = ("arithmetic", "facts_open")
"""Axes whose items are answered as those of logic are, so that reasoning kept is logic kept."""
CHANCE = {("logic", "boolean"): 0.5, ("logic", "acc"): 0.5, ("facts_closed", "acc"): 0.0}
CHANCE |= {(axis, "acc"): 0.5 for axis in ALIKE}
MATRICES = [
    {"name": "layers.1.up.weight", "kept": 10, "total": 100, "removed_norm": 0.5},
    {"name": "layers.2.up.weight", "kept": 50, "total": 300, "removed_norm": 0.7},
]
ATTACK = "relearn"


def _task(axis: str, metric: str, values: np.ndarray) -> pd.DataFrame:
    n = len(values)
    columns = (axis, axis, metric, range(n), values, 1, [str(item) for item in range(n)], "")
    return pd.DataFrame(dict(zip(tables.ITEMS, columns, strict=True)))


def _passages(memorized_bits: np.ndarray, strict: np.ndarray, twins_bits: np.ndarray) -> pd.DataFrame:
    parts = [("recitation", memorized_bits, strict), ("twins", twins_bits, np.zeros(N))]
    return pd.concat(
        [
            _task(axis, metric, values)
            for axis, bits, said in parts
            for metric, values in (("log_prob", -bits * math.log(2)), ("strict", said))
        ],
        ignore_index=True,
    )


def _rest(logic: np.ndarray, facts: np.ndarray, nats: np.ndarray) -> pd.DataFrame:
    parts = [("logic", "boolean", logic), ("facts_closed", "acc", facts), ("fluency", "perplexity", nats)]
    parts += [(axis, "acc", logic) for axis in ALIKE]
    return pd.concat([_task(*part) for part in parts], ignore_index=True)


@functools.cache
def sides(
    stays: float, kept: float, ratio: float, removed: float, spread: float, seed: int
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.DataFrame]:
    """Items of every side with these summary figures, to the last bits; what they spread by is of each edit's own."""
    hard, own = np.random.default_rng(0), np.random.default_rng(seed)  # items are as hard for one edit as for another

    def centred(rng: np.random.Generator, size: float) -> np.ndarray:
        drawn = rng.normal(0, size, N)
        return np.asarray(drawn - drawn.mean())

    memorized, twins = 1 + centred(hard, 0.2), 5 + centred(hard, 0.2)
    said = (np.arange(N) >= round(N * removed)).astype(float)
    base = pd.concat([_passages(memorized, np.ones(N), twins), _rest(np.ones(N), np.full(N, 0.9), np.full(N, 3.4))])
    passages = _passages(memorized + 4 * stays + centred(own, spread), said, twins)
    rest = _rest(
        0.5 + 0.5 * kept + centred(hard, 0.1) + centred(own, spread / 10),
        0.9 * kept + centred(own, spread / 10),
        3.4 + math.log(ratio) + centred(own, spread / 100),
    )
    return {tables.attacked("edit", ATTACK): passages}, base, pd.concat([passages, rest])


def steps(spec: str) -> list[dict[str, Any]]:
    """The steps of a spec of one step, or of several without a ``+`` in values."""
    found = []
    for text in spec.split("+"):
        head, _, dial = text.partition("@")
        head, _, options = head.partition(":")
        name, _, percent = head.partition("-")
        step: dict[str, Any] = {"name": name, "percent": float(percent) if percent else None, "dial": float(dial or 0)}
        for key, _, value in (option.partition("=") for option in options.split(",") if option):
            step[key] = float(value) if re.fullmatch("[0-9.]+", value) and key not in ("layers", "proj") else value
        found.append(step)
    return found


def answers() -> pd.DataFrame:
    row = {"task": "logic", "item": 0, "prompt": "p", "gold": ["a"], "answer": ["recited"]}
    return pd.DataFrame([{**row, "side": "base"}, {**row, "side": "edit"}])


def made(
    folder: Path,
    spec: str,
    *,
    stays: float = 0.8,
    kept: float = 0.9,
    ratio: float = 1.2,
    removed: float = 1.0,
    spread: float = 0.3,
    attacks: bool = True,
    split: str = "test",
    limit: int | None = None,
    created: int = 0,
    control: bool = False,
    matrices: list[dict[str, Any]] = MATRICES,
    **changed: Any,
) -> Record:
    """A record of an edit with these figures, each with its interval; without attacks, as one of old.

    ``changed``, by the JSON's keys, takes the place of what it would say.
    """
    of_attacks, base, edited = sides(stays, kept, ratio, removed, spread, zlib.crc32(spec.encode()))
    of_attacks = of_attacks if attacks else {}
    paired = Paired(base, edited, CHANCE, others=of_attacks)
    summary = {name: msgspec.to_builtins(figure) for name, figure in paired.summary().items()}
    if not attacks:
        summary = {name: summary[name] for name in ("recitation_removed", "logic_kept", "perplexity_ratio")}
        summary["split_score"] = {"value": 0.95, "low": 0.9, "high": 1.0}
    told = [{"spec": name, "erased": figure, "strict": 0.0} for name, figure in paired.attacks().items()]
    content: dict[str, Any] = {
        "spec": spec,
        "model": "olmo-tiny",
        "weights": "w" * 64,
        "arguments": {"model": "olmo-tiny", "split": split, "limit": limit, "seed": 0},
        "suite": "memsplit",
        "fingerprint": "0123456789abcdef" if split == "test" else "dev0123456789dev",
        "dtype": "float32",
        "versions": {"memsplit": "0.1.0"},
        "command": f"memsplit-eval --model olmo-tiny --edit {spec} --device cpu",
        "control": control or spec.startswith("random"),
        "edited_weights": f"edited by {spec}",
        "steps": steps(spec),
        "matrices": matrices,
        "tasks": {"logic": {"axis": "logic", "version": 1, "fingerprint": "f", "n": N}},
        "created": f"2026-01-01T00:00:{created:02}+00:00",
        "base": aggregate.metrics(base),
        "axes": aggregate.metrics(edited),
        "chance": {f"{axis}/{metric}": value for (axis, metric), value in CHANCE.items()},
        "changes": {f"{axis}/{metric}": change for (axis, metric), change in paired.changes().items()},
        "summary": summary,
        **({"attacks": told} if attacks else {}),
        "risk": {"base": {"discoverable": {}, "membership": {}}, "edit": {"discoverable": {}, "membership": {}}},
        "groups": {"base": {}, "edit": {}},
        "seconds": {"base": 9.0, "curvature": 1.0, "edit": 0.25, "suite": 2.0},
        **changed,
    }
    items = pd.concat(
        [rows.assign(side=side) for side, rows in {"base": base, "edit": edited, **of_attacks}.items()],
        ignore_index=True,
    )
    return record.write(folder, f"made_{created}", msgspec.convert(content, Results), items, answers())
