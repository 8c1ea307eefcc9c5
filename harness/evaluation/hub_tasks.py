"""lm-eval's own tasks, by reference; what cannot be had of them is left out, with the reason."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import lm_eval.tasks
from datasets.exceptions import DatasetsError
from huggingface_hub import get_session
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the client's, httpx or its successor
from lm_eval.tasks import TaskManager

from ...tasks.suite import TaskSpec
from ..common.progress import track
from ..lm.adapter import MemsplitLM

UNAVAILABLE = (OSError, ValueError, RuntimeError, ImportError, DatasetsError, HTTPError)
"""What datasets, the hub's client, its HTTP library and a data set's own code raise where the data cannot be had."""
PROBE_S = 10.0
"""Seconds that the hub has to answer before what is in the cache must do."""


def load(parts: Sequence[TaskSpec], lm: MemsplitLM) -> tuple[dict[str, Any], list[TaskSpec]]:
    """lm-eval's task objects by name, and the parts that are left out, each with its ``note``.

    A task is left out where the installed lm-eval has none of that name or scores it otherwise, where the model's
    context has no room for its answers, and where its data set cannot be had (no network, gated, removed, of a kind
    that ``datasets`` no longer reads). Without a network, or with ``HF_HUB_OFFLINE``, data sets come from the cache.
    """
    tasks: dict[str, Any] = {}
    skipped: list[TaskSpec] = []
    if parts:
        logging.getLogger("datasets").setLevel(logging.CRITICAL)
        manager = index(parts)
        with _reachable_or_offline() as offline:
            for part in track(parts, "fetching tasks", len(parts)):
                note = _unfit(manager, part, lm)
                task, note = (None, note) if note else _load(manager, part, offline)
                if note:
                    skipped.append(dataclasses.replace(part, note=note))
                else:
                    tasks[part.task] = task
    return tasks, skipped


def index(parts: Sequence[TaskSpec]) -> TaskManager:
    """A manager that knows these tasks: of their folders, or of all where one has moved, which takes 10 s."""
    root = Path(lm_eval.tasks.__file__).parent
    manager = TaskManager(include_path=sorted({str(root / part.hub) for part in parts}), include_defaults=False)
    return manager if all(part.task in manager.task_index for part in parts) else TaskManager()


def _unfit(manager: TaskManager, part: TaskSpec, lm: MemsplitLM) -> str:
    """Why lm-eval's definition is of no use here, in one line, or ``""``; needs no data."""
    version = importlib.metadata.version("lm-eval")
    if part.task not in manager.task_index:
        return f"lm-eval {version} has no such task"
    config = manager.task_index[part.task].cfg
    filters = {entry["name"] for entry in config.get("filter_list") or [{"name": "none"}]}
    metrics = {entry["metric"] for entry in config["metric_list"]}
    if part.filter not in filters or not metrics.issuperset(part.metrics):
        return f"lm-eval {version} does not score it by {', '.join(part.metrics)} after the filter {part.filter}"
    if config.get("output_type") == "generate_until":
        room = (config.get("generation_kwargs") or {}).get("max_gen_toks", lm.max_gen_toks)
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


@contextmanager
def _reachable_or_offline() -> Iterator[str]:
    """Yields why the hub is not asked, or ``""``.

    A hub that does not answer is asked once, not six times a data set, which is what its client would do.
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
