"""Score a suite's tasks with the weights that the model holds now, or read the scores from the cache."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lm_eval.api.task
import pandas as pd
import torch
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from ...files import digest
from ...results.records.score_cache import Scores, ScoreStore
from ...results.records.tables import ANSWERS, ITEMS
from ...tasks import suite
from ..common.progress import track
from ..common.runtime import AUTO_BATCH
from ..lm import transcripts
from ..lm.adapter import MemsplitLM
from .task_selection import leave_out

SCORE_PACKAGES = ("torch", "transformers", "lm-eval", "numpy", "rapidfuzz", "sacrebleu")
"""Packages whose versions are part of a score's key in the cache."""
VERSION = 3
"""The version of how a model is asked and of the tables that are kept: raise it when a figure or a row changes.

A metric's own definition has its version in its task's YAML (``metadata.version``), which is part of the task's
fingerprint. ``tests/golden`` holds figures of both, which fail where a figure changes and neither version does.
"""
SHOTS_SEED = 1234
"""lm-eval's own seed for drawing few-shot examples, set again before each use of a task."""


def load_tasks(parts: Sequence[suite.TaskSpec], pack: str, split: str) -> dict[str, Any]:
    """lm-eval's objects of our own tasks, by name."""
    manager = TaskManager(
        include_path=str(suite.FOLDER), include_defaults=False, metadata={"split": split, "pack": pack}
    )
    loaded: dict[str, Any] = manager.load([part.task for part in parts])["tasks"]
    return loaded


class Scorer:
    """Scores one suite. Items that are longer than the model's context are left out, whatever its weights.

    An item's number is its place among those of its task that are scored, so that suites of one fingerprint have the
    same numbers, and so does whatever else is asked :meth:`docs`.

    Args:
        lm: the model; its weights may change between calls.
        parts: the tasks.
        tasks: lm-eval's objects of them, by name.
        limit: only the first so many items of each task.
        store: where scores are kept.
        rescore: do not read from the store.

    Attributes:
        parts: the tasks of which an item is left.
        skipped: the other tasks, each with its ``note``.
        left_out: how many items of each task are left out, by its name, of those in ``skipped`` all.

    Raises:
        UserError: no task is left.
    """

    def __init__(
        self,
        lm: MemsplitLM,
        parts: Sequence[suite.TaskSpec],
        tasks: Mapping[str, Any],
        *,
        limit: int | None,
        store: ScoreStore,
        rescore: bool = False,
    ) -> None:
        self.lm = lm
        self.limit = limit
        self.store = store
        self.rescore = rescore
        self._items = {name: _fitting(task, lm, limit) for name, task in tasks.items()}
        note = f"every item is longer than the model's context of {lm.max_length} tokens"
        self.skipped = [dataclasses.replace(p, note=note) for p in parts if not self._items[p.task]]
        self.parts = leave_out(parts, self.skipped) if self.skipped else parts
        self.tasks = {part.task: tasks[part.task] for part in self.parts}
        self.left_out = {
            name: len(list(task.eval_docs)[:limit]) - len(self._items[name]) for name, task in tasks.items()
        }
        self.fingerprints = {name: task_fingerprint(task, self.docs(name)) for name, task in self.tasks.items()}
        self.settings: dict[str, Any] = {
            "batch_size": AUTO_BATCH if lm.adapts else lm.batch_size,
            "device": torch.device(lm.device).type,
            "versions": {name: importlib.metadata.version(name) for name in SCORE_PACKAGES},
            "code": str(VERSION),
        }

    @property
    def fingerprint(self) -> str:
        """A hash of the tasks' fingerprints, equal only for suites of the same items and prompts."""
        return digest(sorted(self.fingerprints.items()))[:16]

    def docs(self, task: str) -> list[dict[str, Any]]:
        """The documents of the task's items that are scored."""
        docs = list(self.tasks[task].eval_docs)
        return [docs[i] for i in self._items[task]]

    def _samples(self, task: str) -> list[int] | None:
        """The indices of the items that are scored, where any is left out."""
        return self._items[task] if self.left_out[task] else None

    def arguments(self, weights: str, part: suite.TaskSpec) -> dict[str, Any]:
        """The key of one task's scores in the cache: all that they depend on."""
        task = {"task": part.task, "metrics": part.metrics, "filter": part.filter, "axis": part.axis}
        return {"weights": weights, **task, "fingerprint": self.fingerprints[part.task], **self.settings}

    def missing(self, weights: str) -> list[suite.TaskSpec]:
        """The tasks whose scores are not in the cache."""
        return [p for p in self.parts if self.rescore or not self.store.path(self.arguments(weights, p)).exists()]

    def score(self, weights: str, label: str, base: Mapping[str, torch.Tensor] | None = None) -> Scores:
        """The suite's scores (see ``statistics.aggregate``).

        Args:
            weights: sha256 that names the weights that the model holds now.
            label: the name of the progress bar.
            base: the base model's weights, where the model holds others.

        Raises:
            UserError: kept scores are damaged.
        """
        self.lm.base = dict(base or {})
        found = [self._part(weights, part) for part in track(self.parts, f"scoring {label}", len(self.parts))]
        items = pd.concat([scores.items for scores in found], ignore_index=True)
        tables = [scores.answers for scores in found if len(scores.answers)]
        generated = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=ANSWERS)
        return Scores(items, generated, sum(scores.seconds for scores in found))

    def _part(self, weights: str, part: suite.TaskSpec) -> Scores:
        arguments = self.arguments(weights, part)
        kept = None if self.rescore else self.store.load(arguments)
        if kept is not None:
            return kept
        start = time.monotonic()
        task = self.tasks[part.task]
        task.set_fewshot_seed(SHOTS_SEED)
        self.lm.transcripts.clear()
        items = self._samples(part.task)
        asked: dict[str, Any] = {"limit": self.limit} if items is None else {"samples": {part.task: items}}
        asked |= dict.fromkeys(("apply_chat_template", "fewshot_as_multiturn"), self.lm.turns(task))
        with _no_bars(), self.lm.asking(task):
            result = evaluate(self.lm, {"tasks": {part.task: task}}, bootstrap_iters=0, log_samples=True, **asked)
        place = {item: n for n, item in enumerate(self._items[part.task])}
        samples = [{**sample, "doc_id": place[sample["doc_id"]]} for sample in result["samples"][part.task]]
        table = pd.DataFrame(_rows(part, samples), columns=ITEMS)
        generated = pd.DataFrame(transcripts.rows(part, task, samples, self.lm.transcripts), columns=ANSWERS)
        scores = Scores(table, generated, time.monotonic() - start)
        self.store.save(arguments, scores)
        return scores


