"""Teacher-forced forward passes: statistics of every token of texts that the model is given whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from ...model_edits.apply import applied
from ...tasks.recitation import Sampling, TokenStats
from ...tasks.scoring import Likelihood

T = TypeVar("T")
PrefixSuffix = tuple[list[int], list[int]]
"""The ids of a passage's prefix and suffix."""
TOP = 10
"""The k of nDCG@k."""
_AT_ONCE = 1 << 25
"""Most logits of which statistics are computed at once, to bound the memory that they take beside the model's own."""


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, ``size`` at a time."""
    for i in range(0, len(items), size):
        yield items[i : i + size]


@torch.inference_mode()
def teacher_forced(
    model: Any, passages: Sequence[PrefixSuffix], *, batch: int, sampling: Sampling | None = None
) -> list[TokenStats]:
    """The statistics of each passage's tokens, from one pass over it.

    Args:
        model: a causal language model.
        passages: of any lengths, each prefix at least one token long.
        batch: sequences a forward pass.
        sampling: how a continuation would be sampled; decides ``log_q``.
    """
    stats: dict[int, TokenStats] = {}
    rows = [prefix + suffix for prefix, suffix in passages]
    for chunk, ids in batches(rows, batch, model.device):
        for i, logits in zip(chunk, model(ids, use_cache=False).logits, strict=True):
            stats[i] = _stats(logits[: len(rows[i]) - 1], rows[i], len(passages[i][0]), sampling or Sampling())
    return [stats[i] for i in range(len(passages))]


def batches(
    rows: Sequence[list[int]], batch: int, device: torch.device
) -> Iterator[tuple[Sequence[int], torch.Tensor]]:
    """Batches of rows of similar length: their indices, and their ids [b, longest], padded on the right.

    No token attends to padding on its right.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    for chunk in chunks(order, batch):
        ids = [torch.tensor(rows[i]) for i in chunk]
        yield chunk, torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)


def _stats(logits: torch.Tensor, row: list[int], start: int, sampling: Sampling) -> TokenStats:
    """The statistics of one passage from its logits [N - 1, vocabulary]."""
    gold = torch.tensor(row[1:], device=logits.device)
    size = max(1, _AT_ONCE // logits.shape[1])
    parts = [_figures(*pair, sampling) for pair in zip(torch.split(logits, size), torch.split(gold, size), strict=True)]
    columns = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
    names = ("greedy", "rank", "log_p", "log_q", "mean", "deviation")
    wide = [(column.double() if column.is_floating_point() else column).numpy() for column in columns]
    return TokenStats(start=start, ids=np.array(row), **dict(zip(names, wide, strict=True)))


def _figures(logits: torch.Tensor, gold: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, ...]:
    """greedy, rank, log_p, log_q, mean and deviation, each [n], of logits [n, vocabulary] and gold ids [n].

    Where a logit is nan or plus infinity, the gold token ranks behind every token, and its other figures are nan.
    """
    logits = logits.float()
    of_gold = logits.gather(1, gold[:, None])
    lower_id = torch.arange(logits.shape[1], device=logits.device) < gold[:, None]
    rank = ((logits > of_gold) | ((logits == of_gold) & lower_id)).sum(1)
    log_p = logits.log_softmax(1)
    unknown = log_p.isnan().any(1)
    rank[unknown] = logits.shape[1]
    p = log_p.exp()
    known = log_p.clamp(min=torch.finfo(log_p.dtype).min)  # 0 · -inf is 0 here
    mean = (p * known).sum(1)
    variance = (p * (known - mean[:, None]).square()).sum(1)
    sampled = logits / sampling.temperature
    drawn = sampled if sampling.top_k == 0 else sampled.topk(min(sampling.top_k, logits.shape[1]), dim=1).values
    log_q = sampled.gather(1, gold[:, None])[:, 0] - drawn.logsumexp(1)
    if sampling.top_k:
        log_q[rank >= sampling.top_k] = -torch.inf
    log_q[unknown] = torch.nan
    return logits.argmax(1), rank, log_p.gather(1, gold[:, None])[:, 0], log_q, mean, variance.sqrt()


@torch.inference_mode()
def likelihoods(
    model: Any, texts: Sequence[list[int]], *, batch: int, base: Mapping[str, torch.Tensor], given: int = 1
) -> list[Likelihood]:
    """The likelihood of each text's tokens after those that are ``given``, and its distance from the base model.

    Args:
        model: a causal language model, perhaps edited.
        texts: more ids than are given, each.
        batch: sequences a forward pass.
        base: the base model's weights that the edit has replaced; empty for the base model, whose KL is 0.
        given: how many ids each text begins with that are not scored, at least one.
    """
    found: dict[int, Likelihood] = {}
    for chunk, ids in batches(texts, batch, model.device):
        edited = model(ids, use_cache=False).logits
        before = edited
        if base:
            with applied(model, base):
                before = model(ids, use_cache=False).logits
        size = max(1, _AT_ONCE // edited.shape[2])
        for row, i in enumerate(chunk):
            n = len(texts[i]) - 1
            sums = np.zeros(3)
            for at in range(given - 1, n, size):
                part = slice(at, min(at + size, n))
                log_p = edited[row, part].float().log_softmax(1)
                nats = log_p.gather(1, ids[row, part.start + 1 : part.stop + 1, None])
                moved = _moved(log_p, before[row, part].float().log_softmax(1)) if base else (nats * 0, nats * 0 + 1)
                sums += [float(column.cpu().double().sum()) for column in (nats, *moved)]
            found[i] = Likelihood(nats=sums[0], tokens=n - given + 1, kl=sums[1], ndcg=sums[2])
    return [found[i] for i in range(len(texts))]


def _moved(edited: torch.Tensor, base: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(base ‖ edited) and nDCG@10, each [n], of log-probabilities [n, vocabulary]; nan where a row has one."""
    impossible = base == -torch.inf  # 0 · (-inf - x) is 0
    kl = torch.where(impossible, 0.0, base.exp() * (base - edited)).sum(1)
    k = min(TOP, base.shape[1])
    worth = torch.arange(k, 0, -1.0, device=base.device)
    by_token = torch.zeros_like(base).scatter_(1, base.topk(k, dim=1).indices, worth.expand(len(base), k))
    discount = 1 / torch.log2(torch.arange(2.0, k + 2, device=base.device))
    gained = (by_token.gather(1, edited.topk(k, dim=1).indices) * discount).sum(1)
    unordered = (base.isnan() | edited.isnan()).any(1)
    return kl, (gained / (worth * discount).sum()).masked_fill(unordered, torch.nan)
