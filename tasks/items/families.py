"""All generated families, those of the embedded model and those for any model, and how their items are drawn."""

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
"""The generator of each level, by family and level. A family without levels has one level, the empty text."""


def distinct(family: str, split: str, n: int, seed: int = 0) -> Iterator[Item]:
    """``n`` different items of the family and split, with the levels in turn; the seed fixes the order.

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
    """``n`` items of the split ``train`` as few-shot examples: levels in turn, positions of the answers mixed."""
    rng = random.Random(f"{family}:shots:{seed}")  # noqa: S311
    golds = rng.sample(range(n), n)
    found = []
    for gold, (level, make) in zip(golds, itertools.cycle(FAMILIES[family].items()), strict=False):
        item = generators.draw_from(make, "train", rng)
        while item.gold != gold % len(item.choices):
            item = generators.draw_from(make, "train", rng)
        found.append(dataclasses.replace(item, level=level))
    return found
