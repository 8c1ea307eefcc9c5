"""Teacher-forced passes: what a model says of texts that it is shown whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from ...model_edits.apply import applied
from ...tasks.recitation import Reading, Sampling

T = TypeVar("T")
Passage = tuple[list[int], list[int]]
"""(prefix ids, suffix ids)."""
TOP = 10
"""How many tokens of a ranking nDCG looks at."""
_AT_ONCE = 1 << 25
"""Logits that are looked at together; bounds the memory that the figures take beside the model's own."""


class Likelihood(float):
    """A text's summed log-likelihood in nats, which carries two sums over its tokens of edited against base model.

    Attributes:
        tokens: how many tokens it is of.
        kl: KL(base ‖ edited) of the next-token distributions, nats.
        ndcg: nDCG@10: the base's ten likeliest tokens are worth 10 down to 1, all others 0; the edited model's ten
            likeliest earn their worth over log2(1 + place), divided by what the base's own ten earn. The source work
            (arXiv 2510.24256) compares rankings so, but does not publish its gains.
    """

    tokens: int
    kl: float
    ndcg: float

    def __new__(cls, nats: float, tokens: int, kl: float, ndcg: float) -> Likelihood:
        """A number with three more."""
        self = super().__new__(cls, nats)
        self.tokens, self.kl, self.ndcg = tokens, kl, ndcg
        return self


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Runs of ``size`` items."""
    for i in range(0, len(items), size):
        yield items[i : i + size]


@torch.inference_mode()
def read(model: Any, passages: Sequence[Passage], *, batch: int, sampling: Sampling | None = None) -> list[Reading]:
    """One pass over each passage.

    Args:
        model: a causal language model.
        passages: of any lengths, each prefix at least one token long.
        batch: sequences a pass.
        sampling: of ``log_q``.
    """
    readings: dict[int, Reading] = {}
    rows = [prefix + suffix for prefix, suffix in passages]
    for chunk, ids in batches(rows, batch, model.device):
        for i, logits in zip(chunk, model(ids, use_cache=False).logits, strict=True):
            readings[i] = _reading(logits[: len(rows[i]) - 1], rows[i], len(passages[i][0]), sampling or Sampling())
    return [readings[i] for i in range(len(passages))]


def batches(
    rows: Sequence[list[int]], batch: int, device: torch.device
) -> Iterator[tuple[Sequence[int], torch.Tensor]]:
    """Indices of rows alike in length, with their ids [b, longest], padded on the right, where no token sees it."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    for chunk in chunks(order, batch):
        ids = [torch.tensor(rows[i]) for i in chunk]
        yield chunk, torch.nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)


def _reading(logits: torch.Tensor, row: list[int], start: int, sampling: Sampling) -> Reading:
    """The reading of one passage from its logits [N - 1, vocabulary]."""
    gold = torch.tensor(row[1:], device=logits.device)
    size = max(1, _AT_ONCE // logits.shape[1])
    parts = [_figures(*pair, sampling) for pair in zip(torch.split(logits, size), torch.split(gold, size), strict=True)]
    columns = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
    names = ("greedy", "rank", "log_p", "log_q", "mean", "deviation")
    wide = [(column.double() if column.is_floating_point() else column).numpy() for column in columns]
    return Reading(start=start, ids=np.array(row), **dict(zip(names, wide, strict=True)))


def _figures(logits: torch.Tensor, gold: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, ...]:
    """greedy, rank, log_p, log_q, mean and deviation, each [n], of logits [n, vocabulary] and gold ids [n]."""
    logits = logits.float()
    of_gold = logits.gather(1, gold[:, None])
    lower_id = torch.arange(logits.shape[1], device=logits.device) < gold[:, None]
    rank = ((logits > of_gold) | ((logits == of_gold) & lower_id)).sum(1)
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    known = log_p.clamp(min=torch.finfo(log_p.dtype).min)  # 0 · -inf is 0 here
    mean = (p * known).sum(1)
    variance = (p * (known - mean[:, None]).square()).sum(1)
    sampled = logits / sampling.temperature
    drawn = sampled if sampling.top_k == 0 else sampled.topk(min(sampling.top_k, logits.shape[1]), dim=1).values
    log_q = sampled.gather(1, gold[:, None])[:, 0] - drawn.logsumexp(1)
    if sampling.top_k:
        log_q[rank >= sampling.top_k] = -torch.inf
    return logits.argmax(1), rank, log_p.gather(1, gold[:, None])[:, 0], log_q, mean, variance.sqrt()


@torch.inference_mode()
def likelihoods(
    model: Any, texts: Sequence[list[int]], *, batch: int, base: Mapping[str, torch.Tensor]
) -> list[Likelihood]:
    """The log-likelihood of each text's tokens after its first, and how far the next-token distribution has moved.

    Args:
        model: a causal language model under an edit.
        texts: at least two ids each.
        batch: sequences a pass.
        base: the weights that the edit took the place of; where there are none, nothing has moved.
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
            for at in range(0, n, size):
                part = slice(at, min(at + size, n))
                log_p = edited[row, part].float().log_softmax(1)
                nats = log_p.gather(1, ids[row, part.start + 1 : part.stop + 1, None])
                moved = _moved(log_p, before[row, part].float().log_softmax(1)) if base else (nats * 0, nats * 0 + 1)
                sums += [float(column.cpu().double().sum()) for column in (nats, *moved)]
            found[i] = Likelihood(sums[0], n, sums[1], sums[2])
    return [found[i] for i in range(len(texts))]


def _moved(edited: torch.Tensor, base: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(base ‖ edited) and nDCG@10, each [n], of log-probabilities [n, vocabulary]."""
    kl = (base.exp() * (base - edited)).nan_to_num(nan=0.0).sum(1)  # 0 · (-inf - -inf) is 0
    k = min(TOP, base.shape[1])
    worth = torch.arange(k, 0, -1.0, device=base.device)
    by_token = torch.zeros_like(base).scatter_(1, base.topk(k, dim=1).indices, worth.expand(len(base), k))
    discount = 1 / torch.log2(torch.arange(2.0, k + 2, device=base.device))
    gained = (by_token.gather(1, edited.topk(k, dim=1).indices) * discount).sum(1)
    return kl, gained / (worth * discount).sum()
