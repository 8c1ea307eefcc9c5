"""The lm-eval model of a loaded model: an ``HFLM`` that reads a pack's rows by their token ids.

It returns text and numbers, as lm-eval wants. What it measured beside them it leaves in the request's document, where
the task's ``process_results`` takes it (see ``tasks.measured``). Its registered name is in ``evaluation.edited_lm``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from ...errors import UserError
from ...model_edits.architecture.context import context_length
from ...tasks import measured
from ...tasks.recitation import Generation
from ..common.runtime import AUTO_BATCH
from ..models import token_ids
from ..models.loading import LoadedModel
from . import conversation, decoding, probes
from .forward import PrefixSuffix, answers, likelihoods
from .memory import FIRST, adapting
from .stepping import carried
from .transcripts import Key, Transcript, is_open, pieces


class MemsplitLM(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """A causal language model.

    Args:
        loaded: the model, with the weights that it has before any edit.
        base: weights of the base model by parameter name, where an edit has replaced them.
        batch_size: sequences a forward pass; ``auto`` for as many as the memory suffices for (see :mod:`.memory`).
        chat: whether prompts are turns of a conversation, put into words by the tokenizer's template.
        options: of ``HFLM``.

    Attributes:
        adapts: whether the batch size adapts itself.
        base: as given; KL and nDCG of a text are against the model with these weights.
        chat: as given.
        transcripts: what was generated for each item, and what was expected.

    Raises:
        UserError: a chat template is asked for, and the tokenizer has none.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        base: Mapping[str, torch.Tensor] | None = None,
        batch_size: int | str = 32,
        chat: bool = False,
        **options: Any,
    ) -> None:
        if chat and not getattr(loaded.tokenizer, "chat_template", None):
            raise UserError(
                f"the tokenizer of {loaded.entry.name!r} has no chat template: expected an instruct model, or no "
                "--chat-template"
            )
        self.chat = chat
        padded = _padded(loaded.tokenizer)
        self.adapts = str(batch_size).startswith(AUTO_BATCH)
        size = FIRST if self.adapts else batch_size
        super().__init__(pretrained=loaded.model, tokenizer=padded, backend="causal", batch_size=size, **options)
        self.tokenizer = loaded.tokenizer
        self.pretrained = loaded.entry.pretrained
        self.revision = loaded.entry.revision or "main"
        self.delta = self.peft = None
        self.base = dict(base or {})
        self.transcripts: dict[Key, Transcript] = {}
        carried(loaded.model)

    @adapting
    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Score as ``HFLM`` does; what the model generates in place of a wrong open answer is kept as a transcript."""
        pairs = [(request.args, *self._encode_pair(*request.args)) for request in requests]
        for request, (_, _, answer) in zip(requests, pairs, strict=True):
            if not answer:
                raise self._nothing_before(request)
        scores = self._loglikelihood_tokens(pairs, disable_tqdm=True)
        self._transcribe(requests, scores)
        return scores

    @adapting
    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Score as ``HFLM`` does, but a pack's text on its ids, with its distance from the base model."""
        ours = [i for i, request in enumerate(requests) if "pack" in (request.doc or {})]
        others = [i for i, request in enumerate(requests) if "pack" not in (request.doc or {})]
        texts = [self._text(requests[i].doc) for i in ours]
        given = max(1, len(self.first))
        scores: dict[int, float] = {}
        found = likelihoods(self.model, texts, batch=self.batch, base=self.base, given=given)
        for i, likelihood in zip(ours, found, strict=True):
            measured.leave(requests[i].doc, likelihood)
            scores[i] = likelihood.nats
        if others:
            if not self.first:
                raise self._nothing_before(requests[others[0]])
            rolled = super().loglikelihood_rolling([requests[i] for i in others], disable_tqdm=True)
            scores.update(zip(others, rolled, strict=True))
        return [scores[i] for i in range(len(requests))]

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """As ``HFLM`` does, but in float32, of the logits of the answers' places alone."""
        asked = [(prompt, answer) for _, prompt, answer in requests]
        scores = answers(self.model, asked, batch=override_bs or self.batch, longest=self.max_length)
        for (text, _, _), score in zip(requests, scores, strict=True):
            if text is not None:
                self.cache_hook.add_partial("loglikelihood", text, score)
        return scores

    @adapting
    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Generate as ``HFLM`` does, but continue a pack's passage on its ids, or run the probe that its row names.

        The text of a probe is empty.
        """
        kinds: dict[str, list[int]] = {"other": [], "passage": [], "probe": []}
        for i, request in enumerate(requests):
            kinds[_kind(request.doc or {})].append(i)
        texts: dict[int, str] = {}
        if others := [requests[i] for i in kinds["other"]]:
            texts.update(zip(kinds["other"], super().generate_until(others, disable_tqdm=True), strict=True))
        texts.update(zip(kinds["passage"], self._recite([requests[i] for i in kinds["passage"]]), strict=True))
        self._probe([requests[i].doc for i in kinds["probe"]])
        return [texts.get(i, "") for i in range(len(requests))]

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], *, attention_mask: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        """Generate as ``HFLM`` does, which pads prompts and carries state; a model that carries none sees neither.

        It decodes greedily by whole passes, and otherwise each prompt alone.
        """
        generate = super()._model_generate
        if carried(self.model) is not None:
            whole: torch.Tensor = generate(context, max_length, stop, attention_mask=attention_mask, **options)
            return whole
        prompts = [row[mask.bool()] for row, mask in zip(context, attention_mask, strict=True)]
        length, ends = max_length - context.shape[1], self.ends()
        if options.get("do_sample") or options.get("num_beams", 1) > 1:
            texts = [
                generate(ids[None], len(ids) + length, stop, attention_mask=torch.ones_like(ids[None]), **options)[0]
                for ids in prompts
            ]
            added = [text[len(ids) :] for ids, text in zip(prompts, texts, strict=True)]
        else:

            def stops(ids: list[int]) -> bool:
                return any(word in self.tok_decode(ids) for word in stop)

            begun = [ids.tolist() for ids in prompts]
            found = decoding.until(self.model, begun, length, ends=ends, stops=stops, batch=self.batch)
            added = [torch.tensor(ids, device=context.device) for ids in found]
        end = min(ends, default=0)  # lm-eval cuts it off
        return torch.cat([context, torch.nn.utils.rnn.pad_sequence(added, batch_first=True, padding_value=end)], 1)

    @cached_property
    def start(self) -> list[int]:
        """The tokens before every text: as the tokenizer does, unless ``add_bos_token`` says otherwise."""
        if self.add_bos_token is None:
            return token_ids.start_ids(self.tokenizer)
        return token_ids.first_ids(self.tokenizer) if self.add_bos_token else []

    @cached_property
    def first(self) -> list[int]:
        """What the first token of a text is scored after: :attr:`start`, else a BOS or EOS token, if there is one."""
        custom = [] if self.custom_prefix_token_id is None else [self.custom_prefix_token_id]
        return custom or self.start or token_ids.first_ids(self.tokenizer)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: Any
    ) -> list[int]:
        """A text's ids after :attr:`start`; those of the text alone if special tokens are declined."""
        ids = token_ids.encode(string, self.tokenizer)
        ids = ids if add_special_tokens is False else token_ids.begun(ids, self.start)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The ids of texts (see :meth:`tok_encode`), and a mask that is 0 where they are padded with 0: [b, longest].

        Args:
            strings: the texts.
            padding_side: ``left`` or ``right``.
            left_truncate_len: the last so many tokens of each.
            truncation: has no effect.
        """
        rows = [torch.tensor(self.tok_encode(text, left_truncate_len=left_truncate_len)) for text in strings]
        masks = [torch.ones_like(row) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        ids, mask = (pad(each, batch_first=True, padding_side=padding_side) for each in (rows, masks))
        return ids, mask

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> Any:
        """The text of ids; ``None`` for no token, which is what lm-eval asks for where a tokenizer has no EOS."""
        return None if tokens is None else self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The ids of a prompt, after :attr:`start`, and of what may follow it (see ``token_ids.cut``).

        The first token is of the prompt, whatever the texts are: nothing tells how probable it is.
        """
        prompt, answer, _ = token_ids.cut(context, continuation, self.tokenizer)
        ids = token_ids.begun(prompt + answer, self.start if prompt else self.first)
        border = len(ids) - len(answer) or 1
        return ids[:border], ids[border:]

    @property
    def max_length(self) -> int:
        """Tokens that the model can read at once: as given, as its configuration says, or as lm-eval takes it."""
        said: int = self._max_length or context_length(self.model.config, self.model) or super().max_length
        return said

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The text of a conversation, as ``HFLM`` has it.

        Raises:
            UserError: the tokenizer's template cannot put it into words.
        """
        with conversation.applying(self.pretrained):
            text: str = super().apply_chat_template(chat_history, add_generation_prompt)
        return text

    @cached_property
    def around(self) -> tuple[str, str]:
        """What the tokenizer's template puts before and after an answer (see ``conversation.around``)."""
        return conversation.around(self.tokenizer, self.chat_template_args, self.pretrained)

    def turns(self, task: Any) -> bool:
        """Whether a task's prompts are turns of a conversation: if asked for, and they are no passages or plain text.

        Passages are continued as they were trained on, and so is text whose every token is scored.
        """
        plain = task.OUTPUT_TYPE == "loglikelihood_rolling" or any(_kind(doc) != "other" for doc in task.eval_docs)
        return self.chat and not plain

    def asking(self, task: Any) -> AbstractContextManager[None]:
        """A context in which a task asks for its answers as this model is to give them: in turns, those of turns.

        Raises:
            UserError: nothing tells how the template puts an answer (see ``conversation.around``).
        """
        if task.OUTPUT_TYPE == "loglikelihood" and self.turns(task):
            return conversation.whole_answers(task, *self.around)
        return nullcontext()

    def fits(self, request: Instance) -> bool:
        """Whether the model can read all that a request gives it, and write what it asks for.

        Other texts than a pack's fit always, for lm-eval scores them in windows.
        """
        doc, (text, *asked) = request.doc or {}, request.args
        if _kind(doc) != "other":
            return self.tokens(doc) <= self.max_length
        if request.request_type == "loglikelihood_rolling":
            return "pack" not in doc or len(self._text(doc)) <= self.max_length
        scored = request.request_type == "loglikelihood"
        more = 0 if scored else normalize_gen_kwargs(asked[0], self.max_gen_toks)["max_gen_toks"]
        if len((text + asked[0] if scored else text).encode()) + len(self.first) + more <= self.max_length:
            return True  # no token is shorter than a byte
        ids = sum(map(len, self._encode_pair(text, *asked))) - 1 if scored else len(self.tok_encode(text))
        return ids + more <= self.max_length

    def tokens(self, row: Mapping[str, Any]) -> int:
        """How many tokens the model is given of a passage, in the longest of its prompts and the suffix."""
        prefix, suffix = self.passage(row)
        return max(len(each) for each in (prefix, *(self.passage(o)[0] for o in row.get("others") or ()))) + len(suffix)

    def passage(self, row: Mapping[str, Any]) -> PrefixSuffix:
        """The prefix and suffix ids of a pack's row, after :attr:`start`."""
        return token_ids.passage_ids(row, self.tokenizer, self.start)

    def _nothing_before(self, request: Instance) -> UserError:
        about = f"item {request.doc_id} of {request.task_name}"
        return UserError(f"{about} cannot be scored: {self.pretrained} has no token that a text begins with")

    def _text(self, row: Mapping[str, Any]) -> list[int]:
        return token_ids.text_ids(row, self.tokenizer, self.first)

    @adapting
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
        return set(end) if isinstance(end, list) else {end} - {None}

    @property
    def batch(self) -> int:
        """Sequences a forward pass."""
        return int(self.batch_size)

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


def _kind(doc: Mapping[str, Any]) -> str:
    """Whether a request's document is a pack's ``passage``, a ``probe`` of one, or ``other``."""
    return "other" if "suffix_text" not in doc else "probe" if doc.get("probe") else "passage"


def _padded(tokenizer: Any) -> Any:
    """The tokenizer, or a copy of one to which lm-eval would add a padding token that the model does not have."""
    has = tokenizer is None or any(getattr(tokenizer, f"{name}_token") for name in ("pad", "unk", "eos"))
    return tokenizer if has else copy.deepcopy(tokenizer)
