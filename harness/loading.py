"""Load a model and its tokenizer, name its weights by content, and read the text its factors come from."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from ..errors import UserError
from ..tasks import packs
from .models import ModelEntry

OFFLINE_HINT = "without a network, olmo-tiny and local folders work"


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in evaluation mode.

    Attributes:
        entry: what it was loaded from.
        model: the weights.
        tokenizer: its own.
        weights: sha256 that names the weights and the type they are computed in.
    """

    entry: ModelEntry
    model: Any
    tokenizer: PreTrainedTokenizerBase
    weights: str


def load(entry: ModelEntry, *, device: str, dtype: str | None = None) -> LoadedModel:
    """Load a model.

    Raises:
        UserError: it cannot be fetched, is damaged, or is no causal language model; the message says which and the
            remedy.
    """
    where = {"revision": entry.revision} if entry.revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(entry.pretrained, **where)
        model = AutoModelForCausalLM.from_pretrained(entry.pretrained, dtype=dtype or entry.dtype, **where)
    except SafetensorError as error:
        raise UserError(f"the weights of {entry.pretrained!r} are damaged ({error})") from error
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        if Path(entry.pretrained).is_dir():
            raise UserError(f"{entry.pretrained!r} cannot be loaded as a causal language model: {reason}") from error
        raise UserError(f"{entry.pretrained!r} could not be fetched: {reason}; {OFFLINE_HINT}") from error
    model = model.to(device).eval()
    return LoadedModel(entry=entry, model=model, tokenizer=tokenizer, weights=weights_hash(model))


@torch.no_grad()
def weights_hash(model: torch.nn.Module) -> str:
    """sha256 of every parameter and buffer that is saved: names, types, shapes and bytes, in the order of the names."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
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
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the corpus {name!r} could not be fetched: {reason}; {OFFLINE_HINT}") from error


def corpus_name(entry: ModelEntry) -> str:
    """What identifies the corpus: the file's sha256 for a pack, the data set's address otherwise."""
    if entry.corpus != "pack":
        return entry.corpus
    assert entry.pack is not None
    return "sha256:" + hashlib.sha256(packs.find(entry.pack).path("corpus").read_bytes()).hexdigest()


def blocks(documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, tokens: int, length: int) -> torch.Tensor:
    """``tokens // length`` full sequences [n, length]: the documents one after the other, an end token after each.

    Raises:
        UserError: the documents hold fewer tokens.
    """
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    need = tokens // length * length

    def ids() -> Iterator[int]:
        for text in documents:
            yield from tokenizer(text, add_special_tokens=False)["input_ids"]
            yield from end

    found = list(itertools.islice(ids(), need))
    if len(found) < need or not need:
        raise UserError(f"--factor-tokens {tokens}: expected {length} to {len(found)}, what the corpus holds")
    return torch.tensor(found).view(-1, length)
