"""Every generated family, the embedded model's own and those for any model, and how its items are drawn."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator

from . import arithmetic, generators, logic
from .generators import Item, Maker

FAMILIES: dict[str, dict[str, Maker]] = {
    **{family: {"": make} for family, make in generators.FAMILIES.items()},
    **arithmetic.FAMILIES,
    **logic.FAMILIES,
}
"""What draws an item of each level, by family and level; a family without levels has one, the empty text."""


def distinct(family: str, split: str, n: int, seed: int = 0) -> Iterator[Item]:
    """``n`` different items of the family and split, its levels in turn, in an order fixed by the seed.

    Raises:
        ValueError: the family has fewer than ``n`` items in that split.
    """
    rng = random.Random(f"{family}:{split}:{seed}")  # noqa: S311 (items, not secrets)
    seen: set[str] = set()
    for level, make in itertools.islice(itertools.cycle(FAMILIES[family].items()), n):
        for _ in range(10_000):
            item = generators.draw_from(make, split, rng)
            if item.prompt not in seen:
                break
        else:
            raise ValueError(
                f"{family} has fewer than {n} items in {split}: {level or 'they'} ran out after {len(seen)}"
            )
        seen.add(item.prompt)
        yield dataclasses.replace(item, level=level)


def shots(family: str, n: int, seed: int = 0) -> list[Item]:
    """``n`` answered items to show before a question: of ``train``, the levels in turn, the places of answers mixed."""
    rng = random.Random(f"{family}:shots:{seed}")  # noqa: S311
    golds = rng.sample(range(n), n)
    found = []
    for gold, (level, make) in zip(golds, itertools.cycle(FAMILIES[family].items()), strict=False):
        item = generators.draw_from(make, "train", rng)
        while item.gold != gold % len(item.choices):
            item = generators.draw_from(make, "train", rng)
        found.append(dataclasses.replace(item, level=level))
    return found
