"""How much of a passage stands in another text: runs of five words, or of five token ids, that both have."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .neighbours import Groups

RUN = 5
NEAR = 0.5
"""A passage of which so much stands in another text is called near to it."""


class Overlap:
    """Passages by their runs, to look other texts up in.

    Args:
        rows: of a pack's file of passages.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._parts: list[tuple[int, int]] = []  # a passage's position, the number of the part's different runs
        self._with: dict[Hashable, list[int]] = defaultdict(list)
        for position, row in enumerate(rows):
            for part in ("prefix", "suffix"), ("suffix",):
                for space, items in _spaces(row, part):
                    runs = _runs(space, items)
                    for run in runs:
                        self._with[run].append(len(self._parts))
                    self._parts.append((position, len(runs)))

    def shares(self, row: Mapping[str, Any]) -> dict[int, float]:
        """What the row's text has of the passages, those with something of which stands in it.

        Args:
            row: of any kind of file with text or ids.

        Returns:
            By position, the share of the passage's different runs that the text has, in 0..1: the largest among whole
            passage and suffix alone, in words or in ids where both sides have them.
        """
        known = Counter(
            part
            for space, items in _spaces(row, ("prefix", "suffix"))
            for run in _runs(space, items)
            for part in self._with.get(run, ())
        )
        shares: dict[int, float] = defaultdict(float)
        for part, count in known.items():
            position, of = self._parts[part]
            shares[position] = max(shares[position], count / of)
        return dict(shares)


def groups(rows: Sequence[Mapping[str, Any]], shared: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Passages that belong together, by position: near, or with a key in common, directly or through others.

    Args:
        rows: of a pack's file of passages.
        shared: the keys of each row.
    """
    joined = Groups()
    overlap = Overlap(rows)
    first: dict[Hashable, int] = {}
    for position, (row, keys) in enumerate(zip(rows, shared, strict=True)):
        for key in keys:
            joined.join(position, first.setdefault(key, position))
        for other, share in overlap.shares(row).items():
            if share >= NEAR:
                joined.join(position, other)
    together: dict[int, list[int]] = defaultdict(list)
    for position in range(len(rows)):
        together[joined.lowest(position)].append(position)
    return list(together.values())


def _spaces(row: Mapping[str, Any], parts: Sequence[str]) -> Iterator[tuple[str, Sequence[Hashable]]]:
    """A row's words and its ids, so far as it has them."""
    text = row["text"] if "text" in row else "".join(row[f"{part}_text"] for part in parts)
    if words := re.findall(r"\w+", text.casefold()):
        yield "words", words
    if "prefix_ids" in row:
        yield "ids", [i for part in parts for i in row[f"{part}_ids"]]
    elif "ids" in row:
        yield "ids", row["ids"]


def _runs(space: str, items: Sequence[Hashable]) -> set[Hashable]:
    """The different runs of :data:`RUN` items; all of them together where there are fewer."""
    return {(space, *items[i : i + RUN]) for i in range(max(1, len(items) - RUN + 1))}
