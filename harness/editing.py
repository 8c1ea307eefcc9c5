"""Bring an edit, its model and its curvature together: fill in defaults, find or collect factors, compute weights."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch

from ..model_edits import registry, spec, targets
from ..model_edits.apply import MatrixChange, compute
from ..model_edits.curvature import collect
from ..model_edits.factors import Factors, FactorStore
from . import loading, models
from .progress import track

BATCH = 16
CACHE_VARIABLE = "MEMSPLIT_CACHE"


def cache_folder() -> Path:
    """``$MEMSPLIT_CACHE``, else the platform's cache folder for memsplit."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("memsplit"))


def fill_in(text: str, entry: models.ModelEntry, n_layers: int | None) -> registry.Edit:
    """The edit of a spec with the model's layers, projections and percent filled in where it gives none.

    Args:
        text: the spec.
        entry: the model.
        n_layers: the model's; ``None`` leaves layers that are not given open.

    Raises:
        UserError: the spec does not fit the grammar, the registry or the model.
    """
    edit = registry.build(spec.parse(text), entry.percent)
    if not edit.touches:
        return edit
    layers = edit.layers or entry.layers or (models.default_layers(n_layers) if n_layers else None)
    if layers and n_layers:
        targets.check_layers(layers, n_layers)
    return dataclasses.replace(edit, layers=layers, proj=edit.proj or entry.proj)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An edit that is ready to be put into the model.

    Attributes:
        edit: with its defaults filled in.
        weights: new weights by parameter name.
        changes: the account, matrix by matrix.
        factors: the arguments of the factors that it used; empty if none.
        seconds: that collecting and computing took, by phase.
    """

    edit: registry.Edit
    weights: dict[str, torch.Tensor]
    changes: list[MatrixChange]
    factors: dict[str, str | int]
    seconds: dict[str, float]


class Workshop:
    """Makes edits of one loaded model.

    Args:
        loaded: the model.
        factor_tokens: tokens that factors are collected from; the model table's by default.
        store: where factors are kept; in the cache folder by default.
    """

    def __init__(
        self, loaded: loading.LoadedModel, factor_tokens: int | None = None, store: FactorStore | None = None
    ) -> None:
        self.loaded = loaded
        self.factor_tokens = factor_tokens or loaded.entry.factor_tokens
        self.store = store or FactorStore(cache_folder() / "factors")

    def edit(self, text: str) -> registry.Edit:
        """The edit of a spec, with this model's defaults (see :func:`fill_in`)."""
        return fill_in(text, self.loaded.entry, models.layer_count(self.loaded.model.config.to_dict()))

    def prepare(self, edit: registry.Edit) -> Prepared:
        """Find or collect what the edit needs and compute its weights; the model is not changed."""
        start = time.monotonic()
        self.collect_missing(edit)
        found = self.matrices(edit)
        arguments = self.factor_arguments(edit) if edit.needs_factors else {}
        factors = self.factors(found, arguments) if edit.needs_factors else {}
        collected = time.monotonic()
        weights, changes = compute(self.loaded.model, edit, found, factors)
        seconds = {"factors": collected - start, "edit": time.monotonic() - collected}
        return Prepared(edit=edit, weights=weights, changes=changes, factors=arguments, seconds=seconds)

    def matrices(self, edit: registry.Edit) -> tuple[targets.Target, ...]:
        """The matrices that the edit touches."""
        return targets.find(self.loaded.model, edit.layers or (), edit.proj or ()) if edit.touches else ()

    def missing_factors(self, edit: registry.Edit) -> list[targets.Target]:
        """The matrices whose factors would have to be collected."""
        if not edit.needs_factors:
            return []
        arguments = self.factor_arguments(edit)
        return [t for t in self.matrices(edit) if not self.store.has(arguments, t.module)]

    def collect_missing(self, edit: registry.Edit) -> None:
        """Collect, in one pass, the factors that the edit needs and the store has not."""
        missing = self.missing_factors(edit)
        if missing:
            arguments = self.factor_arguments(edit)
            ids = self.corpus_blocks()
            batches = track(torch.split(ids.to(self.loaded.model.device), BATCH), "curvature", -(-len(ids) // BATCH))
            labels, seed = str(arguments["labels"]), int(arguments["seed"])
            new = collect(self.loaded.model, missing, batches, labels=labels, seed=seed)
            for module, factors in new.items():
                self.store.save(arguments, module, factors)

    def corpus_blocks(self) -> torch.Tensor:
        """The corpus's first ``factor_tokens`` tokens [sequences, length]."""
        entry = self.loaded.entry
        documents = loading.corpus_documents(entry)
        return loading.blocks(documents, self.loaded.tokenizer, self.factor_tokens, entry.factor_length)

    def estimate_s(self) -> float:
        """Seconds that collecting may take: one forward pass over a few random sequences, timed, times three."""
        length = self.loaded.entry.factor_length
        ids = torch.zeros(4, length, dtype=torch.long, device=self.loaded.model.device)
        with torch.no_grad():
            self.loaded.model(ids)
            start = time.monotonic()
            self.loaded.model(ids)
        return (time.monotonic() - start) * 3 * self.factor_tokens / ids.numel()

    def factor_arguments(self, edit: registry.Edit) -> dict[str, str | int]:
        """Everything that decides the factors of a matrix, but its name."""
        entry = self.loaded.entry
        return factor_arguments(entry, self.loaded.weights, self.factor_tokens, edit.factor_options())

    def factors(self, found: Sequence[targets.Target], arguments: dict[str, str | int]) -> dict[str, Factors]:
        """Factors by module name, from the store."""
        device = self.loaded.model.device
        loaded = {t.module: self.store.load(arguments, t.module) for t in found}
        return {m: Factors(f.aaT.to(device), f.ggT.to(device), f.tokens) for m, f in loaded.items()}


def factor_arguments(
    entry: models.ModelEntry, weights: str, tokens: int, options: dict[str, str]
) -> dict[str, str | int]:
    """The arguments that name a cache entry: same arguments, same factors."""
    fixed: dict[str, Any] = {
        "weights": weights,
        "corpus": loading.corpus_name(entry),
        "tokens": tokens // entry.factor_length * entry.factor_length,
        "length": entry.factor_length,
        "seed": 0,
    }
    return {**fixed, "labels": "sampled", **options}
