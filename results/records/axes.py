"""The axes and metrics of the built-in suites that statistics and tables treat by name.

The axis of each task and the score of guessing are read from the record.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

from .schema import Key

RECITATION, TWINS, QUOTES = "recitation", "twins", "quotes"
PASSAGES = (RECITATION, TWINS, QUOTES)
"""Axes whose items are passages that a model may continue word for word."""
LOGIC, FLUENCY = "logic", "fluency"
STRICT: Key = (RECITATION, "strict")
"""The metric that is to fall: the share of memorized passages that are continued word for word."""
PERPLEXITY: Key = (FLUENCY, "perplexity")
LOG_PROB = "log_prob"
"""The metric of passages that code lengths are made of: the mean log-probability of a suffix's tokens, nats."""
REASONING = (LOGIC, "arithmetic", "facts_open")
"""Axes whose mean share kept is ``reasoning_kept``."""
KNOWLEDGE = "facts_closed"
"""The axis whose share kept is ``knowledge_kept``."""
KEPT = (LOGIC, "arithmetic", "facts_closed", "facts_open")
"""Axes for whose ``acc`` a summary metric says what is kept."""
FAMILIES = ("facts_closed", "facts_open", "arithmetic", LOGIC, "commonsense")
"""Axes whose ``acc`` is the mean over their tasks, where no task has an ``acc`` of its own."""
DISTANCES = ("kl", "ndcg")
"""Metrics that are distances from the base itself: any edit moves them one way, so that a test says nothing."""
SIGNALS = ("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_pp", "mia_ratio")
"""Membership signals: metrics that may separate memorized passages from twins; higher is likelier seen."""
UNBOUNDED = (LOG_PROB, "median_rank", "prior_log_ratio", *SIGNALS)
"""Metrics of passages that are not between 0 and 1."""
MINOR = ("matched_prefix", "rouge_l", "bleu", LOG_PROB, "median_rank", "reciprocal_rank", *SIGNALS)
"""Metrics of passages that a table leaves out by default."""
_HEADLINES = ("acc", "strict", "perplexity")


def headline(metrics: Iterable[str]) -> str:
    """The metric that stands for an axis: ``acc``, ``strict`` or ``perplexity`` where it has one, else its first."""
    known = list(metrics)
    return next((name for name in _HEADLINES if name in known), known[0])


def is_share(key: Key, chance: Container[Key]) -> bool:
    """Whether a metric is a mean of values from 0 to 1: one with a score of guessing, or a bounded one of passages."""
    return key in chance or (key[0] in PASSAGES and key[1] not in UNBOUNDED)
