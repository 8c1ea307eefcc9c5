"""Near-duplicates: among sequences of token ids, and between a passage and other text; :class:`Groups` joins them.

:class:`Neighbours` compares whole sequences by the Jaccard index of their n-grams, exactly and without comparing all
pairs. :class:`Overlap` asks how much of a passage another text contains: its runs of five words, or of five token ids.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

RUN = 5
"""Tokens of an n-gram of :class:`Neighbours`, words or token ids of a run of :class:`Overlap`."""
NEAR = 0.5
"""A passage is near to a text that contains at least this share of its runs."""


class Neighbours:
    """A collection of sequences that can be searched for the near-duplicates of another.

    Two sequences are near if their sets of n-grams, A and B, have ``|A ∩ B| / |A ∪ B| >= threshold``. The sets then
    share at least ``threshold · |A|`` and ``threshold · |B|`` grams. In any fixed order of all grams, the first
    ``|A| - ⌈threshold · |A|⌉ + 1`` grams of A and the corresponding ones of B therefore have one in common (prefix
    filtering, Bayardo et al. 2007), so only those are looked up. A sequence shorter than n counts as one gram.

    Args:
        threshold: above 0, at most 1.
        n: tokens per n-gram.
    """

    def __init__(self, threshold: float, n: int = RUN) -> None:
        self.threshold = threshold
        self.n = n
        self._sets: list[set[tuple[int, ...]]] = []
        self._holders: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)

    def near(self, ids: Sequence[int]) -> list[int]:
        """The numbers of the added sequences that are near to ``ids``, in ascending order."""
        grams = self._grams(ids)
        candidates = {i for gram in self._first(grams) for i in self._holders.get(gram, ())}
        return sorted(i for i in candidates if self._are_near(grams, self._sets[i]))

    def add(self, ids: Sequence[int]) -> None:
        """Add a sequence. Sequences are numbered from 0 in the order in which they are added."""
        grams = self._grams(ids)
        for gram in self._first(grams):
            self._holders[gram].append(len(self._sets))
        self._sets.append(grams)

    def _grams(self, ids: Sequence[int]) -> set[tuple[int, ...]]:
        return set(zip(*(ids[k:] for k in range(self.n)), strict=False)) or {tuple(ids)}

    def _first(self, grams: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The grams to look up, high ids first: most tokenizers give those to rare tokens, so few sequences match."""
        shared = math.ceil(self.threshold * len(grams) - 1e-9)
        return sorted(grams, reverse=True)[: len(grams) - shared + 1]

    def _are_near(self, a: set[tuple[int, ...]], b: set[tuple[int, ...]]) -> bool:
        shared = len(a & b)
        return shared / (len(a) + len(b) - shared) >= self.threshold


class Groups:
    """A union-find structure over integers. A group is named by its lowest member."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def lowest(self, i: int) -> int:
        """The lowest member of the group that ``i`` is in."""
        while (above := self._above.get(i, i)) != i:
            self._above[i] = self._above.get(above, above)
            i = above
        return i

    def join(self, i: int, j: int) -> None:
        """Merge the groups that ``i`` and ``j`` are in."""
        low, high = sorted((self.lowest(i), self.lowest(j)))
        self._above[high] = low


class Overlap:
    """An index of passages by their runs, which tells how much of each passage another text contains.

    Args:
        rows: the rows of a pack's file of passages.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._parts: list[tuple[int, int]] = []  # (position of the passage, number of distinct runs)
        self._with: dict[Hashable, list[int]] = defaultdict(list)
        for position, row in enumerate(rows):
            for part in ("prefix", "suffix"), ("suffix",):
                for space, items in _spaces(row, part):
                    runs = _runs(space, items)
                    for run in runs:
                        self._with[run].append(len(self._parts))
                    self._parts.append((position, len(runs)))

    def shares(self, row: Mapping[str, Any]) -> dict[int, float]:
        """How much of each passage the row's text contains.

        Args:
            row: a row of any file of a pack that has text or ids.

        Returns:
            The share of a passage's distinct runs that the text contains, in (0, 1], by the passage's position;
            passages that share no run with the text are left out. The share is the largest of four: of the whole
            passage and of its suffix alone, each in words and, where both sides have them, in token ids.
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


def groups(
    rows: Sequence[Mapping[str, Any]], shared: Sequence[Iterable[Hashable]], *, near: bool = True
) -> list[list[int]]:
    """Groups of passages that are near to one another or have a key in common, directly or through other passages.

    Args:
        rows: the rows of a pack's file of passages.
        shared: the keys of each row.
        near: whether rows that are near to one another belong together; they may only be of another file if not.

    Returns:
        The positions of each group's passages; every passage is in exactly one group.
    """
    joined = Groups()
    overlap = Overlap(rows if near else [])
    first: dict[Hashable, int] = {}
    for position, (row, keys) in enumerate(zip(rows, shared, strict=True)):
        for key in keys:
            joined.join(position, first.setdefault(key, position))
        for other, share in overlap.shares(row).items() if near else ():
            if share >= NEAR:
                joined.join(position, other)
    together: dict[int, list[int]] = defaultdict(list)
    for position in range(len(rows)):
        together[joined.lowest(position)].append(position)
    return list(together.values())


def asked(row: Mapping[str, Any]) -> object:
    """A key that is equal for items that ask the same, whatever the white space in their texts."""
    if "prefix_ids" in row:
        return tuple(row["prefix_ids"]), tuple(row["suffix_ids"])
    if "ids" in row:
        return tuple(row["ids"])
    for names in ("prefix_text", "suffix_text"), ("question", "answer"), ("relation", "subject"), ("text",):
        if all(name in row for name in names):
            return tuple(" ".join(row[name].split()) for name in names)
    return json.dumps({name: value for name, value in row.items() if name not in ("id", "split")}, sort_keys=True)


def _spaces(row: Mapping[str, Any], parts: Sequence[str]) -> Iterator[tuple[str, Sequence[Hashable]]]:
    """The words of a row's text and its token ids, each if the row has them."""
    text = row["text"] if "text" in row else "".join(row[f"{part}_text"] for part in parts)
    if words := re.findall(r"\w+", text.casefold()):
        yield "words", words
    if "prefix_ids" in row:
        yield "ids", [i for part in parts for i in row[f"{part}_ids"]]
    elif "ids" in row:
        yield "ids", row["ids"]


def _runs(space: str, items: Sequence[Hashable]) -> set[Hashable]:
    """The distinct runs of :data:`RUN` items; fewer items than that form a single run."""
    return {(space, *items[i : i + RUN]) for i in range(max(1, len(items) - RUN + 1))}
