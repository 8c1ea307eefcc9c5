"""Pure scores of one item, and how perplexity is put together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from . import packs


def perplexity(doc: dict[str, Any], results: Sequence[float]) -> dict[str, tuple[float, int]]:
    """An item's (sum, tokens) of each figure of held-out text.

    ``perplexity``: minus its log-likelihood given the start token, nats. ``kl`` and ``ndcg``: of the next-token
    distribution against the base model's, where the likelihood carries them (see ``harness.reading.Likelihood``).

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
