"""Greedy decoding, in batches, with a key-value cache."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from ...tasks.recitation import TokenStats, longest_run
from .forward import PrefixSuffix, chunks, teacher_forced


def continuations(
    model: Any, passages: Sequence[PrefixSuffix], *, ends: Collection[int], batch: int
) -> list[tuple[list[int], TokenStats]]:
    """The greedy continuation of each prefix, and the statistics of its teacher-forced pass.

    A continuation is as long as the suffix, or ends before the first end token. One pass over prefix and suffix shows
    how far the continuation follows the suffix: up to there, each greedy choice was made from the very ids that plain
    decoding would have seen. Only passages that depart from their suffix are decoded, from their first departure on.

    Args:
        model: a causal language model.
        passages: prefixes and suffixes, at least one token each.
        ends: ids that end a text.
        batch: sequences a forward pass.
    """
    stats = teacher_forced(model, passages, batch=batch)
    found = [s.suffix(s.greedy)[: longest_run(s.suffix(s.rank)) + 1].tolist() for s in stats]
    left = [len(suffix) - len(ids) for (_, suffix), ids in zip(passages, found, strict=True)]
    departed = [i for i, ids in enumerate(found) if left[i] and not set(ends).intersection(ids)]
    departed.sort(key=lambda i: (left[i], i))
    prompts = [passages[i][0] + found[i] for i in departed]
    for i, more in zip(
        departed, greedy(model, prompts, [left[i] for i in departed], ends=ends, batch=batch), strict=True
    ):
        found[i] += more
    return [
        (ids[: next((k for k, token in enumerate(ids) if token in ends), len(ids))], s)
        for ids, s in zip(found, stats, strict=True)
    ]


@torch.inference_mode()
def greedy(
    model: Any, prompts: Sequence[list[int]], lengths: Sequence[int], *, ends: Collection[int], batch: int
) -> list[list[int]]:
    """The ids that greedy decoding adds to each prompt: at most its length, fewer where its whole batch has ended.

    Args:
        model: a causal language model.
        prompts: token ids; those that stand together are decoded together.
        lengths: how many ids to add to each, at least one.
        ends: ids that end a text. What follows an end within a batch that goes on is not cut off.
        batch: sequences a forward pass.
    """
    found: list[list[int]] = []
    for chunk in chunks(range(len(prompts)), batch):
        found += _greedy(model, [prompts[i] for i in chunk], [lengths[i] for i in chunk], ends)
    return found


def _greedy(model: Any, prompts: Sequence[list[int]], lengths: Sequence[int], ends: Collection[int]) -> list[list[int]]:
    """One batch, padded on the left."""
    device, width = model.device, max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=device)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    stops = torch.tensor(sorted(ends), device=device)
    left = torch.tensor(lengths, device=device)
    new: list[torch.Tensor] = []
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    while not bool((ended | (left <= len(new))).all()):
        out = model(input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True)
        best = out.logits[:, -1].argmax(-1)
        new.append(best)
        ended |= torch.isin(best, stops)
        ids, position = best[:, None], position[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], 1)
    rows: list[list[int]] = torch.stack(new, 1).tolist()
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]
