"""One loaded model with its edits, the tasks that it is scored on, and the scorer."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from ...files import digest
from ...model_edits import registry
from ...results.records.schema import Reference, Risk
from ...results.records.score_cache import Scores, ScoreStore
from ...results.records.tables import EDIT, UNSEEN
from ...results.statistics import extraction
from ...tasks.suite import TaskSpec
from ..common import cache, runtime
from ..lm.adapter import MemsplitLM
from ..models import loading
from . import attacks, hub_tasks, unseen
from .editing import ModelEditor, Prepared
from .passages import PassageScorer
from .request import NO_REFERENCE, Request, pack_kinds, resolve
from .scoring import Scorer, load_tasks
from .task_selection import leave_out


class EvalSession:
    """One loaded model with its edits, the tasks that it is scored on, and the scorer.

    Args:
        request: what to evaluate.
        loaded: the request's model, if it is loaded already; it must be the base model.

    Attributes:
        request: as given, with the device that is computed on.
        loaded: the model.
        editor: makes its edits.
        chains: the request's edits, with their defaults filled in.
        attacks: the attacks that each edit is scored after too, by canonical spec.
        parts: the tasks that are scored.
        skipped: the tasks that are left out, each with its reason.
        notes: what else must be known of the questions, a line each.
        unseen_notes: of attacks on the unseen counterpart, once it is scored.
        scorer: scores the tasks.
        passages: scores their passages alone.

    Raises:
        UserError: the request cannot be met.
    """

    def __init__(self, request: Request, loaded: loading.LoadedModel | None = None) -> None:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        torch.manual_seed(request.seed)
        self.request = request = dataclasses.replace(request, device=runtime.device(request.device))
        entry, parts, skipped = resolve(request)
        self.loaded = loaded or loading.load(
            entry, device=request.device, dtype=request.dtype, parallelize=request.parallelize
        )
        self.editor = ModelEditor(self.loaded, request.factor_tokens)
        self.chains = [self.editor.chain(text) for text in request.edits]
        self.attacks = attacks.chains(request.attacks, self.editor)
        lm = MemsplitLM(self.loaded, batch_size=request.batch_size, chat=request.chat_template)
        self.notes = loading.check_pack(self.loaded, pack_kinds(parts))
        parts, tasks, missing = _load_tasks(parts, lm, self.loaded, request.split)
        store = ScoreStore(cache.folder() / "scores")
        self.scorer = Scorer(lm, parts, tasks, limit=request.limit, store=store, rescore=request.rescore)
        self.parts = self.scorer.parts
        self.skipped = [*skipped, *missing, *self.scorer.skipped]
        self.passages = PassageScorer(self.scorer)
        self.unseen_notes: list[str] = []

    @functools.cached_property
    def unseen(self) -> tuple[Reference | None, dict[str, pd.DataFrame]]:
        """The unseen counterpart, if there is one, and its scores of the passages by side (see ``unseen.score``)."""
        if self.unseen_name is None:
            return None, {}
        pack, names = self.loaded.entry.pack, list(self.attacks)
        about, sides, note, self.unseen_notes = unseen.score(self.unseen_name, self.request, pack, names, self.passages)
        self.notes += [note] if note else []
        return about, sides

    @property
    def unseen_name(self) -> str | None:
        """The unseen counterpart's name; the model table's is of no use where no passage is asked."""
        if self.request.reference is not None:
            return None if self.request.reference == NO_REFERENCE else self.request.reference
        return self.loaded.entry.unseen if self.passages.parts else None

    @functools.cached_property
    def base(self) -> tuple[Scores, Risk]:
        """The base model's scores, and what can be extracted from it."""
        scores = self.score(self.loaded.weights, "base")
        return scores, extraction.risk(scores.items, self.request.seed)

    def recipe_hashes(self) -> dict[str, str | None]:
        """By spec, the recipe hash of each of the request's edits."""
        return {registry.chain_text(chain): self.recipe_hash(chain) for chain in self.chains}

    def recipe_hash(self, chain: Sequence[registry.Edit]) -> str | None:
        """A hash of all that an edit's weights, and those after each attack, are computed from.

        ``None`` where one of them cannot be known (see ``ModelEditor.recipe_hash``).
        """
        own, *others = [self.editor.recipe_hash(steps) for steps in (chain, *self.attacks.values())]
        if own is None or None in others:
            return None
        return digest([own, *others]) if others else own

    def prepare(self, chains: Sequence[Sequence[registry.Edit]]) -> None:
        """Compute what edits have in common: missing factors, and the scores of the reference and the base.

        Raises:
            UserError: a matrix that an edit names does not exist, or factors cannot be collected.
        """
        if chains:
            attacks = self.attacks.values()  # whose factors are of the base too, not of what they attack
            self.editor.collect_missing([edit for chain in (*chains, *attacks) for edit in chain])
            _ = self.unseen, self.base

    def score(self, weights: str, label: str, base: Mapping[str, torch.Tensor] | None = None) -> Scores:
        """The scores of the weights that the model holds now (see ``Scorer.score``).

        With an unseen counterpart, each passage also has the ratio of its loss to the counterpart's.
        """
        _, sides = self.unseen
        scores = self.scorer.score(weights, label, base)
        if UNSEEN not in sides:
            return scores
        return dataclasses.replace(scores, items=extraction.with_reference(scores.items, sides[UNSEEN]))

    def attacked(self, prepared: Prepared) -> tuple[dict[str, pd.DataFrame], list[str]]:
        """The scores of an edit's passages after each attack, by side, and notes (see ``attacks.score``)."""
        return attacks.score(
            self.attacks,
            self.editor,
            self.scorer.lm,
            self.passages,
            side=EDIT,
            weights=prepared.weights,
            weights_hash=prepared.weights_hash,
            spec=prepared.spec,
        )


def _load_tasks(
    parts: Sequence[TaskSpec], lm: MemsplitLM, loaded: loading.LoadedModel, split: str
) -> tuple[list[TaskSpec], dict[str, Any], list[TaskSpec]]:
    """The tasks that can be scored, lm-eval's objects of them by name, and those left out, each with its ``note``.

    Raises:
        UserError: no task is left.
    """
    metadata = {"split": split, "pack": loaded.entry.pack}
    tasks, completed, missing = hub_tasks.load([part for part in parts if not part.own], lm, metadata)
    parts = [completed.get(part.task, part) for part in leave_out(parts, missing)]
    tasks |= load_tasks([part for part in parts if part.own], loaded.entry.pack, split)
    return parts, {part.task: tasks[part.task] for part in parts}, missing
