"""Probes of a passage that take more than one pass: other positions, near-verbatim sampling, the suffix's prior.

Each takes a model and rows of a pack (see ``documents.pack_rows``) and returns the figures of each row, in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from ...tasks.recitation import Sampling, longest_run
from .forward import PrefixSuffix, chunks, teacher_forced
from .stepping import Steps, carried

Row = Mapping[str, Any]
Figures = dict[str, float]
SHIFT = 20
"""t of :func:`position`."""
BEAMS, DISTANCE = 20, 5
"""Beams a passage, and the largest edit distance that counts, of :func:`near_verbatim`."""


class ProbedModel(Protocol):
    """What a probe needs of the lm-eval model (see ``adapter.MemsplitLM``)."""

    @property
    def model(self) -> Any:
        """The causal language model."""

    @property
    def batch(self) -> int:
        """Sequences a forward pass."""

    @property
    def start(self) -> list[int]:
        """The ids before every text."""

    def passage(self, row: Row) -> PrefixSuffix:
        """A row's prefix, after ``start``, and suffix."""

    def ends(self) -> set[int]:
        """The ids that end a text."""


def position(lm: ProbedModel, rows: Sequence[Row]) -> list[Figures]:
    """Position stress (arXiv 2510.24256): is the passage recited when it is cut at other places?

    Prompts: the prefix x_1 … x_n with i more tokens of the suffix, i = 0 to t; and its last i tokens alone, i = t to
    n - 1; t = 20. ``longest_prefix``: tokens that greedy decoding then gets right before its first mistake, the most
    over all prompts, over the suffix's length. ``position_strict``: 1 where some prompt brings the suffix whole.
    """
    passages = [lm.passage(row) for row in rows]
    begin = len(lm.start)
    lengths = [len(prefix) - begin for prefix, _ in passages]
    cuts = [(i, last) for i, n in enumerate(lengths) for last in range(min(SHIFT, n), n)]
    shifted = [(lm.start + passages[i][0][-last:], passages[i][1]) for i, last in cuts]
    best = [0] * len(passages)
    known = [True] * len(passages)
    for i, stats in enumerate(teacher_forced(lm.model, passages, batch=lm.batch, suffix_alone=True)):
        known[i] &= stats.known
        rank = stats.suffix(stats.rank)
        best[i] = max(longest_run(rank[more:]) for more in range(min(SHIFT, len(rank) - 1) + 1))
    whole = [0] * len(passages)
    for (i, _), stats in zip(cuts, teacher_forced(lm.model, shifted, batch=lm.batch, suffix_alone=True), strict=True):
        known[i] &= stats.known
        run = longest_run(stats.suffix(stats.rank))
        best[i] = max(best[i], run)
        whole[i] |= run == len(passages[i][1])
    return [
        {"longest_prefix": best[i] / len(suffix), "position_strict": float(whole[i] or best[i] == len(suffix))}
        if known[i]
        else {"longest_prefix": math.nan, "position_strict": math.nan}
        for i, (_, suffix) in enumerate(passages)
    ]


def prior(lm: ProbedModel, rows: Sequence[Row]) -> list[Figures]:
    """How much likelier the suffix is after its own prefix than after other prefixes (arXiv 2602.18733).

    The prior is the mean probability of the suffix after each of the row's ``others``, prefixes of passages that were
    never trained on. ``prior_log_ratio``: log of the suffix's probability after its own prefix over its prior, in nats
    a token. ``p_z_beyond_prior``: its probability of being sampled after its own prefix less that prior, 0 at least.
    """
    passages = [lm.passage(row) for row in rows]
    others = [[lm.passage(other)[0] for other in row["others"]] for row in rows]
    mixed = [(prefix, passages[i][1]) for i, prefixes in enumerate(others) for prefix in prefixes]
    stats = iter(teacher_forced(lm.model, [*passages, *mixed], batch=lm.batch, suffix_alone=True))
    own = [next(stats) for _ in passages]
    figures = []
    for i, (_, suffix) in enumerate(passages):
        after = [next(stats) for _ in others[i]]
        with np.errstate(invalid="ignore"):  # of a model that computes no numbers
            log_prior = np.logaddexp.reduce([s.suffix(s.log_p).sum() for s in after]) - math.log(len(after))
        q_prior = np.mean([math.exp(s.log_pz) for s in after])
        ratio = (own[i].suffix(own[i].log_p).sum() - log_prior) / len(suffix)
        beyond = np.maximum(0.0, math.exp(own[i].log_pz) - q_prior)  # nan, where it is made of one
        figures.append({"prior_log_ratio": float(ratio), "p_z_beyond_prior": float(beyond)})
    return figures


