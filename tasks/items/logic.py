"""Logic in plain English, for any model: seven families, each by levels.

What is told is drawn before what is asked, and the right answer is uniform over the choices given what was told (for
``truth``, given the expression's shape; for ``syllogism``, given its quantifiers): only an item's meaning tells it.
"""

from __future__ import annotations

import datetime
import itertools
import random
from collections.abc import Sequence
from functools import cache, partial

from .generators import NAMES, TRUTH, Item, Maker
from .words import CLUBS, EVENTS, KINDS, MONTHS, OBJECTS, PROPERTIES, WEEKDAYS

SCALES = (
    ("taller", "shorter", "tallest", "shortest"),
    ("older", "younger", "oldest", "youngest"),
    ("faster", "slower", "fastest", "slowest"),
    ("heavier", "lighter", "heaviest", "lightest"),
    ("richer", "poorer", "richest", "poorest"),
)
ORDINALS = ("", "second ", "third ")
QUANTIFIERS = ("All {} are {}.", "No {} are {}.", "Some {} are {}.", "Some {} are not {}.")
ALL, NO, SOME, SOME_NOT = range(4)
COMPASS = ("north", "east", "south", "west")
TURNS = {"turns left": 3, "turns right": 1, "turns around": 2}
PLACES = {(1, 1): "northeast", (1, -1): "southeast", (-1, -1): "southwest", (-1, 1): "northwest"}


def _listed(words: Sequence[str], last: str = "and") -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


def _times(n: int, unit: str) -> str:
    return f"{n} {unit}{'s' if n > 1 else ''}"


_Shape = tuple[bool, str, tuple["_Shape", ...]]
"""Whether it is negated; its connective and operands, or neither, for a constant."""


def truth(depth: int, rng: random.Random) -> Item:
    """The value of a Boolean expression, nested so deep; chance level 1/2."""
    shape, value = _shape(rng, depth), rng.random() < 0.5
    text = _written(shape, value, rng)
    return Item(
        prompt=f"What is the value of {text if shape[0] else text[1:-1]}?", choices=TRUTH, gold=0 if value else 1
    )


def _shape(rng: random.Random, depth: int) -> _Shape:
    if not depth:
        return rng.random() < 0.5, "", ()
    others = rng.randint(1, 3 if depth == 1 else 2)
    depths = [depth - 1, *(int(depth > 2 and rng.random() < 0.3) for _ in range(others))]
    rng.shuffle(depths)
    return rng.random() < 0.3, rng.choice(("and", "or")), tuple(_shape(rng, d) for d in depths)


def _written(shape: _Shape, value: bool, rng: random.Random) -> str:
    """An expression of the shape and value; its operands' values are drawn from those that give it."""
    negated, word, operands = shape
    if operands:
        outcome = all if word == "and" else any
        rows = [
            row for row in itertools.product((True, False), repeat=len(operands)) if outcome(row) == (value != negated)
        ]
        texts = [_written(operand, v, rng) for operand, v in zip(operands, rng.choice(rows), strict=True)]
        text = f"({f' {word} '.join(texts)})"
    else:
        text = str(value != negated)
    return f"not {text}" if negated else text


def order(people: int, rng: random.Random) -> Item:
    """Who is k-th of so many, by comparisons of neighbours, in either direction and shuffled; chance level 1/3.

    The first is compared with the last too, so that each is told of twice.
    """
    names = rng.sample(NAMES, people)
    more, less, most, least = rng.choice(SCALES)
    told = [
        f"{a} is {more} than {b}." if rng.random() < 0.5 else f"{b} is {less} than {a}."
        for a, b in [*itertools.pairwise(names), (names[0], names[-1])]
    ]
    rng.shuffle(told)
    choices = tuple(sorted(rng.sample(names, 3)))
    gold = rng.randrange(3)
    above = names.index(choices[gold])
    below = people - 1 - above
    end = most if (above, rng.random()) < (below, 0.5) else least
    rank = ORDINALS[above if end == most else below]
    return Item(prompt=f"{' '.join(told)} Who is the {rank}{end}?", choices=choices, gold=gold)


_Figure = tuple[tuple[tuple[int, int, int], ...], tuple[int, int, int]]
"""Premises and conclusion, each a quantifier and its two terms' numbers."""


