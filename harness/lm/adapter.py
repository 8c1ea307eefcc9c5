"""The lm-eval model ``memsplit``: an ``HFLM`` whose weights may be edited, and which reads packs by their ids.

lm-eval knows the name once this module is imported::

    lm_eval.simple_evaluate("memsplit", model_args="pretrained=olmo-tiny,edit=kfac-50", tasks=["lambada_openai"])

A spec with commas needs ``model_args`` as a dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from transformers import DynamicCache

from ...tasks.recitation import Reading, longest_run
from ..models import model_table
from ..models.loading import LoadedModel, load
from ..models.token_ids import passage_ids, text_ids
from . import probes
from .forward import Passage, chunks, likelihoods, read
from .transcripts import Said, is_open, pieces


class Continuation(str):
    """A passage's greedily decoded continuation, which carries what it was made from.

    Attributes:
        ids: that the text was decoded from.
        gold: the suffix's.
        passage: the text of prefix and suffix.
        reading: what one teacher-forced pass says of the passage.
        pieces: the text, token by token.
        gold_pieces: the suffix's.
    """

    ids: list[int]
    gold: list[int]
    passage: str
    reading: Reading
    pieces: list[str]
    gold_pieces: list[str]

    def __new__(
        cls, decode: Callable[[Sequence[int]], str], ids: list[int], passage: Passage, reading: Reading
    ) -> Continuation:
        """The text of ``ids`` with what it was made from."""
        prefix, suffix = passage
        self = super().__new__(cls, decode(ids))
        self.ids, self.gold, self.passage, self.reading = ids, suffix, decode(prefix + suffix), reading
        self.gold_pieces = pieces(suffix, decode)
        self.pieces = self.gold_pieces if ids == suffix else pieces(ids, decode)
        return self


class Probed(str):
    """No text, but the figures of a probe."""

    figures: dict[str, float]

    def __new__(cls, figures: dict[str, float]) -> Probed:
        """Nothing, with figures."""
        self = super().__new__(cls)
        self.figures = figures
        return self


@register_model("memsplit")
class MemsplitLM(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """A causal language model under an edit.

    Args:
        pretrained: a name of the model table, a folder, a hub id, or a model that is loaded already.
        edit: an edit's spec, applied after loading.
        device: where to compute; CUDA if there is one, by default.
        dtype: to compute in; the model table's by default.
        batch_size: sequences a forward pass.

    Attributes:
        base: the weights that the edit took the place of, by parameter name.
    """

    def __init__(
        self,
        pretrained: str | LoadedModel = "olmo-tiny",
        edit: str = "none",
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | str = 32,
        **kwargs: Any,
    ) -> None:
        from ..evaluation.editing import ModelEditor

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if isinstance(pretrained, str):
            loaded = load(model_table.resolve(pretrained), device=device, dtype=dtype)
        else:
            loaded = pretrained
        super().__init__(
            pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", batch_size=batch_size, **kwargs
        )
        self.pretrained = loaded.entry.pretrained
        self.revision = loaded.entry.revision or "main"
        self.delta = self.peft = None
        editor = ModelEditor(loaded)
        prepared = editor.prepare(*editor.chain(edit))
        self.base = {name: loaded.model.get_parameter(name).data for name in prepared.weights}
        for name, weight in prepared.weights.items():
            loaded.model.get_parameter(name).data = weight

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """As ``HFLM``, without its progress bar; what is not greedy carries what the model says instead."""
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return self._said(requests, scores)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """As ``HFLM``, without its progress bar; a pack's text is scored on its ids, and against :attr:`base`."""
        ours = [r for r in requests if "pack" in (r.doc or {})]
        others = [r for r in requests if "pack" not in (r.doc or {})]
        scores = iter(super().loglikelihood_rolling(others, disable_tqdm=True) if others else [])
        texts = [[self.prefix_token_id, *text_ids(r.doc, self.tokenizer)] for r in ours]
        found = iter(likelihoods(self.model, texts, batch=self.batch, base=self.base))
        return [next(found if "pack" in (r.doc or {}) else scores) for r in requests]

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        scores: list[tuple[float, bool]] = super()._loglikelihood_tokens(
            requests, disable_tqdm=True, override_bs=override_bs
        )
        return scores

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """As ``HFLM``; a pack's passage is read and continued greedily on its ids, or asked what its ``probe`` asks."""
        others = [r for r in requests if "suffix_text" not in (r.doc or {})]
        passages = [r.doc for r in requests if "suffix_text" in (r.doc or {}) and not r.doc.get("probe")]
        probed = [r.doc for r in requests if "suffix_text" in (r.doc or {}) and r.doc.get("probe")]
        found = {
            "others": iter(super().generate_until(others, disable_tqdm=True) if others else []),
            "passages": iter(self.continuations([self.passage(doc) for doc in passages])),
            "probed": iter(self._probe(probed)),
        }
        kinds = (
            "others" if "suffix_text" not in (r.doc or {}) else "probed" if r.doc.get("probe") else "passages"
            for r in requests
        )
        return [next(found[kind]) for kind in kinds]

    @cached_property
    def start(self) -> list[int]:
        """The start token, where the model wants one before any text: as its tokenizer has it, or ``add_bos_token``."""
        token = [self.prefix_token_id]
        wanted = self.add_bos_token
        return token if (self.tokenizer("")["input_ids"][:1] == token if wanted is None else wanted) else []

    def passage(self, row: Mapping[str, Any]) -> Passage:
        """(prefix ids, suffix ids) of a pack's row, after the start token where the model wants one."""
        prefix, suffix = passage_ids(row, self.tokenizer)
        start = [] if prefix[:1] == self.start else self.start
        return start + prefix, suffix

    def continuations(self, passages: Sequence[Passage]) -> list[Continuation]:
        """Each prefix's greedy continuation, as long as its suffix or up to the model's end token.

        One pass over prefix and suffix decides how far the continuation follows the suffix: there each greedy choice
        was made from the very ids that plain decoding would have seen. Decoding starts at the first departure, for
        those alone that depart, in batches with a cache.
        """
        readings = read(self.model, passages, batch=self.batch)
        found = [
            reading.suffix(reading.greedy)[: longest_run(reading.suffix(reading.rank)) + 1].tolist()
            for reading in readings
        ]
        ends = self.ends()
        departed = [i for i, ids in enumerate(found) if len(ids) < len(passages[i][1]) and not ends.intersection(ids)]
        departed.sort(key=lambda i: (len(passages[i][1]) - len(found[i]), i))
        with torch.inference_mode():
            for chunk in chunks(departed, self.batch):
                self._decode(chunk, passages, found)
        found = [ids[: next((k for k, t in enumerate(ids) if t in ends), len(ids))] for ids in found]
        return [
            Continuation(self.tok_decode, ids, passage, reading)
            for ids, passage, reading in zip(found, passages, readings, strict=True)
        ]

    def _said(self, requests: Sequence[Instance], scores: Sequence[tuple[float, bool]]) -> list[tuple[float, bool]]:
        """The scores; an item's first carries what the model says, where the item is open and no answer is its own."""
        found = list(scores)
        by_item: dict[int, list[int]] = {}
        for i, request in enumerate(requests):
            if is_open(request.doc):
                by_item.setdefault(id(request.doc), []).append(i)
        asked = [places[0] for places in by_item.values() if not any(scores[i][1] for i in places)]
        passages: list[Passage] = [self._encode_pair(*requests[i].args) for i in asked]
        answers: list[list[int]] = [[] for _ in asked]
        with torch.inference_mode():
            for chunk in chunks(range(len(asked)), self.batch):
                self._decode(chunk, passages, answers)
        for i, (_, gold), ids in zip(asked, passages, answers, strict=True):
            found[i] = Said(scores[i], pieces(gold, self.tok_decode), pieces(ids, self.tok_decode))
        return found

    def _probe(self, docs: Sequence[Mapping[str, Any]]) -> list[Probed]:
        """What the probes of these rows find, each kind of probe for all its rows at once."""
        found: dict[int, Probed] = {}
        for name in dict.fromkeys(doc["probe"] for doc in docs):
            asked = [i for i, doc in enumerate(docs) if doc["probe"] == name]
            figures = probes.PROBES[name](self, [docs[i] for i in asked])
            found.update(zip(asked, map(Probed, figures), strict=True))
        return [found[i] for i in range(len(docs))]

    def _decode(self, chunk: Sequence[int], passages: Sequence[Passage], found: list[list[int]]) -> None:
        """Extend ``found`` for the passages of one batch, left-padded, with a cache."""
        rows = [passages[i][0] + found[i] for i in chunk]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        position = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        ends = torch.tensor(sorted(self.ends()), device=self.device)
        left = torch.tensor([len(passages[i][1]) - len(found[i]) for i in chunk], device=self.device)
        new: list[torch.Tensor] = []
        ended = torch.zeros(len(chunk), dtype=torch.bool, device=self.device)
        while not bool((ended | (left <= len(new))).all()):
            out = self.model(
                input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
            )
            best = out.logits[:, -1].argmax(-1)
            new.append(best)
            ended |= torch.isin(best, ends)
            ids, position = best[:, None], position[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(chunk), 1)], 1)
        for i, row in zip(chunk, torch.stack(new, 1).tolist(), strict=True):
            found[i] = (found[i] + row)[: len(passages[i][1])]

    def ends(self) -> set[int]:
        """The ids that end a text: the generation config's, else the tokenizer's."""
        end = self.model.generation_config.eos_token_id
        end = self.eot_token_id if end is None else end
        return set(end) if isinstance(end, list) else {end}

    @property
    def batch(self) -> int:
        """Sequences a pass."""
        return self.batch_size if isinstance(self.batch_size, int) else 32