def near_verbatim(lm: ProbedModel, rows: Sequence[Row]) -> list[Figures]:
    """A lower bound of the probability that sampling emits the suffix or something near it (arXiv 2603.24917).

    ``near_verbatim``: the summed probability, under temperature and top-k, of the continuations of the suffix's length
    that a beam search found within ``DISTANCE`` edits (Levenshtein) of it. ``p_z`` is its part that is the suffix.
    """
    found: dict[int, float] = {}
    passages = [lm.passage(row) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: tuple(-len(ids) for ids in passages[i]))
    alike: dict[tuple[int, int], list[int]] = {}
    for i in order:
        alike.setdefault((len(passages[i][0]), len(passages[i][1])), []).append(i)
    for group in alike.values():
        for chunk in chunks(group, max(1, lm.batch * 2 // BEAMS)):
            bounds = beam_bound(lm.model, [passages[i] for i in chunk], BEAMS, DISTANCE, Sampling(), lm.ends())
            found.update(zip(chunk, bounds, strict=True))
    return [{"near_verbatim": found[i]} for i in range(len(rows))]


@torch.inference_mode()
def beam_bound(
    model: Any,
    passages: Sequence[PrefixSuffix],
    beams: int,
    distance: int,
    sampling: Sampling,
    ends: Iterable[int] = (),
) -> list[float]:
    """The summed sampling probability of the continuations that a distance-constrained beam search finds, by passage.

    Every step keeps the ``beams`` likeliest partial continuations that can still end within ``distance`` edits of the
    suffix, and the suffix itself among them, so that the bound is never below p_z. It is nan where a step
    computes no number.

    Args:
        model: a causal language model.
        passages: alike in the lengths of their prefixes and of their suffixes.
        beams: how many partial continuations are kept a passage.
        distance: the most edits.
        sampling: the distribution that is sampled from.
        ends: tokens at which sampling stops: what goes on after one, where the suffix has none, is never emitted.
    """
    device = model.device
    gold = torch.tensor([suffix for _, suffix in passages], device=device)
    n, length = gold.shape
    ids = torch.tensor([prefix for prefix, _ in passages], device=device)
    steps = Steps(model, carried(model))
    log_q = torch.zeros(n, 1, device=device)
    stops = torch.tensor(sorted(ends), dtype=torch.long, device=device)
    edits = torch.arange(length + 1, device=device).expand(n, 1, -1)  # edit distance to each prefix of the suffix
    known = torch.ones(n, dtype=torch.bool, device=device)
    is_gold = torch.ones(n, 1, dtype=torch.bool, device=device)
    for step in range(length):
        logits = steps.feed(ids)
        width = log_q.shape[1]
        drawn, tokens = _drawn(logits, sampling)
        drawn, tokens = drawn.view(n, width, -1), tokens.view(n, width, -1)
        known &= ~drawn.isnan().flatten(1).any(1)
        total = log_q[..., None] + drawn
        new_edits = _next_edits(edits[:, :, None], tokens[..., None] != gold[:, None, None])
        ahead = (torch.arange(length + 1, device=device) - (step + 1)).abs()
        possible = (new_edits + ahead).amin(-1) <= distance
        possible &= ~torch.isin(tokens, stops) | (tokens == gold[:, step, None, None])
        total = total.masked_fill(~possible, -torch.inf).flatten(1)
        golden = (is_gold[..., None] & (tokens == gold[:, step, None, None])).flatten(1)
        first = torch.where(golden, torch.inf, total)  # the suffix itself is kept, whatever its rank
        chosen = first.topk(min(beams, first.shape[1]), dim=1).indices
        log_q, is_gold = total.gather(1, chosen), golden.gather(1, chosen)
        edits = new_edits.flatten(1, 2).gather(1, chosen[..., None].expand(-1, -1, length + 1))
        ids = tokens.flatten(1).gather(1, chosen).view(-1, 1)
        parents = chosen // drawn.shape[2] + torch.arange(n, device=device)[:, None] * width
        steps.select(parents.flatten())
    near = edits[..., -1] <= distance
    log_bounds = log_q.masked_fill(~near, -torch.inf).masked_fill(~known[:, None], torch.nan)
    bounds: list[float] = log_bounds.cpu().double().logsumexp(1).exp().tolist()
    return bounds


def _drawn(logits: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities [b, k] of the tokens that sampling may draw, and the tokens."""
    k = min(sampling.top_k or logits.shape[1], logits.shape[1])
    values, tokens = (logits.float() / sampling.temperature).topk(k, dim=1)
    return values.log_softmax(1), tokens


def _next_edits(edits: torch.Tensor, differs: torch.Tensor) -> torch.Tensor:
    """The next row [..., L + 1] of the edit distance's table; whether the new token differs from each: [..., L]."""
    places = torch.arange(edits.shape[-1], device=edits.device)
    kept = torch.minimum(edits[..., 1:] + 1, edits[..., :-1] + differs)
    row = torch.cat([(edits[..., :1] + 1).expand(*kept.shape[:-1], 1), kept], -1)
    return (row - places).cummin(-1).values + places  # what insertions from the left leave of it


PROBES: dict[str, Callable[[ProbedModel, Sequence[Row]], list[Figures]]] = {
    "position": position,
    "prior": prior,
    "near_verbatim": near_verbatim,
}
