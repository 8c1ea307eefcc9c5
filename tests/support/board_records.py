"""Records made of figures that a test chooses, as a store has them."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from memsplit.results.records import record
from memsplit.results.records.record import Record
from memsplit.results.records.schema import Results

BASE = {
    "recitation": {"strict": 1.0, "loose": 1.0},
    "twins": {"strict": 0.0},
    "facts_closed": {"acc": 0.9},
    "logic": {"acc": 0.8, "boolean": 0.8},
    "fluency": {"perplexity": 30.0},
}
SCORED = {"split_score": (0.8, 0.7, 0.9), "recitation_removed": (0.75, 0.6, 0.9), "logic_kept": (0.9, 0.8, 1.0)}
ALWAYS = {"perplexity_ratio": (1.2, 1.1, 1.3), "facts_closed_kept": (0.5, 0.4, 0.6)}
MATRICES = [
    {"name": "layers.1.up.weight", "kept": 10, "total": 100, "removed_norm": 0.5},
    {"name": "layers.2.up.weight", "kept": 50, "total": 300, "removed_norm": 0.7},
]


def interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def items() -> pd.DataFrame:
    row = {
        "task": "t",
        "axis": "logic",
        "metric": "boolean",
        "item": 0,
        "value": 1.0,
        "weight": 1,
        "cluster": 0,
        "group": "",
    }
    return pd.DataFrame([{**row, "side": "base"}, {**row, "side": "edit"}])


def answers() -> pd.DataFrame:
    row = {"task": "t", "item": 0, "prompt": "p", "gold": ["a"], "answer": ["recited"]}
    return pd.DataFrame([{**row, "side": "base"}, {**row, "side": "edit"}])


def made(
    folder: Path,
    spec: str,
    *,
    score: tuple[float, float, float] | None = (0.8, 0.7, 0.9),
    ratio: float = 1.2,
    created: int = 0,
    control: bool = False,
    matrices: list[dict[str, Any]] = MATRICES,
    **changed: Any,
) -> Record:
    """A record of an edit with that split score (value, low, high), which is also what it removes of recitation.

    ``None``: the suite had nothing to make one of.
    """
    scored = (
        {**SCORED, "split_score": score, **({"recitation_removed": score} if score[0] == score[0] else {})}
        if score
        else {}
    )
    summary = {**scored, **ALWAYS, "perplexity_ratio": (ratio, ratio - 0.1, ratio + 0.1)}
    axes = {axis: {metric: value * 0.5 for metric, value in metrics.items()} for axis, metrics in BASE.items()}
    change = {
        **interval(-0.1, -0.2, 0.0),
        "n": 20,
        "clusters": 20,
        "p": 0.01,
        "p_holm": 0.0001,
        "test": "mcnemar",
        "detectable": math.nan,
    }
    changes = {
        f"{axis}/{metric}": {
            **change,
            "base": value,
            "edited": axes[axis][metric],
            "retained": interval(0.9, 0.8, 1.0) if metric == "acc" else None,
        }
        for axis, metrics in BASE.items()
        for metric, value in metrics.items()
    }
    content: dict[str, Any] = {
        "spec": spec,
        "model": "olmo-tiny",
        "weights": "w" * 64,
        "arguments": {"model": "olmo-tiny", "split": "test", "limit": None, "seed": 0},
        "suite": "memsplit",
        "fingerprint": "0123456789abcdef",
        "dtype": "float32",
        "versions": {"memsplit": "0.1.0"},
        "command": f"memsplit-eval --model olmo-tiny --edit {spec} --device cpu",
        "control": control,
        "edited_weights": f"edited by {spec}",
        "steps": [{"name": step.partition("-")[0].partition(":")[0], "percent": 80} for step in spec.split("+")],
        "matrices": matrices,
        "tasks": {"t": {"axis": "logic", "version": 1, "fingerprint": "f", "n": 20}},
        "created": f"2026-01-01T00:00:{created:02}+00:00",
        "base": BASE,
        "axes": axes,
        "chance": {"logic/acc": 0.5},
        "changes": changes,
        "summary": {name: interval(*figures) for name, figures in summary.items()},
        "risk": {"base": {"discoverable": {}, "membership": {}}, "edit": {"discoverable": {}, "membership": {}}},
        "groups": {"base": {}, "edit": {}},
        "seconds": {"base": 9.0, "curvature": 1.0, "edit": 0.25, "suite": 2.0},
        **changed,
    }
    content["arguments"] = {"seed": 0, **content["arguments"]}
    return record.write(folder, f"made_{created}", msgspec.convert(content, Results), items(), answers())
