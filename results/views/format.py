"""Numbers as text, and what tables call the summary metrics: one way for terminal, pages and leaderboard."""

from __future__ import annotations

import math

from ..records.schema import Interval

TITLES = {
    "split_score": "split score",
    "erased": "erased",
    "stays_erased": "stays erased",
    "net_erased": "net erased",
    "reasoning_kept": "reasoning kept",
    "knowledge_kept": "knowledge kept",
    "fluency_kept": "fluency kept",
    "memory_base": "memory of the base, bits a token",
    "memory": "memory left, bits a token",
    "scar": "scar",
    "ks_shorter": "KS from unseen, shorter codes",
    "ks_longer": "KS from unseen, longer codes",
    "recitation_removed": "recitation removed",
    "logic_kept": "logic kept",
    "arithmetic_kept": "arithmetic kept",
    "facts_open_kept": "open facts kept",
    "facts_closed_kept": "closed facts kept",
    "perplexity_ratio": "perplexity ratio",
    "silence_score": "silence score (an earlier split score)",
}
"""The summary metrics, in order."""


def significant(value: float) -> str:
    """A number with at least three significant digits and at most three decimals; a hyphen for nan."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    digits = ".3f" if size < 10 else ".1f" if size < 100 else ".0f" if size < 1e5 else ".2e"
    return f"{value:{digits}}"


def decimals(value: float, sign: str = "") -> str:
    """A number with three decimals, or from 100,000 on with three digits; a hyphen for nan.

    Args:
        value: the number.
        sign: ``+`` to show the sign of every number.
    """
    if math.isnan(value):
        return "-"
    return f"{value:{sign}.2e}" if 1e5 <= abs(value) < math.inf else f"{value:{sign}.3f}".replace("inf", "∞")


def p_value(p: float) -> str:
    """A p with three decimals; a hyphen for nan."""
    return "<0.001" if p < 0.001 else decimals(p)


def signed(change: Interval) -> str:
    """A change with its sign and its interval; a hyphen for nan."""
    if math.isnan(change.value):
        return "-"
    return f"{decimals(change.value, '+')} [{decimals(change.low, '+')}, {decimals(change.high, '+')}]"


def bounded(value: Interval) -> str:
    """A value and its interval, each as :func:`significant`; a hyphen for nan."""
    if math.isnan(value.value):
        return "-"
    return f"{significant(value.value)} [{significant(value.low)}, {significant(value.high)}]"


def within(value: Interval) -> str:
    """A value and its interval, each as :func:`decimals`; a hyphen for nan."""
    if math.isnan(value.value):
        return "-"
    return f"{decimals(value.value)} [{decimals(value.low)}, {decimals(value.high)}]"
