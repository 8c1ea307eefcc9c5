"""The curvature factors of one loaded model: read from the store, or collected from its corpus and stored."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import distributed

from ...model_edits.architecture.context import context_length
from ...model_edits.curvature.collect import collect, collect_ekfac, collect_input_squares
from ...model_edits.curvature.factors import Factors
from ...model_edits.curvature.labels import Draws
from ...model_edits.curvature.store import FactorStore
from ...model_edits.curvature.sums import Partial, rank_and_world
from ...model_edits.registry import Edit
from ...model_edits.targets import Target
from ..common import cache
from ..common.progress import track
from ..lm.memory import within_memory
from ..models import documents
from ..models.loading import LoadedModel
from ..models.token_ids import start_ids

BATCH_TOKENS = {"cpu": 2048}
"""Tokens a batch on a kind of device; a CPU is not faster with more, and its memory may be small."""
BATCH_TOKENS_ELSEWHERE = 8192
MEMORY = 2 << 30
"""Bytes of factors, with their eigenbases, that stay in memory for a command's next edit."""
PASS_MEMORY = 16 << 30
"""Bytes of float32 sums that one pass over the corpus may add up; more matrices take several passes."""
Arguments = dict[str, str | int]


class Curvature:
    """Factors of one model.

    Args:
        loaded: the model.
        factor_tokens: tokens to collect from; the model table's by default, or what the corpus holds.
        store: where factors are kept; in the cache folder by default.

    Attributes:
        batch_size_per_gpu: sequences a batch, halved where memory runs out.
    """

    def __init__(self, loaded: LoadedModel, factor_tokens: int | None = None, store: FactorStore | None = None) -> None:
        self.loaded = loaded
        self.tokens = factor_tokens or loaded.entry.factor_tokens
        self.must_have_all = factor_tokens is not None
        longest = context_length(loaded.model.config, loaded.model) or loaded.entry.factor_length
        self.length = min(loaded.entry.factor_length, longest)
        batch_tokens = BATCH_TOKENS.get(loaded.model.device.type, BATCH_TOKENS_ELSEWHERE)
        self.batch_size_per_gpu = max(1, batch_tokens // self.length)
        start = start_ids(loaded.tokenizer)
        self._start: Arguments = {"start": "+".join(map(str, start))} if start else {}
        self.store = store or FactorStore(cache.folder() / "factors")
        self.collected_s: dict[Path, float] = {}
        self._held: dict[Path, Factors] = {}
        self._begun: dict[str, Partial] = {}
        self._corpus_name: str | None = None

    def arguments(self, edit: Edit) -> Arguments:
        """All that a matrix's factors depend on beside its name; empty for an edit that needs no factors."""
        if edit.statistic is None:
            return {}
        if self._corpus_name is None:
            self._corpus_name = self.loaded.corpus().name()
        return {
            "weights": self.loaded.weights,
            "corpus": self._corpus_name,
            "tokens": self.tokens // self.length * self.length,
            "length": self.length,
            **self._start,
            **({} if edit.statistic == "aaT_diag" else self._labels()),
            **edit.factor_options(),
        }

    def _labels(self) -> Arguments:
        """The labels of an edit that names none."""
        return {"labels": "sampled", "draws": self.loaded.entry.factor_draws, "seed": 0}

    def missing(self, edit: Edit, found: Iterable[Target]) -> list[Target]:
        """The edit's matrices whose factors are not stored."""
        arguments = self.arguments(edit)
        return [t for t in found if arguments and not self.store.has(arguments, t.name)]

    def collect_missing(self, edits: Iterable[tuple[Edit, Sequence[Target]]]) -> None:
        """Collect the factors that the edits need and the store lacks, in as few passes as memory allows."""
        passes: dict[str, tuple[Arguments, dict[str, Target]]] = {}
        for edit, found in edits:
            arguments = self.arguments(edit)
            for target in found if arguments else ():
                self.store.check(arguments, target.name)
            for target in self.missing(edit, found):
                passes.setdefault(str(arguments), (arguments, {}))[1][target.name] = target
        for arguments, missing in passes.values():
            still = [t for t in missing.values() if not self.store.has(arguments, t.name)]  # a pass may need another
            for together in self._passes(still):
                run = functools.partial(self._collect, arguments, together)
                within_memory(self, run, smaller="one process, which halves that number by itself")

    @property
    def adapts(self) -> bool:
        """Whether the number of sequences may change: not where several processes share the batches."""
        return rank_and_world()[1] == 1

    def _passes(self, missing: Sequence[Target]) -> Iterator[list[Target]]:
        """The matrices in order, in groups whose sums fit into ``PASS_MEMORY``; a larger matrix is a group alone."""
        group: list[Target] = []
        nbytes = 0
        for target in missing:
            o, i = target.view(self.loaded.model.get_parameter(target.parameter)).shape
            size = 4 * (o * o + i * i)
            if group and nbytes + size > PASS_MEMORY:
                yield group
                group, nbytes = [], 0
            group.append(target)
            nbytes += size
        if group:
            yield group

    def _collect(self, arguments: Arguments, missing: Sequence[Target]) -> None:
        """Collect and store factors; E-KFAC's statistic needs K-FAC's factors, which are collected first if need be."""
        model = self.loaded.model
        names = sorted(target.name for target in missing)
        if arguments.get("statistic") == "ekfac":
            kfac = {key: value for key, value in arguments.items() if key != "statistic"}
            first = [target for target in missing if not self.store.has(kfac, target.name)]
            if first:
                self._collect(kfac, first)
            start = time.monotonic()
            read = self.read(kfac, missing)
            partial = self._partial(arguments, names, [read[name].sha256 for name in names])
            batches = self.batches("curvature, second pass")
            new = collect_ekfac(model, missing, read, batches, draws=_draws(arguments), partial=partial)
        elif arguments.get("statistic") == "aaT_diag":
            start = time.monotonic()
            partial = self._partial(arguments, names)
            new = collect_input_squares(model, missing, self.batches("activations"), partial=partial)
        else:
            start = time.monotonic()
            partial = self._partial(arguments, names)
            batches = self.batches("curvature")
            new = collect(model, missing, batches, draws=_draws(arguments), partial=partial)
        for name, factors in new.items():
            path = self.store.path(arguments, name)
            if rank_and_world()[0] == 0:
                self.store.save(arguments, name, factors)
            self.collected_s[path] = time.monotonic() - start
        partial.delete()
        if distributed.is_initialized():
            distributed.barrier()

    def _partial(self, arguments: Arguments, names: Sequence[str], *more: object) -> Partial:
        """The partial sums of a collection; those that this command began with larger batches are deleted."""
        path = self.store.partial(arguments, names, self.batch_size_per_gpu, self.loaded.model.device.type, *more)
        partial, collection = Partial(path), str((arguments, names))
        before = self._begun.get(collection, partial)
        if before.path != partial.path:
            before.delete()
        self._begun[collection] = partial
        return partial

    def collecting_s(self, arguments: Mapping[str, str | int], missing: Sequence[Target]) -> float:
        """Estimated seconds of collecting, from timed passes over one batch and over three, after one to warm up."""
        ids = torch.zeros(self.batch_size_per_gpu, self.length, dtype=torch.long, device=self.loaded.model.device)
        seconds, statistic = [], arguments.get("statistic")
        for n in (1, 1, 3):
            start = time.monotonic()
            if statistic == "aaT_diag":
                collect_input_squares(self.loaded.model, missing, [ids] * n)
            else:
                collect(self.loaded.model, missing, [ids] * n, draws=_draws(arguments))
            seconds.append(time.monotonic() - start)
        batch_s = max(seconds[2] - seconds[1], 0) / 2
        passes = 2 if statistic == "ekfac" else 1
        return passes * (seconds[1] + batch_s * (self.tokens / ids.numel() - 1))

    def batches(self, label: str) -> Iterator[torch.Tensor]:
        """The corpus's first tokens, in batches [sequences, length], with a progress bar."""
        texts = documents.documents(self.loaded.corpus())
        ids = documents.blocks(texts, self.loaded.tokenizer, self.tokens, self.length, must_have_all=self.must_have_all)
        split = torch.split(ids.to(self.loaded.model.device), self.batch_size_per_gpu)
        yield from split if rank_and_world()[0] else track(split, label, len(split))

    def read(self, arguments: Arguments, found: Iterable[Target]) -> FactorsOf:
        """Factors by the target's name, each read from the store on first use, on its matrix's device."""
        return FactorsOf(self, arguments, {target.name: target for target in found})

    def hold(self, arguments: Arguments, target: Target) -> Factors:
        """One matrix's factors; those used last stay in memory, with their eigenbases, up to ``MEMORY``."""
        path = self.store.path(arguments, target.name)
        if path not in self._held:
            device = self.loaded.model.get_parameter(target.parameter).device
            self._held[path] = self.store.load(arguments, target.name).to(device)
            with suppress(OSError):  # another command may have pruned it, or the cache be read-only
                path.touch()  # tells when it was last used
            while len(self._held) > 1 and 2 * sum(f.nbytes for f in self._held.values()) > MEMORY:
                self._held.pop(next(iter(self._held)))
        return self._held[path]


def _draws(arguments: Mapping[str, str | int]) -> Draws:
    """Which labels the gradients of factors with these arguments are of."""
    return Draws(labels=str(arguments["labels"]), draws=int(arguments["draws"]), seed=int(arguments["seed"]))


class FactorsOf(Mapping[str, Factors]):
    """Factors of some matrices, read one at a time, so that a model's need not fit into memory together."""

    def __init__(self, curvature: Curvature, arguments: Arguments, targets: Mapping[str, Target]) -> None:
        self.curvature = curvature
        self.arguments = arguments
        self.targets = targets
        self.sha256: dict[str, str] = {}
        self.imported: dict[str, str] = {}
        self.errors: dict[str, dict[str, float]] = {}

    def __getitem__(self, name: str) -> Factors:
        factors = self.curvature.hold(self.arguments, self.targets[name])
        self.sha256[name] = factors.sha256
        if factors.errors:
            self.errors[name] = dict(factors.errors)
        if factors.imported:
            self.imported[name] = factors.imported
        return factors

    def __iter__(self) -> Iterator[str]:
        return iter(self.targets)

    def __len__(self) -> int:
        return len(self.targets)
