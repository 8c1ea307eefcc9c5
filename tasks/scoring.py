"""The metrics of one item of the tasks on facts and fluency, and how perplexity is aggregated over items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import packs
from .measured import take


def accepted(doc: dict[str, Any]) -> list[str]:
    """The answers that count as correct: the question's ``answer`` and its ``aliases``, if it has any."""
    return [doc["answer"], *(doc.get("aliases") or [])]


def exact(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """``acc``: 1 if the model's greedy continuation of the question begins with an accepted answer, else 0.

    The continuation may go on with further tokens after the answer.

    Args:
        doc: the item.
        results: (log-likelihood in nats, whether it is the greedy continuation) of each accepted answer.
    """
    return {"acc": float(any(greedy for _, greedy in results))}


def told_or_known(doc: dict[str, Any]) -> list[str]:
    """The answers to a question whose context is false: those of the context (:func:`accepted`), then the true ones."""
    return [*accepted(doc), *doc["recalled"]]


def counterfactual(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Whether the greedy continuation is the context's false answer (``read``) or the true one (``recalled``): 1 or 0.

    Args:
        doc: the item.
        results: (log-likelihood in nats, whether it is the greedy continuation) of each of :func:`told_or_known`.
    """
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
    """Σ sums / Σ tokens over (sum, tokens) pairs: every token has the same weight, whichever item or batch it is in."""
    items = list(items)
    return math.fsum(total for total, _ in items) / sum(tokens for _, tokens in items)


def exp_mean(items: Iterable[tuple[float, int]]) -> float:
    """Exp of :func:`token_mean`."""
    return math.exp(token_mean(items))