def _rows(part: suite.TaskSpec, samples: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """One row for each item and metric (see ``statistics.aggregate``); a (sum, weight) pair gives mean and weight.

    lm-eval logs an item once for each filter; only the part's filter counts. Questions about one fact, and passages of
    one document, are a cluster; groups are those of :func:`group_of`. Of an item with a likelihood that is nan, every
    value is nan: what is made of it, such as the likeliest choice, would be a number that nothing stands for.
    """
    rows = []
    for sample in (sample for sample in samples if sample["filter"] == part.filter):
        doc = sample["doc"]
        cluster = cluster_of(doc) or str(sample["doc_id"])
        group = group_of(doc)
        known = not any(_is_nan(response) for of_request in sample["resps"] for response in of_request)
        for metric, name in part.metrics.items():
            total, weight = sample[metric] if isinstance(sample[metric], tuple) else (sample[metric], 1)
            value = float(total) / weight if known else math.nan
            rows.append((part.task, part.axis, name, sample["doc_id"], value, weight, cluster, group))
    return rows


def _is_nan(response: Any) -> bool:
    """Whether a response is a likelihood, alone or with whether it is greedy, that is nan; a text is none."""
    likelihood = response[0] if isinstance(response, tuple) else response
    return isinstance(likelihood, float) and math.isnan(likelihood)


def cluster_of(doc: Mapping[str, Any]) -> str:
    """The name of an item's fact or document, which other items may share; ``""`` where it has neither."""
    if doc.get("fact") is not None:
        return f"fact {doc['fact']}"
    places = (doc[key] for key in ("doc_index", "document") if doc.get(key) is not None)
    return next((f"document {place} of {doc.get('corpus') or ''}" for place in places), "")


def group_of(doc: Mapping[str, Any]) -> str:
    """The name of an item's level, relation, or dose (of a population); ``""`` where it has none of them."""
    if doc.get("dose") is not None:
        return f"{doc.get('population') or 'passages'}, dose {doc['dose']}"
    return str(doc.get("level") or doc.get("relation") or "")


def build_requests(task: Any, lm: MemsplitLM, limit: int | None, items: Sequence[int] | None = None) -> None:
    """Build a task's requests (``task.instances``), with the same examples each time.

    Args:
        task: lm-eval's object.
        lm: the model that is asked, which says whether the prompts are turns of a conversation.
        limit: only the first so many items.
        items: indices of the items, in place of a limit; one at least.

    Raises:
        UserError: the model's chat template cannot be applied.
    """
    turns: dict[str, Any] = {}
    if lm.turns(task):
        turns = dict.fromkeys(("apply_chat_template", "fewshot_as_multiturn"), True)
        turns |= {"chat_template": lm.apply_chat_template, "tokenizer_name": lm.tokenizer_name}
    task.set_fewshot_seed(SHOTS_SEED)
    with _no_bars(), lm.asking(task):
        task.build_all_requests(**({"limit": limit} if items is None else {"samples": list(items)}), **turns)


def _fitting(task: Any, lm: MemsplitLM, limit: int | None) -> list[int]:
    """The indices of the items that the model can read whole.

    Without an item the next may be shown other examples, so that what is left is built, and measured, again.
    """
    items = list(range(len(list(task.eval_docs)[:limit])))
    build_requests(task, lm, limit)
    while long := {request.doc_id for request in task.instances if not lm.fits(request)}:
        items = [item for place, item in enumerate(items) if place not in long]
        if not items:
            break
        build_requests(task, lm, None, items)
    return items


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the bar that lm-eval shows whenever it builds a task's requests; it has no option for that."""
    shown = lm_eval.api.task.tqdm
    lm_eval.api.task.tqdm = functools.partial(shown, disable=True)
    try:
        yield
    finally:
        lm_eval.api.task.tqdm = shown


def task_fingerprint(task: Any, docs: Iterable[Mapping[str, Any]]) -> str:
    """A hash of a task's version, items and requests: every prompt as it is sent, with the examples before it.

    Args:
        task: lm-eval's object, with its requests built (see :func:`build_requests`).
        docs: the documents that they are of.
    """
    about = [{k: v for k, v in doc.items() if k != "pack"} for doc in docs]  # not its folder
    return digest([task.config.task, task.VERSION, about, [request.args for request in task.instances]])[:16]
