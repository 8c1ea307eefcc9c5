"""Pure scores of one item, and how perplexity is put together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from . import packs


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
    """Σ sums / Σ tokens: every token weighs the same, whichever item or batch it was in."""
    items = list(items)
    return math.fsum(total for total, _ in items) / sum(tokens for _, tokens in items)


def exp_mean(items: Iterable[tuple[float, int]]) -> float:
    """Exp of :func:`token_mean`."""
    return math.exp(token_mean(items))