def syllogism(premises: int, kind: str, rng: random.Random) -> Item:
    """Whether a conclusion follows from premises that link its terms; chance level 1/2.

    Quantifiers are drawn first, among those with which it may follow or not, by the terms' places. None of the answers
    would differ if a statement about all of a kind said that there are any.
    """
    gold = rng.randrange(2)
    told, asked = rng.choice(rng.choice(_moods(premises))[gold == 0])
    nouns = rng.sample(KINDS[kind], premises + 1)
    sentences = [QUANTIFIERS[q].format(nouns[x], nouns[y]) for q, x, y in rng.sample(told, premises)]
    q, x, y = asked
    conclusion = QUANTIFIERS[q].format(nouns[x], nouns[y])
    question = f"Does it follow that {conclusion[0].lower()}{conclusion[1:-1]}?"
    return Item(prompt=f"{' '.join(sentences)} {question}", choices=("Yes", "No"), gold=gold)


@cache
def _moods(premises: int) -> list[dict[bool, list[_Figure]]]:
    """For each choice of quantifiers that allows both: the figures whose conclusion follows, and those where not."""
    moods: dict[tuple[int, ...], dict[bool, list[_Figure]]] = {}
    places = [((i, i + 1), (i + 1, i)) for i in range(premises)] + [((0, premises), (premises, 0))]
    for quantifiers in itertools.product(range(4), repeat=premises + 1):
        for terms in itertools.product(*places):
            *told, asked = ((q, x, y) for q, (x, y) in zip(quantifiers, terms, strict=True))
            mood = moods.setdefault(quantifiers, {False: [], True: []})
            mood[_follows(told, asked, premises + 1)].append((tuple(told), asked))
    return [mood for mood in moods.values() if mood[False] and mood[True]]


def _follows(told: Sequence[tuple[int, int, int]], asked: tuple[int, int, int], terms: int) -> bool:
    """Whether a conclusion holds in every model of premises that link so many terms in a row.

    A thing is of one of ``2 ** terms`` types, by the terms that are true of it; sets of types are bit masks. Premises
    about all rule types out; each other one is witnessed by some thing of a type that is left. A conclusion about all
    follows if what would refute it is ruled out, one about some if all that may witness a premise bears it out.
    """
    types = range(2**terms)
    of = [sum(1 << t for t in types if t >> term & 1) for term in range(terms)]
    left = (1 << 2**terms) - 1

    def speaks_of(statement: tuple[int, int, int]) -> int:
        quantifier, x, y = statement
        return of[x] & of[y] if quantifier in (NO, SOME) else of[x] & ~of[y]

    for statement in told:
        if statement[0] in (ALL, NO):
            left &= ~speaks_of(statement)
    witnesses = [left & speaks_of(s) for s in told if s[0] in (SOME, SOME_NOT)]
    if asked[0] in (ALL, NO):
        return not left & speaks_of(asked)
    return any(not witness & ~speaks_of(asked) for witness in witnesses)


def implication(steps: int, rng: random.Random) -> Item:
    """Where so many if-then rules lead from a premise, among those of two other chains as long; chance level 1/3."""
    states = rng.sample(PROPERTIES, 3 * (steps + 1))
    chains = [states[i::3] for i in range(3)]
    rules = [f"If something is {p}, it is {q}." for chain in chains for p, q in itertools.pairwise(chain)]
    rng.shuffle(rules)
    choices = tuple(sorted(chain[-1] for chain in chains))
    start, *_, end = rng.choice(chains)
    thing = rng.choice(OBJECTS)
    prompt = f"{' '.join(rules)} The {thing} is {start}. Is it also {_listed(choices, 'or')}?"
    return Item(prompt=prompt, choices=choices, gold=choices.index(end))


def sets(groups: int, rng: random.Random) -> Item:
    """Which of three people belongs to just these of so many groups, whose members are listed; chance level 1/3.

    The three belong to equally many groups; there are three more people.
    """
    clubs, of_each = rng.sample(CLUBS, groups), rng.randint(1, groups - 1)
    patterns = [p for p in itertools.product((True, False), repeat=groups) if any(p)]
    equal = [p for p in patterns if sum(p) == of_each]
    members: list[list[str]] = [[]]
    while not all(members):
        belongs = dict(zip(rng.sample(NAMES, 6), rng.sample(equal, 3) + rng.choices(patterns, k=3), strict=True))
        members = [[name for name, pattern in belongs.items() if pattern[i]] for i in range(groups)]
    for names in members:
        rng.shuffle(names)
    told = " ".join(f"The {club} has {_listed(names)}." for club, names in zip(clubs, members, strict=True))
    choices = tuple(sorted(list(belongs)[:3]))
    gold = rng.randrange(3)
    pattern = belongs[choices[gold]]
    inside, outside = (
        [f"the {club}" for club, i in zip(clubs, pattern, strict=True) if i == is_in] for is_in in (True, False)
    )
    asked = f"in {_listed(inside)} but not in {_listed(outside, 'or')}"
    return Item(prompt=f"{told} Which of {_listed(choices)} is {asked}?", choices=choices, gold=gold)


