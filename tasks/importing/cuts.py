"""Cut a text, or a sequence of token ids, into the prefix and the suffix of a passage."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Cut = Callable[[str], tuple[str, str] | None]
"""Cuts a text into prefix and suffix; ``None`` for one that is too short."""


def ends(length: int, prefix: int, suffix: int) -> tuple[int, int] | None:
    """Where the prefix and the suffix end in a sequence of units.

    One that is shorter than both together is divided in their proportion, with a unit at least on either side.

    Args:
        length: of the sequence.
        prefix: units of the prefix.
        suffix: units of the suffix.

    Returns:
        The two ends; ``None`` if there are fewer than two units.
    """
    if length < 2:
        return None
    if length >= prefix + suffix:
        return prefix, prefix + suffix
    return min(max(1, round(length * prefix / (prefix + suffix))), length - 1), length


def by_words(prefix: int, suffix: int) -> Cut:
    """A cut before a word; the white space before a word belongs to it."""

    def cut(text: str) -> tuple[str, str] | None:
        words = re.findall(r"\s*\S+", text)
        found = ends(len(words), prefix, suffix)
        return ("".join(words[: found[0]]), "".join(words[found[0] : found[1]])) if found else None

    return cut


def by_tokens(prefix: int, suffix: int, last: Callable[[str], Sequence[int]]) -> Cut:
    """A cut after a token.

    Args:
        prefix: tokens of the prefix.
        suffix: tokens of the suffix.
        last: the number of characters up to the end of each token of a text.
    """

    def cut(text: str) -> tuple[str, str] | None:
        places = last(text)
        found = ends(len(places), prefix, suffix)
        if not found:
            return None
        middle, end = places[found[0] - 1], places[found[1] - 1]
        return (text[:middle], text[middle:end]) if text[:middle].strip() and text[middle:end].strip() else None

    return cut
