"""The lm-eval model ``memsplit``: an ``HFLM`` whose weights may be edited, and which scores packs by their ids.

lm-eval knows the name once this module is imported::

    lm_eval.simple_evaluate("memsplit", model_args="pretrained=olmo-tiny,edit=kfac-50", tasks=["lambada_openai"])

A spec with commas needs ``model_args`` as a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from transformers import DynamicCache

from . import models
from .loading import LoadedModel, load


class Continuation(str):
    """Decoded text that carries the ids it was decoded from."""

    ids: list[int]

    def __new__(cls, text: str, ids: list[int]) -> Continuation:
        """Text with ids."""
        self = super().__new__(cls, text)
        self.ids = ids
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
        from .editing import Workshop

        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if isinstance(pretrained, str):
            loaded = load(models.resolve(pretrained), device=device, dtype=dtype)
        else:
            loaded = pretrained
        super().__init__(
            pretrained=loaded.model, tokenizer=loaded.tokenizer, backend="causal", batch_size=batch_size, **kwargs
        )
        self.pretrained = loaded.entry.pretrained
        self.revision = loaded.entry.revision or "main"
        self.delta = self.peft = None
        workshop = Workshop(loaded)
        prepared = workshop.prepare(*workshop.chain(edit))
        for name, weight in prepared.weights.items():
            loaded.model.get_parameter(name).data = weight

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """As ``HFLM``; an item with ``prefix_ids`` and ``suffix_ids`` is scored on those."""
        by_ids = [r for r in requests if "suffix_ids" in (r.doc or {})]
        by_text = [r for r in requests if "suffix_ids" not in (r.doc or {})]
        scores = iter(super().loglikelihood(by_text, disable_tqdm=True) if by_text else [])
        encoded = [(r.args, r.doc["prefix_ids"], r.doc["suffix_ids"]) for r in by_ids]
        id_scores = iter(self._loglikelihood_tokens(encoded) if encoded else [])
        return [next(id_scores if "suffix_ids" in (r.doc or {}) else scores) for r in requests]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """As ``HFLM``, without its progress bar; an item with ``ids`` is scored on those."""
        by_text = [r for r in requests if "ids" not in (r.doc or {})]
        scores = iter(super().loglikelihood_rolling(by_text, disable_tqdm=True) if by_text else [])
        encoded = [
            ((None, None), [self.prefix_token_id], list(r.doc["ids"])) for r in requests if "ids" in (r.doc or {})
        ]
        id_scores = iter(self._loglikelihood_tokens(encoded) if encoded else [])
        return [next(id_scores)[0] if "ids" in (r.doc or {}) else next(scores) for r in requests]

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        scores: list[tuple[float, bool]] = super()._loglikelihood_tokens(
            requests, disable_tqdm=True, override_bs=override_bs
        )
        return scores

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """As ``HFLM``; an item with ``prefix_ids`` and ``suffix_ids`` is continued greedily on those."""
        by_text = [r for r in requests if "suffix_ids" not in (r.doc or {})]
        texts = iter(super().generate_until(by_text, disable_tqdm=True) if by_text else [])
        passages = [r.doc for r in requests if "suffix_ids" in (r.doc or {})]
        found = iter(self.continue_greedily([(d["prefix_ids"], d["suffix_ids"]) for d in passages]))
        return [
            Continuation(self.tok_decode(ids := next(found)), ids) if "suffix_ids" in (r.doc or {}) else next(texts)
            for r in requests
        ]

    @torch.inference_mode()
    def continue_greedily(self, passages: Sequence[tuple[list[int], list[int]]]) -> list[list[int]]:
        """The greedy continuation of each prefix, as long as its suffix or up to the model's end token.

        One forward pass over prefix and suffix decides how far the continuation follows the suffix: there each greedy
        choice was made from the very ids that plain decoding would have seen. Decoding starts at the first departure,
        for those alone that depart, in batches with a cache.

        Args:
            passages: (prefix ids, suffix ids) pairs.
        """
        found: list[list[int]] = [[] for _ in passages]
        order = sorted(range(len(passages)), key=lambda i: -sum(map(len, passages[i])))
        departed: list[int] = []
        for chunk in _chunks(order, self._batch()):
            rows = [passages[i][0] + passages[i][1] for i in chunk]
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
            choice = self.model(ids.to(self.device)).logits.argmax(-1).cpu()
            for i, row, best in zip(chunk, rows, choice, strict=True):
                prefix, suffix = passages[i]
                greedy = best[len(prefix) - 1 : len(row) - 1].tolist()
                same = next((k for k, (g, s) in enumerate(zip(greedy, suffix, strict=True)) if g != s), len(suffix))
                found[i] = greedy[: same + 1]
                if len(found[i]) < len(suffix):
                    departed.append(i)
        ends = self._ends()
        departed = [i for i in departed if not ends.intersection(found[i])]
        departed.sort(key=lambda i: (len(passages[i][1]) - len(found[i]), i))
        for chunk in _chunks(departed, self._batch()):
            self._decode(chunk, passages, found)
        return [ids[: next((k for k, t in enumerate(ids) if t in ends), len(ids))] for ids in found]

    def _decode(
        self, chunk: list[int], passages: Sequence[tuple[list[int], list[int]]], found: list[list[int]]
    ) -> None:
        """Extend ``found`` for the passages of one batch, left-padded, with a cache."""
        rows = [passages[i][0] + found[i] for i in chunk]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        position = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        ends = torch.tensor(sorted(self._ends()), device=self.device)
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

    def _ends(self) -> set[int]:
        """The ids that end a text: the generation config's, else the tokenizer's."""
        end = self.model.generation_config.eos_token_id
        end = self.eot_token_id if end is None else end
        return set(end) if isinstance(end, list) else {end}

    def _batch(self) -> int:
        return self.batch_size if isinstance(self.batch_size, int) else 32


def _chunks(items: list[int], size: int) -> list[list[int]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
