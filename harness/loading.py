"""Load a model and its tokenizer, name its weights by content, and read the text its factors come from."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
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
    try:
        tokenizer = AutoTokenizer.from_pretrained(entry.pretrained, **where)
        model = AutoModelForCausalLM.from_pretrained(entry.pretrained, dtype=dtype, **where)
    except SafetensorError as error:
        raise UserError(f"the weights of {entry.pretrained!r} are damaged ({error})") from error
    except (OSError, ValueError) as error:
        if Path(entry.pretrained).is_dir():
            raise UserError(
                f"{entry.pretrained!r} cannot be loaded as a causal language model: {_reason(error)}"
            ) from error
        raise UserError(f"{entry.pretrained!r} could not be fetched: {_reason(error)}; {OFFLINE_HINT}") from error
    model = model.to(device).eval()
    return LoadedModel(
        entry=entry,
        model=model,
        tokenizer=tokenizer,
        weights=weights_hash(model.state_dict()),
        revision=_commit(entry),
    )


def _reason(error: Exception) -> str:
    """The first line of a message; of the hub's errors, which begin with the bare status, the first two."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[: 2 if isinstance(error, HfHubHTTPError) else 1])


def _commit(entry: ModelEntry) -> str | None:
    if Path(entry.pretrained).is_dir():
        return None
    path = try_to_load_from_cache(entry.pretrained, "config.json", revision=entry.revision)
    return Path(path).parent.name if isinstance(path, str) else None


def check_pack(loaded: LoadedModel) -> None:
    """Refuse a pack whose ids are not of the model's tokenizer.

    Raises:
        UserError: an id is out of the vocabulary, or the ids of the first memorized passage do not spell its text.
    """
    if loaded.entry.pack is None:
        return
    pack = packs.find(loaded.entry.pack)
    rows = pack.rows("memorized")
    largest = max(max(row["prefix_ids"] + row["suffix_ids"]) for row in rows)
    vocabulary = loaded.model.get_input_embeddings().num_embeddings
    spelled = "".join(loaded.tokenizer.decode(rows[0]["prefix_ids"]).split()) if largest < vocabulary else ""
    if spelled != "".join(rows[0]["prefix_text"].split()):
        raise UserError(
            f"the pack {pack.name!r} is of another tokenizer than {loaded.entry.name!r}: its ids spell other text"
        )


def weights_hash(tensors: Mapping[str, torch.Tensor], base: str = "") -> str:
    """sha256 of names, types, shapes and bytes, in the order of the names.

    Args:
        tensors: every parameter and buffer that is saved, or those that an edit changed.
        base: of the model that was edited; with nothing changed the hash is this one itself.
    """
    if base and not tensors:
        return base
    sha = hashlib.sha256(base.encode())
    for name, tensor in sorted(tensors.items()):
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
        raise UserError(f"the corpus {name!r} could not be fetched: {_reason(error)}; {OFFLINE_HINT}") from error


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
