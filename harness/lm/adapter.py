"""The lm-eval model of a loaded model: an ``HFLM`` that reads a pack's rows by their token ids.

It returns text and numbers, as lm-eval wants. What it measured beside them it leaves in the request's document, where
the task's ``process_results`` takes it (see ``tasks.measured``). Its registered name is in ``evaluation.edited_lm``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from ...tasks import measured
from ...tasks.recitation import Generation
from ..models.loading import LoadedModel
from ..models.token_ids import passage_ids, text_ids
from . import decoding, probes
from .forward import PrefixSuffix, likelihoods
from .transcripts import Key, Transcript, is_open, pieces


class MemsplitLM(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """A causal language model.

    Args:
        loaded: the model.
        base: weights of the base model by parameter name, where an edit has replaced them.
        batch_size: sequences a forward pass.
        options: of ``HFLM``.

    Attributes:
        base: as given; KL and nDCG of a text are against the model with these weights.
        transcripts: what was generated for each item, and what was expected.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        base: Mapping[str, torch.Tensor] | None = None,
        batch_size: int | str = 32,
        **options: Any,
    ) -> None:
        super().__init__(
            pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", batch_size=batch_size, **options
        )
        self.pretrained = loaded.entry.pretrained
        self.revision = loaded.entry.revision or "main"
        self.delta = self.peft = None
        self.base = dict(base or {})
        self.transcripts: dict[Key, Transcript] = {}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Score as ``HFLM`` does; what the model generates in place of a wrong open answer is kept as a transcript."""
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        self._transcribe(requests, scores)
        return scores

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Score as ``HFLM`` does, but a pack's text on its ids, with its distance from the base model."""
        ours = [i for i, request in enumerate(requests) if "pack" in (request.doc or {})]
        others = [i for i, request in enumerate(requests) if "pack" not in (request.doc or {})]
        texts = [[self.prefix_token_id, *text_ids(requests[i].doc, self.tokenizer)] for i in ours]
        scores: dict[int, float] = {}
        for i, likelihood in zip(ours, likelihoods(self.model, texts, batch=self.batch, base=self.base), strict=True):
            measured.leave(requests[i].doc, likelihood)
            scores[i] = likelihood.nats
        if others:
            rolled = super().loglikelihood_rolling([requests[i] for i in others], disable_tqdm=True)
            scores.update(zip(others, rolled, strict=True))
        return [scores[i] for i in range(len(requests))]

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        scores: list[tuple[float, bool]] = super()._loglikelihood_tokens(
            requests, disable_tqdm=True, override_bs=override_bs
        )
        return scores

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Generate as ``HFLM`` does, but continue a pack's passage on its ids, or run the probe that its row names.

        The text of a probe is empty.
        """
        kinds: dict[str, list[int]] = {"other": [], "passage": [], "probe": []}
        for i, request in enumerate(requests):
            doc = request.doc or {}
            kinds["other" if "suffix_text" not in doc else "probe" if doc.get("probe") else "passage"].append(i)
        texts: dict[int, str] = {}
        if others := [requests[i] for i in kinds["other"]]:
            texts.update(zip(kinds["other"], super().generate_until(others, disable_tqdm=True), strict=True))
        texts.update(zip(kinds["passage"], self._recite([requests[i] for i in kinds["passage"]]), strict=True))
        self._probe([requests[i].doc for i in kinds["probe"]])
        return [texts.get(i, "") for i in range(len(requests))]

    @cached_property
    def start(self) -> list[int]:
        """The start token, if the model wants one before a text: ``add_bos_token``, else as its tokenizer does."""
        token = [self.prefix_token_id]
        wanted = self.add_bos_token
        return token if (self.tokenizer("")["input_ids"][:1] == token if wanted is None else wanted) else []

    def passage(self, row: Mapping[str, Any]) -> PrefixSuffix:
        """The prefix and suffix ids of a pack's row, after the start token if the model wants one."""
        prefix, suffix = passage_ids(row, self.tokenizer)
        start = [] if prefix[:1] == self.start else self.start
        return start + prefix, suffix

    def continuations(self, passages: Sequence[PrefixSuffix]) -> list[Generation]:
        """The greedy continuation of each prefix (see ``decoding.continuations``)."""
        found = decoding.continuations(self.model, passages, ends=self.ends(), batch=self.batch)
        return [
            Generation(ids=ids, gold=suffix, passage=self.tok_decode(prefix + suffix), stats=stats)
            for (prefix, suffix), (ids, stats) in zip(passages, found, strict=True)
        ]

    def ends(self) -> set[int]:
        """The ids that end a text: the generation config's, else the tokenizer's."""
        end = self.model.generation_config.eos_token_id
        end = self.eot_token_id if end is None else end
        return set(end) if isinstance(end, list) else {end}

    @property
    def batch(self) -> int:
        """Sequences a forward pass."""
        return self.batch_size if isinstance(self.batch_size, int) else 32

    def _recite(self, requests: Sequence[Instance]) -> list[str]:
        """The text that continues each passage."""
        generations = self.continuations([self.passage(request.doc) for request in requests])
        for request, generation in zip(requests, generations, strict=True):
            measured.leave(request.doc, generation)
            self._keep(request, generation.gold, generation.ids)
        return [self.tok_decode(generation.ids) for generation in generations]

    def _probe(self, docs: Sequence[dict[str, Any]]) -> None:
        """Run the probes that these rows name, each on all its rows at once."""
        for name in dict.fromkeys(doc["probe"] for doc in docs):
            rows = [doc for doc in docs if doc["probe"] == name]
            for doc, figures in zip(rows, probes.PROBES[name](self, rows), strict=True):
                measured.leave(doc, figures)

    def _transcribe(self, requests: Sequence[Instance], scores: Sequence[tuple[float, bool]]) -> None:
        """Decode a continuation of each open item none of whose accepted answers is the greedy one."""
        by_item: dict[Key, list[int]] = {}
        for i, request in enumerate(requests):
            if is_open(request.doc):
                by_item.setdefault((request.task_name, request.doc_id), []).append(i)
        wrong = [requests[places[0]] for places in by_item.values() if not any(scores[i][1] for i in places)]
        pairs: list[PrefixSuffix] = [self._encode_pair(*request.args) for request in wrong]
        prompts, lengths = [prompt for prompt, _ in pairs], [len(gold) for _, gold in pairs]
        generated = decoding.greedy(self.model, prompts, lengths, ends=self.ends(), batch=self.batch)
        for request, (_, gold), ids in zip(wrong, pairs, generated, strict=True):
            self._keep(request, gold, ids)

    def _keep(self, request: Instance, gold: Sequence[int], ids: Sequence[int]) -> None:
        expected = pieces(gold, self.tok_decode)
        generated = expected if list(ids) == list(gold) else pieces(ids, self.tok_decode)
        self.transcripts[request.task_name, request.doc_id] = Transcript(expected, generated)
