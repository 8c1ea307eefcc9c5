"""Load a model and its tokenizer, and name its weights by content."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ...errors import UserError
from ...files import digest
from ...model_edits.hashing import tensors_sha256
from ...model_edits.pretrained import check_finite, check_merged, fetch, load_model
from ...tasks import packs
from ..common import runtime
from . import corpus, dequantization, tokenizer_check
from .canary import Canary
from .model_table import ModelEntry
from .token_ids import moved_note, validation_errors

OFFLINE_HINT = "; without a network, olmo-tiny and local folders work"
CODE_HINT = ": expected --trust-remote-code, which runs it"
log = logging.getLogger("memsplit")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in evaluation mode.

    Attributes:
        entry: its name, and where it was loaded from.
        model: the model.
        tokenizer: its tokenizer; ``None`` for a model in memory that was given none.
        weights: sha256 that names the weights and the type that they are computed in.
        revision: the commit on the hub; ``None`` for a local folder.
        texts: calibration data in memory, in place of the entry's corpus.
    """

    entry: ModelEntry
    model: Any
    tokenizer: Any
    weights: str
    revision: str | None = None
    texts: tuple[str, ...] | None = None

    @functools.cached_property
    def canary(self) -> Canary:
        """The model's logits of a few tokens, with the weights that it holds when this is first asked for.

        :func:`load` and :func:`wrap` do so.

        Raises:
            UserError: a logit is not finite, or the model is not causal.
        """
        return Canary(self.model, self.entry.name)

    def corpus(self) -> corpus.Corpus:
        """The calibration data that curvature is collected from.

        Raises:
            UserError: the entry's corpus does not exist.
        """
        if self.texts is not None:
            return corpus.Corpus(texts=self.texts)
        return corpus.find(self.entry.corpus, self.entry.pack)


def load(
    entry: ModelEntry, *, device: str | None = None, dtype: str | None = None, parallelize: bool = False
) -> LoadedModel:
    """Load a model.

    Args:
        entry: which.
        device: where to compute; by default CUDA if there is one, else the CPU.
        dtype: to compute in; by default float32 on a CPU (few compute narrower types at any speed), else the entry's.
        parallelize: spread the layers over all devices of the machine (``device_map="auto"``).

    Raises:
        UserError: it cannot be fetched, is damaged, is to be dequantized and cannot be, computes no numbers, or is no
            causal language model; the message says which and the remedy.
    """
    if entry.trust_remote_code:
        log.warning("code that comes with %r is run as it is: nothing has checked it", entry.name)
    device = device or runtime.device(None)
    where = _where(entry)
    spread = {"device_map": "auto"} if parallelize else {}
    dtype = dtype or ("float32" if torch.device(device).type == "cpu" else entry.dtype)
    tokenizer = load_tokenizer(entry)
    method = ""
    if entry.dequantize and not entry.gguf_file:
        where["config"] = load_config(entry)
        method = dequantization.ask(where["config"])
    model = load_model(entry.pretrained, hint=OFFLINE_HINT, code_hint=CODE_HINT, dtype=dtype, **where, **spread)
    if method:
        model = dequantization.dequantized(model, method, entry.name)
    if entry.gguf_file:
        dequantization.forget(model)
    dequantization.check_plain(model, entry.name)
    model = (model if parallelize else model.to(device)).eval()
    return _asked(
        LoadedModel(
            entry=entry,
            model=model,
            tokenizer=tokenizer,
            weights=tensors_sha256(model.state_dict(), base=_settings_hash(model, tokenizer)),
            revision=_commit(entry),
        )
    )


