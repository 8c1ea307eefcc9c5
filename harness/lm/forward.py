"""Teacher-forced forward passes: statistics of every token of texts that the model is given whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from ...errors import UserError
from ...model_edits.apply import applied
from ...model_edits.architecture.logits import batched, logits_at
from ...tasks.recitation import Sampling, TokenStats
from ...tasks.scoring import Likelihood

T = TypeVar("T")
PrefixSuffix = tuple[list[int], list[int]]
"""The ids of a passage's prefix and suffix."""
TOP = 10
"""The k of nDCG@k."""
_IMPOSSIBLE = -1e4
"""A log-probability whose probability is 0 in float32; what is impossible has minus infinity, which times 0 is nan."""


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, ``size`` at a time."""
    for i in range(0, len(items), size):
        yield items[i : i + size]


@torch.inference_mode()
def teacher_forced(
    model: Any,
    passages: Sequence[PrefixSuffix],
    *,
    batch: int,
    sampling: Sampling | None = None,
    suffix_alone: bool = False,
) -> list[TokenStats]:
    """The statistics of each passage's tokens, from one pass over it.

    Args:
        model: a causal language model.
        passages: of any lengths, each prefix at least one token long.
        batch: sequences a forward pass.
        sampling: how a continuation would be sampled; decides ``log_q``.
        suffix_alone: statistics of the suffix's tokens only, as of a passage whose prefix is the last token of its own.
    """
    stats: dict[int, TokenStats] = {}
    rows = [prefix + suffix for prefix, suffix in passages]
    starts = [len(prefix) for prefix, _ in passages]
    firsts = [start - 1 if suffix_alone else 0 for start in starts]
    for chunk, logits in chosen_logits(model, rows, firsts, batch):
        for i, of_row in zip(chunk, logits, strict=True):
            first = firsts[i]
            stats[i] = _stats(of_row, rows[i][first:], starts[i] - first, sampling or Sampling())
    return [stats[i] for i in range(len(passages))]


def chosen_logits(
    model: Any, rows: Sequence[list[int]], firsts: Sequence[int], batch: int
) -> Iterator[tuple[Sequence[int], Sequence[torch.Tensor]]]:
    """The logits that predict each row's tokens after its first given ones, in batches of rows of similar length.

    Args:
        model: a causal language model.
        rows: token ids.
        firsts: for each row, the first position whose logits are wanted; those of its last token never are.
        batch: the most sequences a forward pass.

    Yields:
        Indices of rows, and of each the logits [its length - 1 - first, vocabulary].
    """
    for chunk in batches(model, rows, firsts, batch):
        ids, chosen = padded([rows[i] for i in chunk], [firsts[i] for i in chunk])
        logits = logits_at(model, ids.to(model.device), chosen)
        yield chunk, torch.split(logits, chosen.sum(1).tolist())


def batches(model: Any, rows: Sequence[list[int]], firsts: Sequence[int], batch: int) -> Iterator[Sequence[int]]:
    """Indices of rows of similar length, ``batch`` at a time, or fewer where a pass would make too many logits.

    Args:
        model: a causal language model.
        rows: token ids.
        firsts: as in :func:`chosen_logits`.
        batch: the most sequences a forward pass.
    """

    def size(i: int) -> tuple[int, int]:
        return len(rows[i]) - 1, len(rows[i]) - 1 - firsts[i]

    return batched(model, sorted(range(len(rows)), key=lambda i: -len(rows[i])), batch, size)


def padded(rows: Sequence[list[int]], firsts: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids [b, longest - 1] that a model reads, and which positions are wanted (see :func:`chosen_logits`).

    A row's last token is left out, for nothing is predicted from it. Rows are padded on the right, where no token
    attends to padding.
    """
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row[:-1]) for row in rows], batch_first=True)
    place = torch.arange(ids.shape[1])
    first, end = torch.tensor(firsts)[:, None], torch.tensor([len(row) - 1 for row in rows])[:, None]
    return ids, (place >= first) & (place < end)


def _stats(logits: torch.Tensor, row: list[int], start: int, sampling: Sampling) -> TokenStats:
    """The statistics of one passage from its logits [N - 1, vocabulary]."""
    gold = torch.tensor(row[1:], device=logits.device)
    size = _at_once(logits)
    parts = [_figures(*pair, sampling) for pair in zip(torch.split(logits, size), torch.split(gold, size), strict=True)]
    columns = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
    names = ("greedy", "rank", "log_p", "log_q", "mean", "deviation")
    wide = [(column.double() if column.is_floating_point() else column).numpy() for column in columns]
    return TokenStats(start=start, ids=np.array(row), **dict(zip(names, wide, strict=True)))


