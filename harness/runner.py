"""Score a base model and its edits on one suite: loaded once, base scored once, restored bit for bit in between."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from ..errors import unknown
from ..model_edits.apply import applied
from ..results import record, stats
from ..tasks import suite
from . import loading, models
from .adapter import MemsplitLM
from .editing import Prepared, Workshop
from .progress import track

PACKAGES = ("memsplit", "torch", "transformers", "lm-eval", "datasets", "rapidfuzz", "pandas", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to run, as the command line gives it."""

    model: str
    edits: Sequence[str]
    suite: str = "memsplit"
    tasks: Sequence[str] = ()
    split: str = "test"
    limit: int | None = None
    batch_size: int = 32
    device: str = "cpu"
    dtype: str | None = None
    seed: int = 0
    out: Path = field(default_factory=lambda: Path("memsplit-results"))
    factor_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One edit's result against the base."""

    spec: str
    figures: stats.Figures
    changes: dict[tuple[str, str], stats.Interval]
    summary: dict[str, stats.Interval]
    seconds: float
    record: Path


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a command found."""

    model: str
    suite: str
    fingerprint: str
    base: stats.Figures
    edits: list[Scored]
    skipped: list[str]

    def to_json(self) -> dict[str, Any]:
        """The one object of ``--json``."""
        return {
            "model": self.model,
            "suite": self.suite,
            "fingerprint": self.fingerprint,
            "base": self.base,
            "edits": [
                {
                    "spec": e.spec,
                    "axes": e.figures,
                    "summary": {name: i.value for name, i in e.summary.items()},
                    "seconds": e.seconds,
                    "record": str(e.record),
                }
                for e in self.edits
            ],
        }


def run(request: Request) -> Report:
    """Run a request and write its records.

    Raises:
        UserError: the request cannot be met.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    entry = models.resolve(request.model)
    parts, skipped = choose_parts(request, entry)
    torch.manual_seed(request.seed)
    loaded = loading.load(entry, device=request.device, dtype=request.dtype)
    workshop = Workshop(loaded, request.factor_tokens)
    edits = [workshop.edit(text) for text in request.edits]
    for edit in edits:
        workshop.collect_missing(edit)
    lm = MemsplitLM(loaded, batch_size=request.batch_size)
    tasks = load_tasks(parts, entry, request.split)
    fingerprint = suite_fingerprint(tasks, request.limit)
    start = time.monotonic()
    base_items = score(lm, tasks, parts, request, "base")
    base_seconds = time.monotonic() - start
    base = stats.figures(base_items)
    results = []
    for text, edit in zip(request.edits, edits, strict=True):
        prepared = workshop.prepare(edit)
        start = time.monotonic()
        items = base_items
        if prepared.weights:
            with applied(loaded.model, prepared.weights):
                items = score(lm, tasks, parts, request, text)
        seconds = {"base": base_seconds, **prepared.seconds, "suite": time.monotonic() - start}
        chance = {(p.axis, name): p.chance for p in parts for name in p.metrics.values()}
        paired = stats.Paired(base_items, items, chance, request.seed)
        figures = stats.figures(items)
        changes = {(a, m): paired.change(a, m) for a, metrics in base.items() for m in metrics}
        summary = paired.summary()
        content = {
            "spec": str(edit.spec),
            **_context(request, loaded, fingerprint, prepared),
            "base": base,
            "axes": figures,
            "n": items.groupby("task")["item"].nunique().to_dict(),
            "changes": {f"{a}/{m}": dataclasses.asdict(i) for (a, m), i in changes.items()},
            "summary": {name: dataclasses.asdict(i) for name, i in summary.items()},
            "seconds": seconds,
        }
        both = pd.concat([base_items.assign(side="base"), items.assign(side="edit")], ignore_index=True)
        path = record.write(request.out, _file_name(request.model, str(edit.spec)), content, both)
        took = sum(v for k, v in seconds.items() if k != "base")
        results.append(
            Scored(spec=str(edit.spec), figures=figures, changes=changes, summary=summary, seconds=took, record=path)
        )
    return Report(
        model=request.model, suite=request.suite, fingerprint=fingerprint, base=base, edits=results, skipped=skipped
    )


def choose_parts(request: Request, entry: models.ModelEntry) -> tuple[list[suite.Part], list[str]]:
    """The tasks to run, and those left out because the model has no pack.

    Raises:
        UserError: unknown suite or task.
    """
    if request.suite not in suite.SUITES:
        raise unknown("suite", request.suite, suite.SUITES)
    parts = {part.task: part for part in suite.SUITES[request.suite]}
    for name in request.tasks:
        if name not in parts:
            raise unknown("task", name, parts)
    asked = [part for name, part in parts.items() if not request.tasks or name in request.tasks]
    chosen = [part for part in asked if entry.pack or not part.pack]
    return chosen, [part.task for part in asked if part not in chosen]


def load_tasks(parts: Sequence[suite.Part], entry: models.ModelEntry, split: str) -> dict[str, Any]:
    """lm-eval's task objects, by name."""
    metadata = {"split": split, **({"pack": entry.pack} if entry.pack else {})}
    manager = TaskManager(include_path=str(suite.FOLDER), include_defaults=False, metadata=metadata)
    loaded: dict[str, Any] = manager.load([part.task for part in parts])["tasks"]
    return loaded


def suite_fingerprint(tasks: dict[str, Any], limit: int | None) -> str:
    """A hash of every task's version, items and prompts: equal fingerprints ask the same."""
    sha = hashlib.sha256()
    for name, task in sorted(tasks.items()):
        docs = list(task.eval_docs)[:limit]
        rows = [[doc, task.doc_to_text(doc), task.doc_to_target(doc)] for doc in docs]
        sha.update(json.dumps([name, task.VERSION, rows], sort_keys=True).encode())
    return sha.hexdigest()[:16]


def score(
    lm: MemsplitLM, tasks: dict[str, Any], parts: Sequence[suite.Part], request: Request, label: str
) -> pd.DataFrame:
    """Run the tasks; one row an item and metric (see ``results.stats``)."""
    rows = []
    for part in track(parts, f"scoring {label}", len(parts)):
        task = tasks[part.task]
        found = evaluate(lm, {"tasks": {part.task: task}}, limit=request.limit, bootstrap_iters=0, log_samples=True)
        for sample in found["samples"][part.task]:
            for metric, name in part.metrics.items():
                value, weight = sample[metric], 1
                if isinstance(value, tuple):
                    value, weight = value[0] / value[1], value[1]
                rows.append((part.task, part.axis, name, sample["doc_id"], float(value), weight))
    return pd.DataFrame(rows, columns=stats.COLUMNS)


def _context(request: Request, loaded: loading.LoadedModel, fingerprint: str, prepared: Prepared) -> dict[str, Any]:
    arguments = {k: v for k, v in dataclasses.asdict(request).items() if k != "out"}
    edit = prepared.edit
    return {
        "model": request.model,
        "pretrained": Path(loaded.entry.pretrained).name if loaded.entry.pack else loaded.entry.pretrained,
        "weights": loaded.weights,
        "arguments": arguments,
        "edit": {f.name: getattr(edit, f.name) for f in dataclasses.fields(edit)},
        "factors": prepared.factors,
        "matrices": [dataclasses.asdict(change) for change in prepared.changes],
        "suite": request.suite,
        "fingerprint": fingerprint,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {
            "device": str(loaded.model.device),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }


def _file_name(model: str, spec: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.+=" else "_" for c in f"{Path(model).name}_{spec}")
