"""Load a model and its tokenizer, and name its weights by content."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from ..errors import UserError
from ..files import digest
from ..model_edits.hashing import tensors_sha256
from ..model_edits.pretrained import fetch, load_model
from ..tasks import packs
from .models import ModelEntry
from .passages import passage_ids, spell, text_ids

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


def check_pack(loaded: LoadedModel) -> None:
    """Refuse a pack that does not fit the model.

    Raises:
        UserError: an id is out of the vocabulary, the ids of the first passage that has both do not spell its text, or
            a passage is longer than the model's context.
    """
    pack = packs.find(loaded.entry.pack)
    rows = {kind: pack.rows(kind) for kind in (*packs.PASSAGES, "clean") if pack.has(kind)}
    passages = [row for kind in packs.PASSAGES for row in rows.get(kind, ())]
    vocabulary = loaded.model.get_input_embeddings().num_embeddings
    context = getattr(loaded.model.config, "max_position_embeddings", None)
    texts = [prefix + suffix for prefix, suffix in (passage_ids(row, loaded.tokenizer) for row in passages)]
    texts += [text_ids(row, loaded.tokenizer) for row in rows.get("clean", ())]
    both = next((row for row in passages if "prefix_ids" in row and row["prefix_text"]), None)
    in_range = all(max(ids, default=0) < vocabulary for ids in texts)
    if not in_range or (both and not spell(both["prefix_ids"], both["prefix_text"], loaded.tokenizer)):
        raise UserError(
            f"the pack {pack.name!r} is of another tokenizer than {loaded.entry.name!r}: its ids spell other text"
        )
    if context is not None and any(len(ids) > context for ids in texts):
        raise UserError(f"the pack {pack.name!r} has passages of over {context} tokens, the context of the model")
