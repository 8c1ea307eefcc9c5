"""Bring an edit, its model and its curvature together: fill in defaults, find or collect factors, compute weights."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..model_edits import registry, targets
from ..model_edits.apply import MatrixChange, applied, compute
from ..model_edits.curvature import collect, collect_ekfac
from ..model_edits.factors import Factors, FactorStore
from . import cache, loading, models
from .plan import fill_in
from .progress import track

BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A chain of edits that is ready to be put into the model.

    Attributes:
        steps: with their defaults filled in.
        weights: new weights by parameter name.
        changes: the account, step by step and matrix by matrix.
        factors: the arguments of the factors that each step used, with their sha256 by module name.
        weights_hash: sha256 that names the edited model's weights.
        seconds: by phase: ``curvature`` (0 where it was cached) and ``edit``.
    """

    steps: tuple[registry.Edit, ...]
    weights: dict[str, torch.Tensor]
    changes: list[MatrixChange]
    factors: list[dict[str, Any]]
    weights_hash: str
    seconds: dict[str, float]

    @property
    def spec(self) -> str:
        """The canonical text."""
        return registry.chain_text(self.steps)


class Workshop:
    """Makes edits of one loaded model.

    Args:
        loaded: the model.
        factor_tokens: tokens that factors are collected from; the model table's by default, or what the corpus holds.
        store: where factors are kept; in the cache folder by default.
    """

    def __init__(
        self, loaded: loading.LoadedModel, factor_tokens: int | None = None, store: FactorStore | None = None
    ) -> None:
        self.loaded = loaded
        self.factor_tokens = factor_tokens or loaded.entry.factor_tokens
        self.must_have_all = factor_tokens is not None
        longest = getattr(loaded.model.config, "max_position_embeddings", None) or loaded.entry.factor_length
        self.length = min(loaded.entry.factor_length, longest)
        self.store = store or FactorStore(cache.folder() / "factors")
        self.collected_s: dict[Path, float] = {}

    def chain(self, text: str) -> tuple[registry.Edit, ...]:
        """The steps of a spec, with this model's defaults (see ``plan.fill_in``)."""
        model = self.loaded.model
        steps = fill_in(text, self.loaded.entry, models.layer_count(model.config.to_dict()))
        return tuple(
            step if step.proj or not step.touches else dataclasses.replace(step, proj=targets.default_proj(model))
            for step in steps
        )

    def prepare(self, *steps: registry.Edit) -> Prepared:
        """Find or collect what the steps need and compute their weights, one after the other; the model is not changed.

        Every step's curvature is the base model's, whatever came before it.
        """
        self.collect_missing(steps)
        start = time.monotonic()
        weights: dict[str, torch.Tensor] = {}
        changes: list[MatrixChange] = []
        used: list[dict[str, Any]] = []
        collected = [0.0]
        for edit in steps:
            found, arguments = self.matrices(edit), self.factor_arguments(edit)
            factors = self.factors(found, arguments)
            with applied(self.loaded.model, weights):
                new, account = compute(self.loaded.model, edit, found, factors)
            weights |= new
            changes += account
            if arguments:
                used.append({**arguments, "sha256": {module: f.sha256 for module, f in factors.items()}})
            collected += [self.collected_s.get(self.store.path(arguments, t.module), 0.0) for t in found]
        return Prepared(
            steps=steps,
            weights=weights,
            changes=changes,
            factors=used,
            weights_hash=loading.weights_hash(weights, self.loaded.weights),
            seconds={"curvature": max(collected), "edit": time.monotonic() - start},
        )

    def matrices(self, edit: registry.Edit) -> tuple[targets.Target, ...]:
        """The matrices that the edit touches."""
        return targets.find(self.loaded.model, edit.layers or (), edit.proj or ()) if edit.touches else ()

    def missing_factors(self, edit: registry.Edit) -> list[targets.Target]:
        """The matrices whose factors would have to be collected."""
        if not edit.needs_factors:
            return []
        arguments = self.factor_arguments(edit)
        return [t for t in self.matrices(edit) if not self.store.has(arguments, t.module)]

    def collect_missing(self, edits: Sequence[registry.Edit]) -> None:
        """Collect the factors that the edits need and the store has not, in one pass for each kind of them."""
        passes: dict[str, tuple[dict[str, str | int], dict[str, targets.Target]]] = {}
        for edit in edits:
            arguments = self.factor_arguments(edit)
            for target in self.missing_factors(edit):
                passes.setdefault(str(arguments), (arguments, {}))[1][target.module] = target
        for arguments, missing in passes.values():
            still = [t for t in missing.values() if not self.store.has(arguments, t.module)]  # a pass may need another
            if still:
                self._collect(arguments, still)

    def _collect(self, arguments: dict[str, str | int], missing: Sequence[targets.Target]) -> None:
        """Collect and store; E-KFAC's statistic needs K-FAC's factors first, stored or collected."""
        start = time.monotonic()
        model, labels, seed = self.loaded.model, str(arguments["labels"]), int(arguments["seed"])
        if arguments.get("statistic") == "ekfac":
            kfac = {key: value for key, value in arguments.items() if key != "statistic"}
            first = [target for target in missing if not self.store.has(kfac, target.module)]
            if first:
                self._collect(kfac, first)
            batches = self.batches("curvature, second pass")
            new = collect_ekfac(model, self.factors(missing, kfac), batches, labels=labels, seed=seed)
        else:
            new = collect(model, missing, self.batches("curvature"), labels=labels, seed=seed)
        for module, factors in new.items():
            self.collected_s[self.store.save(arguments, module, factors)] = time.monotonic() - start

    def collecting_s(self, arguments: Mapping[str, str | int], missing: Sequence[targets.Target]) -> float:
        """Seconds that collecting may take: the second of two passes over one batch, timed."""
        ids = torch.zeros(BATCH, self.length, dtype=torch.long, device=self.loaded.model.device)
        collect(self.loaded.model, missing, [ids])
        start = time.monotonic()
        collect(self.loaded.model, missing, [ids])
        passes = 2 if arguments.get("statistic") == "ekfac" else 1
        return (time.monotonic() - start) * passes * self.factor_tokens / ids.numel()

    def batches(self, label: str) -> Iterator[torch.Tensor]:
        """The corpus's first ``factor_tokens`` tokens, in batches [sequences, length]; shows how far they are."""
        documents = loading.corpus_documents(self.loaded.entry)
        tokenizer = self.loaded.tokenizer
        ids = loading.blocks(documents, tokenizer, self.factor_tokens, self.length, must_have_all=self.must_have_all)
        yield from track(torch.split(ids.to(self.loaded.model.device), BATCH), label, -(-len(ids) // BATCH))

    def factor_arguments(self, edit: registry.Edit) -> dict[str, str | int]:
        """Everything that decides a matrix's factors, but its name; empty for an edit that needs none."""
        if not edit.needs_factors:
            return {}
        return {
            "weights": self.loaded.weights,
            "corpus": loading.corpus_name(self.loaded.entry),
            "tokens": self.factor_tokens // self.length * self.length,
            "length": self.length,
            "seed": 0,
            "labels": "sampled",
            **edit.factor_options(),
        }

    def factors(self, found: Sequence[targets.Target], arguments: dict[str, str | int]) -> dict[str, Factors]:
        """Factors by module name, from the store; none for no arguments."""
        if not arguments:
            return {}
        device = self.loaded.model.device
        return {t.module: self.store.load(arguments, t.module).to(device) for t in found}
