"""Run the suite's tasks on whatever weights the model holds; what was scored before is read back."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from ..files import digest
from ..results import stats
from ..results.scores import Scores, ScoreStore
from ..tasks import suite
from . import cache
from .adapter import MemsplitLM
from .progress import track

DECIDE = ("torch", "transformers", "lm-eval", "rapidfuzz")
"""Packages whose version is part of a score's name."""
FEWSHOT_SEED = 1234
"""What worked examples are drawn with: lm-eval's own default."""


def load_tasks(parts: Sequence[suite.Part], pack: str, split: str) -> dict[str, Any]:
    """lm-eval's objects of our own tasks, by name."""
    manager = TaskManager(
        include_path=str(suite.FOLDER), include_defaults=False, metadata={"split": split, "pack": pack}
    )
    loaded: dict[str, Any] = manager.load([part.task for part in parts])["tasks"]
    return loaded


class Scorer:
    """Scores one suite.

    Args:
        lm: the model; its weights may change between calls.
        parts: the tasks.
        tasks: lm-eval's objects of them, by name.
        limit: only the first so many items of each task.
        store: where scores are kept.
        rescore: do not read from the store.
    """

    def __init__(
        self,
        lm: MemsplitLM,
        parts: Sequence[suite.Part],
        tasks: Mapping[str, Any],
        *,
        limit: int | None,
        store: ScoreStore,
        rescore: bool = False,
    ) -> None:
        self.lm = lm
        self.parts = parts
        self.tasks = tasks
        self.limit = limit
        self.store = store
        self.rescore = rescore
        self.fingerprints = {name: task_fingerprint(task, limit) for name, task in tasks.items()}
        self.settings = {
            "batch_size": lm.batch_size,
            "device": torch.device(lm.device).type,
            "versions": {name: importlib.metadata.version(name) for name in DECIDE},
            "code": cache.scoring_code(),
        }

    @property
    def fingerprint(self) -> str:
        """The suite's: a hash of its tasks'. Equal fingerprints ask the same."""
        return digest(sorted(self.fingerprints.items()))[:16]

    def arguments(self, weights: str, part: suite.Part) -> dict[str, Any]:
        """Everything that decides the scores of one task."""
        task = {"task": part.task, "metrics": part.metrics, "filter": part.filter, "axis": part.axis}
        return {"weights": weights, **task, "fingerprint": self.fingerprints[part.task], **self.settings}

    def missing(self, weights: str) -> list[suite.Part]:
        """The tasks that would have to be scored."""
        return [p for p in self.parts if self.rescore or not self.store.path(self.arguments(weights, p)).exists()]

    def score(self, weights: str, label: str) -> Scores:
        """The suite's scores (see ``results.stats``).

        Args:
            weights: sha256 that names the weights that the model holds now.
            label: what they are called while they are scored.

        Raises:
            UserError: kept scores are damaged.
        """
        found = [self._part(weights, part) for part in track(self.parts, f"scoring {label}", len(self.parts))]
        items = pd.concat([scores.items for scores in found], ignore_index=True)
        return Scores(items, sum(scores.seconds for scores in found))

    def _part(self, weights: str, part: suite.Part) -> Scores:
        arguments = self.arguments(weights, part)
        kept = None if self.rescore else self.store.load(arguments)
        if kept is not None:
            return kept
        start = time.monotonic()
        task = self.tasks[part.task]
        task.set_fewshot_seed(FEWSHOT_SEED)  # anew each time, so that base and edit are shown the same examples
        tasks = {"tasks": {part.task: task}}
        result = evaluate(self.lm, tasks, limit=self.limit, bootstrap_iters=0, log_samples=True)
        rows = _rows(part, result["samples"][part.task])
        scores = Scores(pd.DataFrame(rows, columns=stats.COLUMNS), time.monotonic() - start)
        self.store.save(arguments, scores)
        return scores


def _rows(part: suite.Part, samples: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """One row an item and metric (see ``results.stats``); a metric of (sum, weight) pairs gives their mean and weight.

    lm-eval logs an item once for each filter: those of the part's count. Questions about one ``fact`` are a cluster; a
    ``level`` or ``relation`` is a group.
    """
    rows = []
    for sample in (sample for sample in samples if sample["filter"] == part.filter):
        doc = sample["doc"]
        cluster = str(doc.get("fact", sample["doc_id"]))
        group = str(doc.get("level") or doc.get("relation") or "")
        for metric, name in part.metrics.items():
            total, weight = sample[metric] if isinstance(sample[metric], tuple) else (sample[metric], 1)
            value = float(total) / weight
            rows.append((part.task, part.axis, name, sample["doc_id"], value, weight, cluster, group))
    return rows


def task_fingerprint(task: Any, limit: int | None) -> str:
    """A hash of a task's version, items and prompts, worked examples included."""
    task.set_fewshot_seed(FEWSHOT_SEED)
    shots = task.config.num_fewshot or 0
    rows = []
    for doc in list(task.eval_docs)[:limit]:
        asked = {key: value for key, value in doc.items() if key != "pack"}  # where it lies is not what it asks
        prompt = task.fewshot_context(doc, shots) if shots else task.doc_to_text(doc)
        rows.append([asked, prompt, task.doc_to_target(doc)])
    return digest([task.config.task, task.VERSION, rows])[:16]
