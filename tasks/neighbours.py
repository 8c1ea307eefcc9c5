"""Near-duplicates among token sequences, by the Jaccard index of their n-grams: exact, without comparing all pairs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

NGRAM = 5


class Neighbours:
    """Sequences, of which those near another can be asked for.

    Two are near where their sets of n-grams, A and B, have ``|A ∩ B| / |A ∪ B| >= threshold``. The sets then share at
    least ``threshold · |A|`` and ``threshold · |B|`` grams, so that in any one order of all grams the first
    ``|A| - ⌈threshold · |A|⌉ + 1`` of A and as many of B share one (prefix filtering, Bayardo et al. 2007): only those
    are looked up. A sequence shorter than n is one gram.

    Args:
        threshold: above 0, at most 1.
        n: tokens a gram.
    """

    def __init__(self, threshold: float, n: int = NGRAM) -> None:
        self.threshold = threshold
        self.n = n
        self._sets: list[set[tuple[int, ...]]] = []
        self._holders: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)

    def near(self, ids: Sequence[int]) -> list[int]:
        """The numbers, ascending, of the added sequences that are near."""
        grams = self._grams(ids)
        candidates = {i for gram in self._first(grams) for i in self._holders.get(gram, ())}
        return sorted(i for i in candidates if self._are_near(grams, self._sets[i]))

    def add(self, ids: Sequence[int]) -> None:
        """Add a sequence; the first has number 0."""
        grams = self._grams(ids)
        for gram in self._first(grams):
            self._holders[gram].append(len(self._sets))
        self._sets.append(grams)

    def _grams(self, ids: Sequence[int]) -> set[tuple[int, ...]]:
        return set(zip(*(ids[k:] for k in range(self.n)), strict=False)) or {tuple(ids)}

    def _first(self, grams: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """High ids first, which most tokenizers give to rarer tokens: fewer sequences hold them."""
        shared = math.ceil(self.threshold * len(grams) - 1e-9)
        return sorted(grams, reverse=True)[: len(grams) - shared + 1]

    def _are_near(self, a: set[tuple[int, ...]], b: set[tuple[int, ...]]) -> bool:
        shared = len(a & b)
        return shared / (len(a) + len(b) - shared) >= self.threshold


class Groups:
    """Numbers that are joined to one another; each group goes by its lowest."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def lowest(self, i: int) -> int:
        """The lowest number of the group of ``i``."""
        while (above := self._above.get(i, i)) != i:
            self._above[i] = self._above.get(above, above)
            i = above
        return i

    def join(self, i: int, j: int) -> None:
        """Make one group of two."""
        low, high = sorted((self.lowest(i), self.lowest(j)))
        self._above[high] = low
