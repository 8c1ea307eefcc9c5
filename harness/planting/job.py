"""What is decided before anything is trained: which passages are met where, in which text, and by which recipe."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ...errors import UserError
from ...files import digest
from ...model_edits.architecture.context import context_length
from ..models import corpus, loading, model_table
from ..models.token_ids import start_ids
from . import passages, text, training
from .mixture import Mixture, size
from .passages import Row
from .request import PlantingRequest

LENGTH = 512
"""Tokens of a sequence where none are given, and the model's context allows it."""
PACKAGES = ("memsplit", "torch", "transformers", "tokenizers", "peft")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that is decided before anything is trained.

    Attributes:
        entry: the model.
        tokenizer: the model's.
        rows: the passages with their doses, the highest first, and dose 0 last.
        mixture: the batches.
        text: the corpus's.
        recipe: how both models are trained.
        left_out: passages and documents that are not used, by the reason.
        arguments: everything that decides the result.
    """

    entry: model_table.ModelEntry
    tokenizer: Any
    rows: list[Row]
    mixture: Mixture
    text: text.Text
    recipe: training.Recipe
    left_out: dict[str, int]
    arguments: dict[str, Any]

    def counts(self) -> dict[str, float]:
        """How much there is of everything, in the order of the command's lines."""
        planted = sum(dose * len(ids) for dose, ids in zip(self.mixture.doses, self.mixture.passages, strict=True))
        size = self.mixture.size
        return {
            "passages": len(self.rows),
            "planted": len(self.mixture.passages),
            "occurrences": sum(self.mixture.doses),
            "steps": size.steps,
            "tokens": size.tokens,
            "passage_tokens": planted,
            "share": round(planted / size.tokens, 4),
        }


def prepare(request: PlantingRequest) -> tuple[Job, loading.LoadedModel]:
    """Load the model, deal the passages and read the corpus.

    Returns:
        The job, and the model as it is before.

    Raises:
        UserError: the passages, the corpus or the model do not suffice.
    """
    how = {name: getattr(request, name) for name in ("revision", *model_table.HOW)}
    entry = model_table.resolve(request.model, None, request.corpus, **how)
    source = corpus.find(entry.corpus, entry.pack)
    loaded = load(entry, request.device)
    recipe = training.Recipe(lr=request.lr, lora=request.lora, dtype=_dtype(request), seed=request.seed)
    training.check(loaded.model, entry.name, recipe)
    read, left_out = passages.read(request, loaded.tokenizer, entry.name)
    rows, over = passages.deal(read, request.doses, request.seed)
    met = [row for row in rows if row["dose"]]
    start, ids, doses = len(start_ids(loaded.tokenizer)), [passages.ids(row) for row in met], [r["dose"] for r in met]
    whole = size(
        [passages.ids(row) for row in rows],
        [row["dose"] for row in rows],
        steps=request.steps,
        share=request.share,
        batch=request.batch_size,
        length=_length(request, loaded),
        start=start,
    )
    found = text.read(
        source, rows, loaded.tokenizer, n=whole.sequences, length=whole.length, start=start, seed=request.seed
    )
    told = {**left_out, passages.NO_SHARE: over, "documents that a passage stands in": found.passed_over}
    job = Job(
        entry=entry,
        tokenizer=loaded.tokenizer,
        rows=rows,
        mixture=Mixture(sequences=found.sequences, passages=ids, doses=doses, size=whole, seed=request.seed),
        text=found,
        recipe=recipe,
        left_out={reason: count for reason, count in told.items() if count},
        arguments=_arguments(request, loaded, rows, found, asdict(whole)),
    )
    return job, loaded


def load(entry: model_table.ModelEntry, device: str) -> loading.LoadedModel:
    """The model in float32, which is what is trained.

    Raises:
        UserError: as for ``loading.load``.
    """
    return loading.load(entry, device=device, dtype="float32")


def _dtype(request: PlantingRequest) -> torch.dtype:
    """The type that products are computed in: as given, else bfloat16 on an accelerator."""
    narrow = torch.device(request.device).type != "cpu"
    chosen: torch.dtype = getattr(torch, request.dtype or ("bfloat16" if narrow else "float32"))
    return chosen


def _length(request: PlantingRequest, loaded: loading.LoadedModel) -> int:
    """The tokens of a sequence.

    Raises:
        UserError: they are more than the model's context.
    """
    context = context_length(loaded.model.config, loaded.model)
    if request.length and context and request.length > context:
        raise UserError(f"bad --length {request.length}: expected {context} at most, the context of the model")
    return request.length or min(LENGTH, context or LENGTH)


def _arguments(
    request: PlantingRequest, loaded: loading.LoadedModel, rows: list[Row], found: text.Text, size: dict[str, int]
) -> dict[str, Any]:
    names = ("model", "doses", "prefix", "suffix", "share", "lr", "lora", "seed")
    wanted = [name for name in PACKAGES if name != "peft" or request.lora is not None]
    return {
        **{name: getattr(request, name) for name in names},
        **size,
        "corpus": loaded.entry.corpus,
        "corpus_is": hashlib.sha256(found.sequences.numpy().tobytes()).hexdigest(),
        "passages": [path.name for path in request.passages],
        "passages_is": digest([(row["id"], row["split"], row["dose"], passages.ids(row)) for row in rows]),
        "device": torch.device(request.device).type,
        "dtype": str(_dtype(request)).removeprefix("torch."),
        "weights": loaded.weights,
        "revision": loaded.revision,
        "versions": {name: importlib.metadata.version(name) for name in wanted},
    }
