"""Arithmetic in plain English, for any model: four operations by digits, and word problems by steps.

A family is its levels, each with what makes an item of it. Answers are whole numbers; the prompt is the question alone.
Numbers, wording, names and objects are drawn, so no item is of a published set; sums of single digits are known by
heart all the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from .generators import NAMES, Item, Maker
from .words import BOXES, THINGS

FRAMES = (
    "What is {}?",
    "What is the value of {}?",
    "What number is {}?",
    "What does {} equal?",
    "What does {} come to?",
    "How much is {}?",
    "Calculate {}.",
    "Compute {}.",
    "Evaluate {}.",
    "Find {}.",
    "Find the value of {}.",
    "Work out {}.",
)


def _ask(rng: random.Random, a: int, sign: str, b: int, answer: int) -> Item:
    return Item(prompt=rng.choice(FRAMES).format(f"{a} {sign} {b}"), choices=(str(answer),), gold=0)


def _numbers(rng: random.Random, digits: tuple[int, int], least: int = 0) -> tuple[int, int]:
    a, b = (rng.randrange(10 ** (n - 1) if n > 1 else least, 10**n) for n in digits)
    return a, b


def add(digits: int, rng: random.Random) -> Item:
    """The sum of two numbers of so many digits."""
    a, b = _numbers(rng, (digits, digits))
    return _ask(rng, a, "+", b, a + b)


def subtract(digits: int, rng: random.Random) -> Item:
    """The difference of two numbers of so many digits, the larger first."""
    b, a = sorted(_numbers(rng, (digits, digits)))
    return _ask(rng, a, "-", b, a - b)


def multiply(digits: tuple[int, int], rng: random.Random) -> Item:
    """The product of two numbers of so many digits, neither 0 nor 1."""
    a, b = _numbers(rng, digits, least=2)
    return _ask(rng, a, "*", b, a * b)


def divide(digits: tuple[int, int], rng: random.Random) -> Item:
    """A product of :func:`multiply` divided by its second number: the digits are the quotient's and the divisor's."""
    a, b = _numbers(rng, digits, least=2)
    return _ask(rng, a * b, "/", b, a)


class Story(NamedTuple):
    """A word problem's template.

    Attributes:
        text: with ``{0}``, ``{1}``, … for its numbers, and names and objects by keyword.
        ranges: lowest and highest of the numbers it is made from.
        solve: those numbers to the ones in the text, in order, and the answer.
    """

    text: str
    ranges: tuple[tuple[int, int], ...]
    solve: Callable[..., tuple[tuple[int, ...], int]]


STORIES: dict[int, tuple[Story, ...]] = {
    1: (
        Story(
            "{a} has {0} {things}. {b} gives {a} {1} more. How many {things} does {a} have now?",
            ((2, 60), (2, 39)),
            lambda x, y: ((x, y), x + y),
        ),
        Story(
            "{a} had {0} {things} and gave {1} of them to {b}. How many {things} does {a} have left?",
            ((2, 50), (2, 49)),
            lambda x, y: ((x + y, y), x),
        ),
        Story(
            "{a} has {0} {boxes} with {1} {things} in each. How many {things} does {a} have in all?",
            ((2, 9), (3, 12)),
            lambda x, y: ((x, y), x * y),
        ),
        Story(
            "{a} shares {0} {things} equally among {1} friends. How many {things} does each friend get?",
            ((2, 12), (2, 9)),
            lambda x, y: ((x * y, y), x),
        ),
        Story(
            "{a} has {0} {things} and {b} has {1} {things}. How many more {things} does {a} have than {b}?",
            ((2, 49), (2, 50)),
            lambda x, y: ((x + y, y), x),
        ),
    ),
    2: (
        Story(
            "{a} has {0} {things}, buys {1} more and then loses {2}. How many {things} does {a} have now?",
            ((20, 60), (2, 30), (2, 19)),
            lambda x, y, z: ((x, y, z), x + y - z),
        ),
        Story(
            "{a} fills {0} {boxes} with {1} {things} each and has {2} {things} left over. "
            "How many {things} does {a} have in all?",
            ((2, 9), (3, 12), (2, 15)),
            lambda x, y, z: ((x, y, z), x * y + z),
        ),
        Story(
            "{a} has {0} dollars and buys {1} {things} for {2} dollars each. How many dollars does {a} have left?",
            ((2, 40), (2, 9), (2, 9)),
            lambda x, y, z: ((x + y * z, y, z), x),
        ),
        Story(
            "{a} finds {0} {things} and {b} finds {1} {things}. They share all of them equally. "
            "How many {things} does each of the two get?",
            ((12, 40), (1, 10)),
            lambda x, y: ((x + y, x - y), x),
        ),
        Story(
            "{a} had {0} {things}, gave away {1} and put the rest equally into {2} {boxes}. "
            "How many {things} are in each {box}?",
            ((2, 12), (2, 20), (2, 9)),
            lambda x, y, z: ((x * z + y, y, z), x),
        ),
    ),
    3: (
        Story(
            "{a} packs {0} {boxes} of {1} {things} each and {b} packs {2} {boxes} of {3} {things} each. "
            "How many {things} do they pack in all?",
            ((2, 9), (2, 9), (2, 9), (2, 9)),
            lambda w, x, y, z: ((w, x, y, z), w * x + y * z),
        ),
        Story(
            "{a} has {0} dollars, earns {1} more and then buys {2} {things} for {3} dollars each. "
            "How many dollars does {a} have left?",
            ((40, 80), (5, 40), (2, 6), (2, 6)),
            lambda w, x, y, z: ((w, x, y, z), w + x - y * z),
        ),
        Story(
            "{a} had {0} {things}, found {1} more, gave {2} to {b} and shared the rest equally among {3} friends. "
            "How many {things} did each friend get?",
            ((3, 12), (3, 8), (2, 20), (2, 9)),
            lambda w, x, y, z: ((w * z + y, x * z, y, z), w + x),
        ),
        Story(
            "{a} has {0} {things}. {b} has {1} times as many as {a}, and {c} has {2} more than {b}. "
            "How many more {things} does {c} have than {a}?",
            ((3, 15), (2, 6), (2, 20)),
            lambda x, y, z: ((x, y, z), x * y + z - x),
        ),
        Story(
            "{0} children come to a party and {1} of them leave early. {a} gives {2} {things} to each child who stays "
            "and has {3} {things} left over. How many {things} did {a} have at first?",
            ((3, 9), (2, 9), (2, 8), (2, 15)),
            lambda w, x, y, z: ((w + x, x, y, z), w * y + z),
        ),
    ),
}


def word_problem(steps: int, rng: random.Random) -> Item:
    """A story that takes so many operations to solve."""
    story = rng.choice(STORIES[steps])
    numbers, answer = story.solve(*(rng.randint(low, high) for low, high in story.ranges))
    a, b, c = rng.sample(NAMES, 3)
    box, boxes = rng.choice(BOXES)
    text = story.text.format(*numbers, a=a, b=b, c=c, things=rng.choice(THINGS), box=box, boxes=boxes)
    return Item(prompt=text, choices=(str(answer),), gold=0)


_SIZES = ((1, 1), (2, 1), (3, 1), (2, 2))
FAMILIES: dict[str, dict[str, Maker]] = {
    "add": {f"{n} digit{'s' if n > 1 else ''}": partial(add, n) for n in (1, 2, 3, 4)},
    "subtract": {f"{n} digit{'s' if n > 1 else ''}": partial(subtract, n) for n in (1, 2, 3, 4)},
    "multiply": {f"{m} x {n} digits": partial(multiply, (m, n)) for m, n in _SIZES},
    "divide": {f"{m} x {n} digits": partial(divide, (m, n)) for m, n in _SIZES},
    "word_problems": {f"{n} step{'s' if n > 1 else ''}": partial(word_problem, n) for n in STORIES},
}