def _at_once(logits: torch.Tensor) -> int:
    """Positions of which statistics are computed at once: on a CPU as a cache holds, else to bound the memory."""
    return max(1, (1 << 21 if logits.device.type == "cpu" else 1 << 25) // logits.shape[1])


def _figures(logits: torch.Tensor, gold: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, ...]:
    """greedy, rank, log_p, log_q, mean and deviation, each [n], of logits [n, vocabulary] and gold ids [n].

    Where a logit is nan or plus infinity, the gold token ranks behind every token, and its other figures are nan.
    """
    logits = logits.float()
    of_gold = logits.gather(1, gold[:, None])
    preferred = logits == of_gold
    preferred &= torch.arange(logits.shape[1], device=logits.device) < gold[:, None]
    preferred |= logits > of_gold
    rank = preferred.sum(1, dtype=torch.int32)
    log_z = logits.logsumexp(1, keepdim=True)
    unknown = ~log_z[:, 0].isfinite()
    rank[unknown] = logits.shape[1]
    log_p = (logits - log_z).clamp_(min=_IMPOSSIBLE)
    p = log_p.exp()
    mean = torch.linalg.vecdot(p, log_p)
    variance = torch.linalg.vecdot(p, log_p.sub_(mean[:, None]).square_())
    sampled = logits if sampling.temperature == 1 else logits / sampling.temperature
    drawn = sampled if sampling.top_k == 0 else sampled.topk(min(sampling.top_k, logits.shape[1]), dim=1).values
    log_q = sampled.gather(1, gold[:, None])[:, 0] - drawn.logsumexp(1)
    if sampling.top_k:
        log_q[rank >= sampling.top_k] = -torch.inf
    figures = (of_gold - log_z)[:, 0], log_q, mean, variance.sqrt()
    return logits.argmax(1), rank, *(figure.masked_fill_(unknown, torch.nan) for figure in figures)


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
    firsts = [given - 1] * len(texts)
    for chunk in batches(model, texts, firsts, batch):
        ids, chosen = padded([texts[i] for i in chunk], [firsts[i] for i in chunk])
        ids = ids.to(model.device)
        edited = logits_at(model, ids, chosen)
        before = edited
        if base:
            with applied(model, base):
                before = logits_at(model, ids, chosen)
        counts, size = chosen.sum(1).tolist(), _at_once(edited)
        of_rows = (torch.split(logits, counts) for logits in (edited, before))
        for i, of_edited, of_base in zip(chunk, *of_rows, strict=True):
            gold = torch.tensor(texts[i][given:], device=edited.device)[:, None]
            parts = (torch.split(column, size) for column in (of_edited, of_base, gold))
            sums = np.zeros(3)
            for of_edit, of_model, gold_n1 in zip(*parts, strict=True):
                log_p = of_edit.float().log_softmax(1)
                nats = log_p.gather(1, gold_n1)
                moved = _moved(log_p, of_model.float().log_softmax(1)) if base else (nats * 0, nats * 0 + 1)
                sums += [float(column.cpu().double().sum()) for column in (nats, *moved)]
            found[i] = Likelihood(nats=sums[0], tokens=len(gold), kl=sums[1], ndcg=sums[2])
    return [found[i] for i in range(len(texts))]


@torch.inference_mode()
def answers(model: Any, asked: Sequence[PrefixSuffix], *, batch: int, longest: int) -> list[tuple[float, bool]]:
    """The log-probability of each answer after its prompt, nats, and whether it is what greedy decoding gives.

    Answers that differ in their last token alone, after one prompt, are read in one sequence.

    Args:
        model: a causal language model.
        asked: the ids of prompts and answers, of at least one token each.
        batch: sequences a forward pass.
        longest: tokens that the model can read; of a longer sequence the first are cut off.

    Raises:
        UserError: an answer alone is longer.
    """
    if over := [len(answer) for _, answer in asked if len(answer) > longest]:
        raise UserError(f"an answer has {max(over)} tokens: expected {longest} at most, the context of the model")
    readers: dict[tuple[int, ...], list[int]] = {}
    for i, (prompt, answer) in enumerate(asked):
        readers.setdefault(tuple((prompt + answer)[:-1][-longest:]), []).append(i)
    rows = [[*read, 0] for read in readers]
    of_row = list(readers.values())
    firsts = [len(row) - 1 - max(len(asked[i][1]) for i in some) for row, some in zip(rows, of_row, strict=True)]
    found: dict[int, tuple[float, bool]] = {}
    for chunk, logits in chosen_logits(model, rows, firsts, batch):
        for row, of_one in zip(chunk, logits, strict=True):
            log_p, best = of_one.float().log_softmax(1), of_one.argmax(1)
            for i in of_row[row]:
                gold = torch.tensor(asked[i][1], device=log_p.device)
                nats = log_p[-len(gold) :].gather(1, gold[:, None]).sum()
                found[i] = float(nats), bool((best[-len(gold) :] == gold).all())
    return [found[i] for i in range(len(asked))]


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
