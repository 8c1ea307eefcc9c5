"""Greedy decoding, in batches, with the state that the model carries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from ...tasks.recitation import TokenStats, longest_run
from .forward import PrefixSuffix, chunks, teacher_forced
from .stepping import Steps, carried

PIECE = 16
"""Ids that are decoded before it is looked whether a text may stop."""
Stops = Callable[[list[int]], bool]
"""Whether ids that were added to a prompt hold all that is wanted."""


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
    prompts = [passages[i][0] + found[i] for i in departed]
    for i, more in zip(
        departed, greedy(model, prompts, [left[i] for i in departed], ends=ends, batch=batch), strict=True
    ):
        found[i] += more
    return [
        (ids[: next((k for k, token in enumerate(ids) if token in ends), len(ids))], s)
        for ids, s in zip(found, stats, strict=True)
    ]


def greedy(
    model: Any, prompts: Sequence[list[int]], lengths: Sequence[int], *, ends: Collection[int], batch: int
) -> list[list[int]]:
    """The ids that greedy decoding adds to each prompt: at most its length, fewer where its whole batch has ended.

    Args:
        model: a causal language model.
        prompts: token ids, at least one each; those of like length are decoded together.
        lengths: how many ids to add to each, at least one.
        ends: ids that end a text. What follows an end within a batch that goes on is not cut off.
        batch: sequences a forward pass.
    """
    found: dict[int, list[int]] = {}
    for chunk in chunks(sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), lengths[i])), batch):
        added = _greedy(model, [prompts[i] for i in chunk], [lengths[i] for i in chunk], ends)
        found.update(zip(chunk, added, strict=True))
    return [found[i] for i in range(len(prompts))]


def until(
    model: Any, prompts: Sequence[list[int]], length: int, *, ends: Collection[int], stops: Stops, batch: int
) -> list[list[int]]:
    """The ids that greedy decoding adds to each prompt, up to its first end, which is one of them, or its last piece.

    Args:
        model: a causal language model.
        prompts: token ids, at least one each.
        length: the most ids to add to each.
        ends: ids that end a text.
        stops: whether a text that was added needs no more; asked after every :data:`PIECE` ids.
        batch: sequences a forward pass.
    """
    found: list[list[int]] = [[] for _ in prompts]
    left = list(range(len(prompts)))
    for begun in range(0, length, PIECE):
        texts, more = [prompts[i] + found[i] for i in left], [min(PIECE, length - begun)] * len(left)
        for i, ids in zip(left, greedy(model, texts, more, ends=ends, batch=batch), strict=True):
            found[i] += ids[: next((k + 1 for k, token in enumerate(ids) if token in ends), len(ids))]
        left = [i for i in left if len(found[i]) == begun + PIECE and found[i][-1] not in ends and not stops(found[i])]
    return found


@torch.inference_mode()
def _greedy(model: Any, prompts: Sequence[list[int]], lengths: Sequence[int], ends: Collection[int]) -> list[list[int]]:
    """One batch. All begin with as many ids as the shortest prompt has; of a longer one the rest is fed id by id.

    So nothing is padded, which a model without attention would read as text.
    """
    device = model.device
    begin, stop = torch.tensor([(len(ids), len(ids) + more) for ids, more in zip(prompts, lengths, strict=True)]).T
    begin, stop = begin.to(device), stop.to(device)
    given = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in prompts], batch_first=True).to(device)
    stops = torch.tensor(sorted(ends), dtype=torch.long, device=device)
    steps = Steps(model, carried(model))
    place = int(begin.min())
    texts = [given[:, :place]]
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    while not bool((ended | (stop <= place)).all()):
        best = steps.feed(texts[-1]).argmax(-1)
        chosen = begin <= place
        ended |= chosen & torch.isin(best, stops)
        texts.append((best if bool(chosen.all()) else torch.where(chosen, best, given[:, place]))[:, None])
        place += 1
    rows: list[list[int]] = torch.cat(texts, 1).tolist()
    return [row[len(ids) : len(ids) + more] for row, ids, more in zip(rows, prompts, lengths, strict=True)]
