"""Load tasks that memsplit does not define: lm-eval's own, a user's, a package's."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import huggingface_hub
from datasets.exceptions import DatasetsError
from huggingface_hub import get_session
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the client's, httpx or its successor
from lm_eval.api.metrics import mean
from lm_eval.tasks import TaskManager

from ...tasks.suite import TaskSpec
from ..common.progress import track
from ..lm.adapter import MemsplitLM
from . import lm_eval_index

UNAVAILABLE = (OSError, ValueError, RuntimeError, ImportError, DatasetsError, HTTPError)
"""What datasets, the hub's client, its HTTP library and a data set's own code raise where the data cannot be had."""
PROBE_S = 10.0
"""Seconds to wait for the hub's answer before the cache alone is used."""


def load(
    parts: Sequence[TaskSpec], lm: MemsplitLM, metadata: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], dict[str, TaskSpec], list[TaskSpec]]:
    """Load tasks by their definition in lm-eval, in a package or in a folder of the user's.

    A task is left out if the installed lm-eval has none of that name or scores it by other metrics, if the model's
    context has no room for its answers, or if its data set cannot be had (no network, gated, removed, of a kind that
    ``datasets`` no longer reads). Without a network, or with ``HF_HUB_OFFLINE``, data sets come from the cache.

    Args:
        parts: the tasks.
        lm: the model.
        metadata: added to the tasks' own: the pack and the split.

    Returns:
        lm-eval's task objects and the completed parts (see :func:`_complete`), both by name, and the parts that are
        left out, each with its ``note``.
    """
    tasks: dict[str, Any] = {}
    loaded: dict[str, TaskSpec] = {}
    skipped: list[TaskSpec] = []
    if parts:
        logging.getLogger("datasets").setLevel(logging.CRITICAL)
        manager = index(parts, metadata)
        with _reachable_or_offline() as offline:
            for part in track(parts, "fetching tasks", len(parts)):
                note = _unfit(manager, part, lm)
                task, note = (None, note) if note else _load(manager, part, offline)
                part = part if note else _complete(part, task)
                if note or part.note:
                    skipped.append(dataclasses.replace(part, note=note or part.note))
                else:
                    tasks[part.task], loaded[part.task] = task, part
    return tasks, loaded, skipped


def index(parts: Sequence[TaskSpec], metadata: Mapping[str, str] | None = None) -> TaskManager:
    """lm-eval's manager of these tasks. It reads their folders only, because reading all of lm-eval's takes 10 s."""
    folders = {folder for part in parts for folder in ([part.folder] if part.folder else _folders(part.task))}
    return TaskManager(
        include_path=sorted(map(str, folders)), include_defaults=False, metadata=dict(metadata) if metadata else None
    )


def _folders(task: str) -> frozenset[Any]:
    return lm_eval_index.folders().get(task, frozenset())


def _unfit(manager: TaskManager, part: TaskSpec, lm: MemsplitLM) -> str:
    """Why lm-eval's definition is of no use here, in one line, or ``""``; needs no data."""
    version = importlib.metadata.version("lm-eval")
    if part.task not in manager.task_index:
        return f"lm-eval {version} has no such task"
    config = manager.task_index[part.task].cfg
    filters = {entry["name"] for entry in config.get("filter_list") or [{"name": "none"}]}
    metrics = {entry["metric"] for entry in config.get("metric_list") or ()}
    if part.metrics and (part.filter not in filters or not metrics.issuperset(part.metrics)):
        return f"lm-eval {version} does not score it by {', '.join(part.metrics)} after the filter {part.filter}"
    if config.get("output_type") == "generate_until":
        room: Any = (config.get("generation_kwargs") or {}).get("max_gen_toks", lm.max_gen_toks)
        if room >= lm.max_length:
            return f"an answer may take {room} tokens and the model's context is {lm.max_length}"
    return ""


def _load(manager: TaskManager, part: TaskSpec, offline: str) -> tuple[Any, str]:
    """lm-eval's task, and why there is none, in one line, or ``""``."""
    try:
        return manager.load([part.task])["tasks"][part.task], ""
    except UNAVAILABLE as error:
        if offline and isinstance(error, ConnectionError):
            return None, f"{offline} and the data set is not in the cache"
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return None, (lines or [type(error).__name__])[0][:300].rstrip(".:")


def _complete(part: TaskSpec, task: Any) -> TaskSpec:
    """The part with what only the loaded task tells, if its YAML names no metrics.

    Its metrics are those that lm-eval averages over the items and of which more is better, each by the name
    ``TASK_METRIC``, after the first of the task's filters. Its chance is the mean over the items of one over the
    number of choices, and 0 (not known) for a task that is not multiple choice.
    """
    if part.metrics:
        return part
    better, aggregation = task.higher_is_better(), task.aggregation()
    metrics = {name: f"{part.task}_{name}" for name, how in aggregation.items() if how is mean and better.get(name)}
    if not metrics:
        return dataclasses.replace(part, note="none of its metrics is a mean over its items of which more is better")
    filters = task.config.filter_list or [{"name": "none"}]
    chance = part.chance
    if not chance and task.OUTPUT_TYPE == "multiple_choice" and task.config.doc_to_choice is not None:
        chance = statistics.fmean(1 / len(task.doc_to_choice(doc)) for doc in task.eval_docs)
    return dataclasses.replace(part, metrics=metrics, filter=filters[0]["name"], chance=chance)


@contextmanager
def _reachable_or_offline() -> Iterator[str]:
    """Turn the hub's client offline if the hub does not answer; yields the reason, or ``""`` if it does.

    The hub gets one request here. Its client would repeat each data set's request six times.
    """
    config, constants = datasets.config, huggingface_hub.constants
    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    why = "HF_HUB_OFFLINE is set" if any(before) else ""
    if not why:
        try:
            get_session().head(constants.ENDPOINT, timeout=PROBE_S)
        except UNAVAILABLE:
            why = f"{constants.ENDPOINT} does not answer"
    try:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = (bool(why),) * 2
        yield why
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