def wrap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    pack: str = ModelEntry.pack,
    texts: Iterable[str] | None = None,
) -> LoadedModel:
    """A model in memory, with the defaults of a model that is not in the model table.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer.
        pack: its probe data.
        texts: calibration data; without it, curvature is collected from the default corpus of the model table.

    Raises:
        UserError: an argument is of the wrong kind, or the model has an adapter that is not merged, computes no numbers
            or is not causal.
    """
    if not isinstance(model, PreTrainedModel) or not model.can_generate():
        raise UserError(f"bad model of type {type(model).__name__}: expected a causal language model of transformers")
    if tokenizer is not None and not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise UserError(f"bad tokenizer of type {type(tokenizer).__name__}: expected a tokenizer of transformers")
    check_merged(model)
    kept = tuple(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else texts
    if kept is not None and not (isinstance(kept, tuple) and all(isinstance(text, str) for text in kept)):
        raise UserError("bad corpus: expected a list of texts")
    dequantization.check_plain(model, "model")
    check_finite(model, "model")
    return _asked(
        LoadedModel(
            entry=ModelEntry(name="model", pretrained="model", pack=pack),
            model=model,
            tokenizer=tokenizer,
            weights=tensors_sha256(model.state_dict(), base=_settings_hash(model, tokenizer)),
            texts=kept,
        )
    )


def _asked(loaded: LoadedModel) -> LoadedModel:
    """The same, after its canary was asked.

    Raises:
        UserError: see :attr:`LoadedModel.canary`.
    """
    _ = loaded.canary
    return loaded


def load_tokenizer(entry: ModelEntry) -> PreTrainedTokenizerBase:
    """A model's tokenizer.

    Raises:
        UserError: as :func:`load`, or it reads text otherwise than its file (see ``tokenizer_check.check``).
    """
    tokenizer: PreTrainedTokenizerBase = _fetch(entry, "tokenizer", AutoTokenizer)
    if not entry.gguf_file and (file := _file(entry, "tokenizer.json")):
        tokenizer_check.check(tokenizer, file, entry.name)
    return tokenizer


def load_config(entry: ModelEntry) -> Any:
    """A model's configuration, without its weights.

    Raises:
        UserError: as :func:`load`.
    """
    return _fetch(entry, "configuration", AutoConfig)


def load_skeleton(entry: ModelEntry, config: Any) -> Any:
    """A model of this configuration without any weight, which says what depends on its modules.

    Raises:
        UserError: transformers has no causal language model of it.
    """

    def build() -> Any:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=entry.trust_remote_code)

    return fetch(entry.pretrained, "architecture", build, OFFLINE_HINT, CODE_HINT)


def _fetch(entry: ModelEntry, part: str, auto: Any) -> Any:
    load = functools.partial(auto.from_pretrained, entry.pretrained, **_where(entry))
    return fetch(entry.pretrained, part, load, OFFLINE_HINT, CODE_HINT)


def _where(entry: ModelEntry) -> dict[str, Any]:
    """What names a model beside its hub id or folder, and whether its own code is run, for transformers.

    Transformers would ask on the terminal where it is not told.
    """
    given = {name: value for name in ("revision", "gguf_file") if (value := getattr(entry, name))}
    return {**given, "trust_remote_code": entry.trust_remote_code}


def _settings_hash(model: Any, tokenizer: Any) -> str:
    """A hash of the configs, the tokenizer and their own code, without paths.

    A model's scores depend on these beside its weights.
    """
    configs = [config.to_dict() for config in (model.config, model.generation_config) if config is not None]
    kept = [{k: v for k, v in c.items() if not k.startswith("_") and k != "transformers_version"} for c in configs]
    if tokenizer is not None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        kept += [backend.to_str() if backend is not None else tokenizer.get_vocab(), tokenizer.special_tokens_map]
    kept += [
        _own_code(part) for part in (model, tokenizer) if type(part).__module__.startswith("transformers_modules.")
    ]
    return digest(json.loads(json.dumps(kept, default=str)))


def _own_code(part: Any) -> dict[str, str]:
    """By name, the Python files that came with a model or tokenizer."""
    folder = Path(str(sys.modules[type(part).__module__].__file__)).parent
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}


def _commit(entry: ModelEntry) -> str | None:
    path = None if Path(entry.pretrained).is_dir() else _file(entry, "config.json")
    return path.parent.name if path else None


def _file(entry: ModelEntry, name: str) -> Path | None:
    """The path of a file beside the weights, once they are fetched; a local folder may not have it."""
    if Path(entry.pretrained).is_dir():
        return Path(entry.pretrained) / name
    path = try_to_load_from_cache(entry.pretrained, name, revision=entry.revision)
    return Path(path) if isinstance(path, str) else None


def check_pack(loaded: LoadedModel, kinds: Iterable[str]) -> list[str]:
    """Check that the rows of a pack fit the model. How long they are is not checked.

    Args:
        loaded: the model.
        kinds: the files of its pack that are used.

    Returns:
        A line for each file with passages that are cut elsewhere than their texts (see ``token_ids.cut``).

    Raises:
        UserError: a row is of another tokenizer, or has no token (see ``token_ids.validation_errors``).
    """
    pack = packs.find(loaded.entry.pack)
    vocabulary = loaded.model.get_input_embeddings().num_embeddings
    notes: list[str] = []
    for kind in (kind for kind in dict.fromkeys(kinds) if kind in (*packs.PASSAGES, "clean")):
        rows = pack.rows(kind)
        for row in rows:
            for fault in validation_errors(row, kind, loaded.entry.name, loaded.tokenizer, vocabulary):
                raise UserError(f"the pack {pack.name!r} does not fit: {pack.path(kind)}, {row['id']!r} {fault}")
        notes.append(moved_note(kind, rows, loaded.tokenizer))
    return [note for note in notes if note]
