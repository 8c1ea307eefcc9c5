"""The metrics of one item of the tasks on facts and fluency, and how perplexity is aggregated over items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from . import packs


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


def perplexity(doc: dict[str, Any], results: Sequence[float]) -> dict[str, tuple[float, int]]:
    """An item's (sum, tokens) of each figure of held-out text.

    ``perplexity``: minus its log-likelihood given the start token, nats. ``kl`` and ``ndcg``: of the next-token
    distribution against the base model's, where the likelihood carries them (see ``lm.forward.Likelihood``).

    Raises:
        UserError: neither the likelihood nor the item says how many tokens there are, and the pack has no tokenizer.
    """
    found = results[0]
    tokens = getattr(found, "tokens", None) or len(doc.get("ids") or packs.find(doc["pack"]).encode(doc["text"]))
    moved = {name: (getattr(found, name), tokens) for name in ("kl", "ndcg") if hasattr(found, name)}
    return {"perplexity": (-float(found), tokens), **moved}


def token_mean(items: Iterable[tuple[float, int]]) -> float:
    """Σ sums / Σ tokens over (sum, tokens) pairs: every token has the same weight, whichever item or batch it is in."""
    items = list(items)
    return math.fsum(total for total, _ in items) / sum(tokens for _, tokens in items)


def exp_mean(items: Iterable[tuple[float, int]]) -> float:
    """Exp of :func:`token_mean`."""
    return math.exp(token_mean(items))
