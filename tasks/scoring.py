"""Pure scores of one item, and how perplexity is put together.

Recitation follows arXiv 2510.24256: the continuation is decoded greedily from the prefix's ids and compared with the
suffix's, on token ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from . import packs

LOOSE = 0.75


def recitation_scores(found: Sequence[int], gold: Sequence[int]) -> dict[str, float]:
    """Scores of a continuation against the suffix.

    Args:
        found: ids decoded greedily, at most as many as ``gold``; fewer where the model ended its text.
        gold: the suffix's ids.

    Returns:
        ``strict``: 1 where all ids are equal, else 0. ``levenshtein``: edit distance (insert, delete, substitute) over
        the suffix's length; 0 is recited word for word, 1 shares nothing. ``loose``: 1 where
        ``1 - levenshtein >= 0.75``, else 0.
    """
    distance = Levenshtein.distance(found, gold) / len(gold)
    return {
        "strict": float(list(found) == list(gold)),
        "loose": float(1 - distance >= LOOSE),
        "levenshtein": distance,
    }


def recitation(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's ``process_results`` of a recitation item.

    A continuation may carry its ``ids``; bare text is turned back into ids by the pack's tokenizer.
    """
    text = results[0]
    found = getattr(text, "ids", None)
    if found is None:
        found = packs.find(doc["pack"]).tokenizer.encode(text, add_special_tokens=False).ids
    return recitation_scores(found[: len(doc["suffix_ids"])], doc["suffix_ids"])


def strict(doc: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """``strict`` of an item of which only that is asked: whether each id of the suffix is the model's own choice."""
    return {"strict": float(results[0][1])}


def perplexity(doc: dict[str, Any], results: Sequence[float]) -> dict[str, tuple[float, int]]:
    """An item's (nats, tokens): minus its log-likelihood given the start token, and the number of its ids."""
    return {"perplexity": (-results[0], len(doc["ids"]))}


def exp_mean(items: Iterable[tuple[float, int]]) -> float:
    """exp(Σ nats / Σ tokens): every token weighs the same, whichever item or batch it was in."""
    items = list(items)
    return math.exp(math.fsum(nats for nats, _ in items) / sum(tokens for _, tokens in items))