def dates(unit: str, nearest: int, farthest: int, rng: random.Random) -> Item:
    """The weekday, month or date so many days or months from another; chance level 1/4.

    Args:
        unit: ``weekday``, ``month`` or ``date``.
        nearest: the least distance, in months for ``month``, else in days.
        farthest: the greatest; weekdays and months are equally likely only over whole cycles.
        rng: what to draw from.
    """
    a, b = rng.sample(NAMES, 2)
    first, second = rng.sample(EVENTS, 2)
    distance, sign = rng.randint(nearest, farthest), rng.choice((1, -1))
    if unit == "date":
        day = datetime.date(1990, 1, 1) + datetime.timedelta(rng.randrange(14_600))
        gold = rng.randrange(4)
        near = [day + datetime.timedelta(sign * distance + i - gold) for i in range(4)]
        start, question, choices = f"on {_date(day)} {day.year}", "On which date", tuple(map(_date, near))
    else:
        cycle = WEEKDAYS if unit == "weekday" else MONTHS
        begin = rng.randrange(len(cycle))
        answer = cycle[(begin + sign * distance) % len(cycle)]
        others = rng.sample([name for name in cycle if name != answer], 3)
        choices = tuple(sorted([answer, *others], key=cycle.index))
        gold = choices.index(answer)
        start = f"on a {cycle[begin]}" if unit == "weekday" else f"in {cycle[begin]}"
        question = "On which day of the week" if unit == "weekday" else "In which month"
    span = f"{_times(distance, 'month' if unit == 'month' else 'day')} {'later' if sign > 0 else 'earlier'}"
    prompt = f"{a}'s {first} is {start}. {b}'s {second} is {span}. {question} is {b}'s {second}?"
    return Item(prompt=prompt, choices=choices, gold=gold)


def _date(day: datetime.date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]}"


def directions(asked: str, turns: int, rng: random.Random) -> Item:
    """Where a walk with so many turns ends, as seen from its start, or which way it faces then; chance level 1/4.

    Args:
        asked: ``facing`` or ``place``.
        turns: how many.
        rng: what to draw from.
    """
    name, begin, gold = rng.choice(NAMES), rng.randrange(4), rng.randrange(4)
    choices = COMPASS if asked == "facing" else tuple(PLACES.values())
    found = None
    while found != choices[gold]:
        x, y, facing = 0, 0, begin
        moves: list[str] = []
        for turn in [*rng.choices(list(TURNS), k=turns), ""]:
            steps = rng.randint(2, 9)
            x, y = x + steps * (0, 1, 0, -1)[facing], y + steps * (1, 0, -1, 0)[facing]
            facing = (facing + TURNS.get(turn, 0)) % 4
            moves += [f"walks {steps} steps", *filter(None, [turn])]
        found = COMPASS[facing] if asked == "facing" else PLACES.get(((x > 0) - (x < 0), (y > 0) - (y < 0)))
    question = (
        f"Which way does {name} face now?" if asked == "facing" else f"In which direction from the start is {name} now?"
    )
    return Item(
        prompt=f"{name} faces {COMPASS[begin]}. {name} {_listed(moves)}. {question}", choices=choices, gold=gold
    )


FAMILIES: dict[str, dict[str, Maker]] = {
    "truth": {f"depth {n}": partial(truth, n) for n in (1, 2, 3, 4)},
    "order": {f"{n} people": partial(order, n) for n in (3, 4, 5, 6)},
    "syllogism": {f"{n} premises, {kind}": partial(syllogism, n, kind) for n in (2, 3) for kind in KINDS},
    "implication": {_times(n, "step"): partial(implication, n) for n in (1, 2, 3, 4)},
    "sets": {f"{n} groups": partial(sets, n) for n in (3, 4, 5)},
    "dates": {
        "days": partial(dates, "weekday", 1, 7),
        "weeks": partial(dates, "weekday", 8, 35),
        "months": partial(dates, "month", 1, 24),
        "calendar": partial(dates, "date", 5, 60),
    },
    "directions": {
        f"{asked}, {n} turns": partial(directions, asked, n) for asked in ("facing", "place") for n in (2, 3)
    },
}
