"""Bring an edit and its model together: fill in defaults, collect what the edit needs, compute its weights."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...errors import UserError
from ...files import digest, sha256
from ...model_edits import registry, targets
from ...model_edits.apply import MatrixChange, applied, compute
from ...model_edits.architecture.context import context_length
from ...model_edits.architecture.linear_maps import quantization
from ...model_edits.curvature.factors import Factors
from ...model_edits.curvature.store import FactorStore
from ...model_edits.curvature.sums import rank_and_world
from ...model_edits.hashing import tensors_sha256
from ...model_edits.inputs import EditInputs, MemorizedSequence, untracked
from ...tasks import packs
from ..common.progress import track
from ..models import loading, model_table
from ..models.canary import in_evaluation_mode
from ..models.token_ids import passage_ids, start_ids, text_ids
from .factor_cache import Curvature
from .request import fill_in, whole_number

log = logging.getLogger("memsplit")
HELD_OUT = "late"
"""The population of passages that no edit is told of."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A chain of edits that is ready to be put into the model.

    Attributes:
        steps: the edits, with their defaults filled in.
        weights: new weights by parameter name.
        changes: what was kept and removed, step by step and matrix by matrix.
        factors: the arguments of the factors that each step used; by module name their sha256, and the relative
            standard errors of their moments.
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


class ModelEditor:
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
        self.curvature = Curvature(loaded, factor_tokens, store)
        self._told = False

    def chain(self, text: str) -> tuple[registry.Edit, ...]:
        """The steps of a spec, with this model's defaults (see ``request.fill_in``).

        Raises:
            UserError: the spec does not fit, or a step would write whole weights where they are quantized.
        """
        model = self.loaded.model
        steps = fill_in(text, self.loaded.entry, targets.layer_count(model))
        whole = [step for step in steps if not step.targeted and step.name != "none"]
        if whole and (method := quantization(model)):
            raise UserError(
                f"'{whole[0].spec}' cannot be made of {type(model).__name__}: its weights are quantized by {method}; "
                "expected one that is not, or --dequantize"
            )
        return tuple(
            self._with_proj(step) if step.targeted and not (step.proj or step.on_all) else step for step in steps
        )

    def _with_proj(self, step: registry.Edit) -> registry.Edit:
        """The step with the projections that are edited by default; once a model, the log tells what they leave out."""
        model, layers = self.loaded.model, step.layers or ()
        proj = targets.default_proj(model, layers)
        if (shared := targets.left_out(model, layers, proj)) and not self._told:
            self._told = True
            log.info(
                "shared experts are left out of %s: proj=%s edits them as well", step.name, "+".join((*proj, *shared))
            )
        return dataclasses.replace(step, proj=proj)

    def prepare(self, *steps: registry.Edit) -> Prepared:
        """Compute the weights that the steps make, one after the other; the model itself is not changed.

        Factors that are missing are collected. Every step's are the base model's, whatever edit came before it.

        Raises:
            UserError: an edit cannot be made.
        """
        self.collect_missing(steps)
        start = time.monotonic()
        weights: dict[str, torch.Tensor] = {}
        changes: list[MatrixChange] = []
        used: list[dict[str, Any]] = []
        collected = [0.0]
        for edit in steps:
            found, arguments = self.matrices(edit), self.curvature.arguments(edit)
            factors = self.curvature.read(arguments, found if arguments else ())
            with applied(self.loaded.model, weights):
                new, account = compute(self.loaded.model, edit, self.inputs(edit, factors))
            weights |= new
            changes += account
            if arguments:
                used.append(
                    {**arguments, "sha256": factors.sha256, "imported": factors.imported, "errors": factors.errors}
                )
            paths = [self.curvature.store.path(arguments, t.name) for t in found]
            collected += [self.curvature.collected_s.get(path, 0.0) for path in paths]
        return Prepared(
            steps=steps,
            weights=weights,
            changes=changes,
            factors=used,
            weights_hash=tensors_sha256(weights, self.loaded.weights),
            seconds={"curvature": max(collected), "edit": time.monotonic() - start},
        )

    @contextmanager
    def applied(self, prepared: Prepared) -> Iterator[tuple[dict[str, torch.Tensor], str]]:
        """The model with an edit's weights inside the block (see ``apply.applied``).

        Yields:
            The tensors that it held before, and what ``canary.Canary.check`` has to say of the edit.
        """
        canary = self.loaded.canary
        before = canary.logits() if prepared.weights else canary.base
        with applied(self.loaded.model, prepared.weights) as held:
            yield held, canary.check(prepared.spec, before) if prepared.weights else ""

    def recipe_hash(self, steps: Iterable[registry.Edit]) -> str | None:
        """A hash of all that a chain's weights are computed from, beside the base's: equal hashes make equal weights.

        That is the edits' versions (of another package's edit, its code), the arguments of the factors, the passages to
        forget, and the files that a step names. ``None`` where it cannot be known: a hub id without a revision, or an
        edit that a notebook defines.
        """
        parts: list[object] = []
        for edit in steps:
            version = _version(edit)
            if version is None:
                return None
            parts += [str(edit.spec), version, self.curvature.arguments(edit), repr(self._passages(edit))]
            named = {field.name: getattr(edit, field.name) for field in edit.option_fields()}
            path = named.get("path")
            if isinstance(path, str) and not Path(path).exists() and not named.get("revision"):
                return None
            for value in named.values():
                if isinstance(value, str) and Path(value).exists():
                    parts.append({str(file): sha256(file) for file in _files(Path(value))})
        return digest(parts)

    def matrices(self, edit: registry.Edit) -> tuple[targets.Target, ...]:
        """The matrices that the edit touches."""
        if edit.on_all:
            return targets.linear_maps(self.loaded.model)
        return targets.find(self.loaded.model, edit.layers or (), edit.proj or ()) if edit.targeted else ()

    def inputs(self, edit: registry.Edit, factors: Mapping[str, Factors] | None = None) -> EditInputs:
        """What the edit is given, with these factors; its training is shown by the progress bar."""
        shown = untracked if rank_and_world()[0] else track
        return EditInputs(targets=self.matrices(edit), factors=factors or {}, track=shown, **self._passages(edit))

    def collect_missing(self, edits: Iterable[registry.Edit]) -> None:
        """Collect the factors that the edits need and the store lacks."""
        self.curvature.collect_missing([(edit, self.matrices(edit)) for edit in edits])

    def _passages(self, edit: registry.Edit) -> dict[str, Any]:
        """What an edit that trains is given: memorized passages of the dev part, and its clean text to retain.

        Passages of the population ``late`` are left out: no edit is told of them, and all are scored on them. So is
        what the model cannot read at once.
        """
        if not edit.needs_forget_set:
            return {}
        pack = packs.find(self.loaded.entry.pack)
        tokenizer, model = self.loaded.tokenizer, self.loaded.model
        context = context_length(model.config, model)
        start = start_ids(tokenizer)
        told = [row for row in pack.rows("memorized", "dev") if row.get("population") != HELD_OUT]
        passages = [passage_ids(row, tokenizer, start) for row in told]
        texts = [text_ids(row, tokenizer, start) for row in pack.rows("clean", "dev")]
        return {
            "forget": [
                MemorizedSequence(prefix=prefix, suffix=suffix)
                for prefix, suffix in passages
                if context is None or len(prefix) + len(suffix) <= context
            ],
            "retain": [ids for ids in texts if context is None or len(ids) <= context],
        }


