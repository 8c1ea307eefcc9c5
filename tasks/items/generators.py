"""What a generated item is, and the families of logic and arithmetic that are the embedded model's own.

An item is text alone: a prompt, the answers to choose from, and the right one. Whether an item belongs to ``train``,
``dev`` or ``test`` is a function of its prompt or its key (:func:`split_of`), so that no part can leak into another,
whoever draws and however often. Only the embedded model's training script and the examples shown before a question draw
from ``train``. ``families`` has every family.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

NAMES = """
    Ada Ben Cora Dan Eve Finn Gus Hal Ida Jack Kim Leo Mia Ned Olga Pete Quinn Rosa Sam Tess Uma Vic Wes Zoe
""".split()
STATES = """
    red blue green gold pink gray cold warm wet dry loud calm open shut full empty early late sweet sour bright
    dim round flat
""".split()
SCALES = (
    ("taller", "tallest", "shortest"),
    ("older", "oldest", "youngest"),
    ("faster", "fastest", "slowest"),
)
TRUTH = ("True", "False")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question.

    Attributes:
        prompt: what the model reads; no trailing space.
        choices: the answers, each to be read after one space; for an open answer the right one alone.
        gold: index of the right answer in ``choices``.
        level: how hard it is, in its family's words; empty where there is one level.
        key: what decides its part instead of the prompt: a sum and the sums and differences that follow from it share
            one.
    """

    prompt: str
    choices: tuple[str, ...]
    gold: int
    level: str = ""
    key: str = ""

    @property
    def answer(self) -> str:
        """The right answer's text."""
        return self.choices[self.gold]


Maker = Callable[[random.Random], Item]
"""Draws an item."""


def split_of(text: str) -> str:
    """The part a text belongs to: 80 % ``train``, 10 % ``dev``, 10 % ``test``, by a hash of the text alone."""
    bucket = hashlib.blake2b(text.encode(), digest_size=8).digest()[0] % 10
    return ("dev", "test")[bucket] if bucket < 2 else "train"


def boolean(rng: random.Random) -> Item:
    """A Boolean expression of two or three connectives and optional negations; chance level 1/2."""
    text, value = _connective(rng, depth=2)
    return Item(prompt=f"{text} is", choices=TRUTH, gold=0 if value else 1)


def _connective(rng: random.Random, depth: int) -> tuple[str, bool]:
    left, left_value = _operand(rng, depth - 1)
    right, right_value = _operand(rng, depth - 1)
    if rng.random() < 0.5:
        return f"{left} and {right}", left_value and right_value
    return f"{left} or {right}", left_value or right_value


def _operand(rng: random.Random, depth: int) -> tuple[str, bool]:
    if depth and rng.random() < 0.8:
        text, value = _connective(rng, depth)
        text = f"( {text} )"
    else:
        value = rng.random() < 0.5
        text = str(value)
    return (f"not {text}", not value) if rng.random() < 0.3 else (text, value)


def ordering(rng: random.Random) -> Item:
    """Which of four is first or last, from three shuffled comparisons (transitive deduction); chance level 1/4."""
    people = rng.sample(NAMES, 4)
    comparative, top, bottom = rng.choice(SCALES)
    pairs = [f"{a} is {comparative} than {b} ." for a, b in itertools.pairwise(people)]
    rng.shuffle(pairs)
    asked, answer = (top, people[0]) if rng.random() < 0.5 else (bottom, people[-1])
    choices = tuple(sorted(people))
    return Item(prompt=f"{' '.join(pairs)} the {asked} is", choices=choices, gold=choices.index(answer))


def chain(rng: random.Random) -> Item:
    """What follows from a premise by two if-then rules among four shuffled ones; chance level 1/4.

    The answer states both steps; the three wrong ones take a wrong first step, a wrong second step, or both.
    """
    a, b, c, x, y, z = rng.sample(STATES, 6)
    rules = [f"if {p} then {q} ." for p, q in ((a, b), (b, c), (x, y), (y, z))]
    rng.shuffle(rules)
    choices = tuple(sorted(f"{first} then {second}" for first in (b, y) for second in (c, z)))
    return Item(prompt=f"{' '.join(rules)} it is {a} so it is", choices=choices, gold=choices.index(f"{b} then {c}"))


def addition(rng: random.Random) -> Item:
    """The sum of a two-digit number and one below 20; open answer."""
    a, b = rng.randrange(10, 100), rng.randrange(1, 20)
    return Item(prompt=f"{a} + {b} =", choices=(str(a + b),), gold=0, key=_sum(a, b))


def subtraction(rng: random.Random) -> Item:
    """The difference of a number of 20 to 99 and one below 20; open answer."""
    a, b = rng.randrange(20, 100), rng.randrange(1, 20)
    return Item(prompt=f"{a} - {b} =", choices=(str(a - b),), gold=0, key=_sum(a - b, b))


def _sum(a: int, b: int) -> str:
    """The key of two numbers' sum in either order, and of the differences that undo it."""
    return f"{min(a, b)} + {max(a, b)}"


FAMILIES: dict[str, Maker] = {
    "boolean": boolean,
    "ordering": ordering,
    "chain": chain,
    "addition": addition,
    "subtraction": subtraction,
}


def draw(family: str, split: str, rng: random.Random) -> Item:
    """One item of the embedded model's family that belongs to the split."""
    return draw_from(FAMILIES[family], split, rng)


def draw_from(make: Maker, split: str, rng: random.Random) -> Item:
    """One item that belongs to the split (rejection sampling on :func:`split_of`)."""
    while True:
        item = make(rng)
        if split_of(item.key or item.prompt) == split:
            return item
