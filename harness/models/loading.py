"""Load a model and its tokenizer, and name its weights by content."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from ...errors import UserError
from ...files import digest
from ...model_edits.hashing import tensors_sha256
from ...model_edits.pretrained import fetch, load_model
from ...tasks import packs
from .model_table import ModelEntry
from .token_ids import length, validation_errors

OFFLINE_HINT = "; without a network, olmo-tiny and local folders work"


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in evaluation mode.

    Attributes:
        entry: what it was loaded from.
        model: the weights.
        tokenizer: its own.
        weights: sha256 that names the weights and the type they are computed in.
        revision: the hub's commit that they are of; ``None`` for a local folder.
    """

    entry: ModelEntry
    model: Any
    tokenizer: PreTrainedTokenizerBase
    weights: str
    revision: str | None = None


def load(entry: ModelEntry, *, device: str, dtype: str | None = None, parallelize: bool = False) -> LoadedModel:
    """Load a model.

    Args:
        entry: which.
        device: where to compute.
        dtype: to compute in; by default float32 on a CPU (few compute narrower types at any speed), else the entry's.
        parallelize: spread the layers over all devices of the machine (``device_map="auto"``).

    Raises:
        UserError: it cannot be fetched, is damaged, or is no causal language model; the message says which and the
            remedy.
    """
    where = _where(entry)
    spread = {"device_map": "auto"} if parallelize else {}
    dtype = dtype or ("float32" if torch.device(device).type == "cpu" else entry.dtype)
    tokenizer = load_tokenizer(entry)
    model = load_model(entry.pretrained, hint=OFFLINE_HINT, dtype=dtype, **where, **spread)
    if entry.gguf_file:  # it is a plain model now, and can be saved as one
        model.hf_quantizer = None
        del model.config.quantization_config
    model = (model if parallelize else model.to(device)).eval()
    return LoadedModel(
        entry=entry,
        model=model,
        tokenizer=tokenizer,
        weights=tensors_sha256(model.state_dict(), base=_settings_hash(model, tokenizer)),
        revision=_commit(entry),
    )


def load_tokenizer(entry: ModelEntry) -> PreTrainedTokenizerBase:
    """A model's tokenizer.

    Raises:
        UserError: as :func:`load`.
    """
    return _fetch(entry, "tokenizer", AutoTokenizer)


def load_config(entry: ModelEntry) -> Any:
    """A model's configuration, without its weights.

    Raises:
        UserError: as :func:`load`.
    """
    return _fetch(entry, "configuration", AutoConfig)


def _fetch(entry: ModelEntry, part: str, auto: Any) -> Any:
    load = functools.partial(auto.from_pretrained, entry.pretrained, **_where(entry))
    return fetch(entry.pretrained, part, load, OFFLINE_HINT)


def _where(entry: ModelEntry) -> dict[str, Any]:
    """What names a model beside its hub id or folder, for transformers."""
    return {name: value for name in ("revision", "gguf_file") if (value := getattr(entry, name))}


def _settings_hash(model: Any, tokenizer: PreTrainedTokenizerBase) -> str:
    """Of what decides a model's figures beside its weights: config, generation config and tokenizer, but no paths."""
    configs = [model.config.to_dict(), model.generation_config.to_dict()]
    kept = [{k: v for k, v in c.items() if not k.startswith("_") and k != "transformers_version"} for c in configs]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    spelled = backend.to_str() if backend is not None else tokenizer.get_vocab()
    return digest(json.loads(json.dumps([*kept, spelled, tokenizer.special_tokens_map], default=str)))


def _commit(entry: ModelEntry) -> str | None:
    if Path(entry.pretrained).is_dir():
        return None
    path = try_to_load_from_cache(entry.pretrained, "config.json", revision=entry.revision)
    return Path(path).parent.name if isinstance(path, str) else None


def check_pack(loaded: LoadedModel, kinds: Iterable[str]) -> dict[str, str]:
    """Refuse a pack that does not fit the model; what the model's context has no room for is to be left out.

    Args:
        loaded: the model.
        kinds: the files of its pack that are asked.

    Returns:
        By kind, why it cannot be asked.

    Raises:
        UserError: a passage or text that is of another tokenizer, or of no token (see ``token_ids.validation_errors``).
    """
    pack = packs.find(loaded.entry.pack)
    vocabulary = loaded.model.get_input_embeddings().num_embeddings
    context = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    long: dict[str, str] = {}
    for kind in (kind for kind in dict.fromkeys(kinds) if kind in (*packs.PASSAGES, "clean")):
        for row in pack.rows(kind):
            for fault in validation_errors(row, kind, loaded.entry.name, loaded.tokenizer, vocabulary):
                raise UserError(f"the pack {pack.name!r} does not fit: {pack.path(kind)}, {row['id']!r} {fault}")
            tokens = length(row, kind, loaded.tokenizer)
            if context is not None and tokens >= context:
                long[kind] = f"it has {tokens} tokens in {row['id']!r}, and the model's context is {context}"
    return long
