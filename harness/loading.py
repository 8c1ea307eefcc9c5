"""Load a model and its tokenizer, name its weights by content, and read the text its factors come from."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..errors import UserError
from ..files import digest
from ..tasks import packs
from .models import ModelEntry

BROKEN = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError)
"""What transformers and tokenizers raise for a broken file or an absent network."""
OFFLINE_HINT = "without a network, olmo-tiny and local folders work"


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


def load(entry: ModelEntry, *, device: str, dtype: str | None = None) -> LoadedModel:
    """Load a model.

    Args:
        entry: which.
        device: where to compute.
        dtype: to compute in; by default float32 on a CPU (few compute narrower types at any speed), else the entry's.

    Raises:
        UserError: it cannot be fetched, is damaged, or is no causal language model; the message says which and the
            remedy.
    """
    where = {"revision": entry.revision} if entry.revision else {}
    dtype = dtype or ("float32" if torch.device(device).type == "cpu" else entry.dtype)
    tokenizer = _fetch(entry, "tokenizer", lambda: AutoTokenizer.from_pretrained(entry.pretrained, **where))
    model, info = _fetch(
        entry,
        "model",
        lambda: AutoModelForCausalLM.from_pretrained(entry.pretrained, dtype=dtype, output_loading_info=True, **where),
    )
    absent = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if absent:
        raise UserError(f"the weights of {entry.pretrained!r} lack {absent[0]} ({len(absent)} tensors in all)")
    model = model.to(device).eval()
    return LoadedModel(
        entry=entry,
        model=model,
        tokenizer=tokenizer,
        weights=weights_hash(model.state_dict(), base=_settings_hash(model, tokenizer)),
        revision=_commit(entry),
    )


def _fetch(entry: ModelEntry, part: str, load_part: Callable[[], Any]) -> Any:
    try:
        return load_part()
    except SafetensorError as error:
        raise UserError(f"the weights of {entry.pretrained!r} are damaged ({error})") from error
    except BROKEN as error:
        if Path(entry.pretrained).is_dir():
            raise UserError(f"the {part} in {entry.pretrained!r} cannot be loaded: {_reason(error)}") from error
        raise UserError(
            f"the {part} of {entry.pretrained!r} could not be fetched: {_reason(error)}; {OFFLINE_HINT}"
        ) from error


def _settings_hash(model: Any, tokenizer: PreTrainedTokenizerBase) -> str:
    """Of what decides a model's figures beside its weights: config, generation config and tokenizer, but no paths."""
    configs = [model.config.to_dict(), model.generation_config.to_dict()]
    kept = [{k: v for k, v in c.items() if not k.startswith("_") and k != "transformers_version"} for c in configs]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    spelled = backend.to_str() if backend is not None else tokenizer.get_vocab()
    return digest(json.loads(json.dumps([*kept, spelled, tokenizer.special_tokens_map], default=str)))


def _reason(error: Exception) -> str:
    """A message's first line; all where that only announces the rest; two of the hub's, which begin with a status."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].endswith(":"):
        return " ".join(lines)
    return " ".join(lines[: 2 if isinstance(error, HfHubHTTPError) else 1])


def _commit(entry: ModelEntry) -> str | None:
    if Path(entry.pretrained).is_dir():
        return None
    path = try_to_load_from_cache(entry.pretrained, "config.json", revision=entry.revision)
    return Path(path).parent.name if isinstance(path, str) else None


def check_pack(loaded: LoadedModel) -> None:
    """Refuse a pack that does not fit the model.

    Raises:
        UserError: an id is out of the vocabulary, the ids of the first memorized passage do not spell its text, or a
            passage is longer than the model's context.
    """
    if loaded.entry.pack is None:
        return
    pack = packs.find(loaded.entry.pack)
    memorized = pack.rows("memorized")
    passages = [row["prefix_ids"] + row["suffix_ids"] for row in memorized + pack.rows("twins")]
    passages += [row["ids"] for row in pack.rows("clean")]
    vocabulary = loaded.model.get_input_embeddings().num_embeddings
    in_range = max(map(max, passages)) < vocabulary
    spelled = "".join(loaded.tokenizer.decode(memorized[0]["prefix_ids"]).split()) if in_range else None
    if spelled != "".join(memorized[0]["prefix_text"].split()):
        raise UserError(
            f"the pack {pack.name!r} is of another tokenizer than {loaded.entry.name!r}: its ids spell other text"
        )
    context = getattr(loaded.model.config, "max_position_embeddings", None)
    if context is not None and max(map(len, passages)) > context:
        raise UserError(f"the pack {pack.name!r} has passages of over {context} tokens, the context of the model")


def weights_hash(tensors: Mapping[str, torch.Tensor], base: str = "") -> str:
    """sha256 of names, types, shapes and bytes, in the order of the names.

    Args:
        tensors: every parameter and buffer that is saved, or those that an edit changed.
        base: a hash to go on from: of the model's settings, or of the model that was edited; with no tensors the
            hash is this one itself.
    """
    if not tensors:
        return base
    sha = hashlib.sha256(base.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def corpus_documents(entry: ModelEntry) -> Iterator[str]:
    """The documents of the model's corpus, in order.

    Raises:
        UserError: the corpus cannot be read or fetched.
    """
    if entry.corpus == "pack":
        if entry.pack is None:
            raise UserError(f"{entry.name!r} has no pack to take a corpus from")
        yield from (row["text"] for row in packs.find(entry.pack).rows("corpus"))
        return
    import datasets

    name, config, split, column = entry.corpus.split(":")
    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=True)
        for row in rows:
            if row[column].strip():
                yield row[column]
    except (OSError, ValueError) as error:
        raise UserError(
            f"the corpus {name!r} could not be fetched: {_reason(error)}; without a network, --pack with a corpus works"
        ) from error


def corpus_name(entry: ModelEntry) -> str:
    """What identifies the corpus: the file's sha256 for a pack, the data set's address otherwise."""
    if entry.corpus != "pack":
        return entry.corpus
    assert entry.pack is not None
    return "sha256:" + hashlib.sha256(packs.find(entry.pack).path("corpus").read_bytes()).hexdigest()


def blocks(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    tokens: int,
    length: int,
    *,
    must_have_all: bool = True,
) -> torch.Tensor:
    """``tokens // length`` full sequences [n, length]: the documents one after the other, an end token after each.

    Documents that hold fewer tokens give what they hold, unless all are a must.

    Raises:
        UserError: the documents hold fewer tokens than they must, or not one sequence.
    """
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    need = tokens // length * length

    def ids() -> Iterator[int]:
        for text in documents:
            yield from tokenizer(text, add_special_tokens=False)["input_ids"]
            yield from end

    found = list(itertools.islice(ids(), need))
    if len(found) < (need if must_have_all else length) or not need:
        raise UserError(f"--factor-tokens {tokens}: expected {length} to {len(found)}, what the corpus holds")
    return torch.tensor(found[: len(found) // length * length]).view(-1, length)