@contextmanager
def edited(
    model: PreTrainedModel,
    spec: str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    corpus: Iterable[str] | None = None,
    *,
    pack: str = model_table.ModelEntry.pack,
    factor_tokens: int | None = None,
    store: FactorStore | None = None,
) -> Iterator[PreTrainedModel]:
    """A model in memory under an edit; on leaving, also by an exception, the tensors that it had before are back.

    Factors are collected from the texts and cached by the content of weights and texts, as those of any model.

    Args:
        model: a causal language model of transformers.
        spec: the edit's; its layers and projections are by default those of a model that is not in the model table.
        tokenizer: the model's; only edits by curvature or by passages need it.
        corpus: texts to collect curvature from; only edits by curvature need them.
        pack: where an edit that is trained takes the passages to forget from.
        factor_tokens: tokens to collect from; by default as many as the texts hold, up to a million.
        store: where factors are kept; in the cache folder by default.

    Raises:
        UserError: the edit does not fit the model, or lacks its tokenizer or corpus.
    """
    if not isinstance(spec, str):
        raise UserError(f"bad edit {spec!r}: expected a spec, such as 'kfac-80'")
    if not isinstance(store, FactorStore | None):
        raise UserError(f"bad store {store!r}: expected a FactorStore")
    factor_tokens = whole_number("factor_tokens", factor_tokens, 1, optional=True)
    editor = ModelEditor(loading.wrap(model, tokenizer, pack=pack, texts=corpus), factor_tokens, store)
    chain = editor.chain(spec)
    for edit in chain:
        needed = {"tokenizer": tokenizer} if edit.statistic or edit.needs_forget_set else {}
        needed |= {"corpus": corpus} if edit.statistic else {}
        if missing := [name for name, value in needed.items() if value is None]:
            given = ", ".join(f"{name}=…" for name in missing)
            raise UserError(
                f"{edit.name!r} needs a {' and a '.join(missing)}: expected edited(model, {spec!r}, {given})"
            )
    with in_evaluation_mode(model), torch.inference_mode(False):  # factors need gradients
        prepared = editor.prepare(*chain)
    with editor.applied(prepared):
        yield model


def _version(edit: registry.Edit) -> str | None:
    """The edit's version and, of a class of another package, its file's hash: it may be work in progress.

    ``None`` for a class that a notebook or an interactive session defines, which has no file.
    """
    if type(edit).__module__.startswith(f"{registry.__package__}."):
        return f"{edit.version} "
    try:
        return f"{edit.version} {sha256(Path(inspect.getfile(type(edit))))}"
    except (OSError, TypeError):
        return None


def _files(path: Path) -> list[Path]:
    """The file, or the files of a folder."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
