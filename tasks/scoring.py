"""Pure scores of one item, and how perplexity is put together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import packs
from .measured import take


def accepted(doc: dict[str, Any]) -> list[str]:
    """The answers of a question that count as right: its ``answer`` and the ``aliases``, if it has any."""
    return [doc["answer"], *(doc.get("aliases") or [])]


def exact(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """``acc``: 1 where one of the accepted answers is the model's own greedy continuation, else 0.

    An answer's end is not asked for: it is also given by a continuation that goes on with further tokens.
    """
    return {"acc": float(any(greedy for _, greedy in results))}


def told_or_known(doc: dict[str, Any]) -> list[str]:
    """The answers of a question whose context is false: the context's (:func:`accepted`), then those ``recalled``."""
    return [*accepted(doc), *doc["recalled"]]


def counterfactual(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """``read``: 1 where what the context says is the greedy continuation. ``recalled``: 1 where the truth is it."""
    greedy = [is_greedy for _, is_greedy in results]
    told = len(accepted(doc))
    return {"read": float(any(greedy[:told])), "recalled": float(any(greedy[told:]))}


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """How likely a model finds a text, and how far its next-token distributions are from the base model's.

    Attributes:
        nats: the text's log-likelihood, summed over its tokens.
        tokens: how many those are.
        kl: KL(base ‖ edited) of the next-token distributions in nats, summed over the tokens.
        ndcg: nDCG@10, summed over the tokens. The base's ten likeliest tokens are worth 10 down to 1, all others 0; the
            edited model's ten likeliest earn their worth over log2(1 + place), divided by what the base's own ten earn.
            The source work (arXiv 2510.24256) compares rankings so, but does not publish its gains.
    """

    nats: float
    tokens: int
    kl: float
    ndcg: float


def perplexity(doc: dict[str, Any], results: Sequence[float]) -> dict[str, tuple[float, int]]:
    """lm-eval's hook for held-out text: the (sum, tokens) of each figure.

    ``perplexity``: minus the text's log-likelihood given the start token, nats. ``kl`` and ``ndcg``: see
    :class:`Likelihood`, which the model ``memsplit`` leaves in the document; of any other model there is neither.

    Raises:
        UserError: neither the model nor the document says how many tokens there are, and the pack has no tokenizer.
    """
    likelihood: Likelihood | None = take(doc)
    if likelihood is None:
        return {"perplexity": (-results[0], len(doc.get("ids") or packs.find(doc["pack"]).encode(doc["text"])))}
    n = likelihood.tokens
    return {"perplexity": (-likelihood.nats, n), "kl": (likelihood.kl, n), "ndcg": (likelihood.ndcg, n)}


def token_mean(items: Iterable[tuple[float, int]]) -> float:
    """Σ sums / Σ tokens: every token weighs the same, whichever item or batch it was in."""
    items = list(items)
    return math.fsum(total for total, _ in items) / sum(tokens for _, tokens in items)


def exp_mean(items: Iterable[tuple[float, int]]) -> float:
    """Exp of :func:`token_mean`."""
    return math.exp(token_mean(items))
