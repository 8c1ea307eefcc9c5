"""Items for any model are right: their answers by other routes than the generators'."""

import ast
import datetime
import itertools
import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from memsplit.tasks.items import arithmetic, families

NUMBER = re.compile(r"\d+")


def numbers(text: str) -> list[int]:
    return [int(found) for found in NUMBER.findall(text)]


class TestArithmetic:
    @pytest.mark.parametrize(("family", "sign"), [("add", "+"), ("subtract", "-"), ("multiply", "*"), ("divide", "/")])
    def test_answers_equal_python_evaluation(self, family: str, sign: str) -> None:
        for item in families.distinct(family, "train", 400):
            (expression,) = re.findall(r"\d+ [-+*/] \d+", item.prompt)
            assert sign in expression
            assert int(item.answer) == eval(expression) >= 0

    def test_levels_are_the_digits(self) -> None:
        for family in ("add", "subtract"):
            for item in families.distinct(family, "train", 400):
                assert {len(str(n)) for n in numbers(item.prompt)} == {numbers(item.level)[0]}
        for item in families.distinct("multiply", "train", 400):
            assert [len(str(n)) for n in numbers(item.prompt)] == numbers(item.level)
        for item in families.distinct("divide", "train", 400):
            divisor = numbers(item.prompt)[1]
            assert [len(item.answer), len(str(divisor))] == numbers(item.level)


def dealt(things: int, among: int) -> int:
    piles = Counter(i % among for i in range(things))
    assert len(piles) == among
    assert len(set(piles.values())) == 1
    return piles[0]


def bought(n: int, price: int) -> int:
    return sum([price] * n)


STORIES: dict[str, tuple[int, Callable[..., int]]] = {
    r"has N \w+\. \w+ gives \w+ N more": (1, lambda a, b: len([*range(a), *range(b)])),
    r"had N \w+ and gave N of them": (1, lambda a, b: len(range(a)[b:])),
    r"has N \w+ with N \w+ in each": (1, lambda a, b: len([*itertools.product(range(a), range(b))])),
    r"shares N \w+ equally among N": (1, dealt),
    r"has N \w+ and \w+ has N": (1, lambda a, b: len({*range(a)} - {*range(b)})),
    r"has N \w+, buys N more and then loses N": (2, lambda a, b, c: len([*range(a), *range(b)][c:])),
    r"fills N \w+ with N \w+ each and has N": (2, lambda a, b, c: bought(a, b) + c),
    r"has N dollars and buys N \w+ for N": (2, lambda a, b, c: a - bought(b, c)),
    r"finds N \w+ and \w+ finds N": (2, lambda a, b: dealt(a + b, 2)),
    r"had N \w+, gave away N and put the rest equally into N": (2, lambda a, b, c: dealt(a - b, c)),
    r"packs N \w+ of N \w+ each and \w+ packs N \w+ of N": (3, lambda a, b, c, d: bought(a, b) + bought(c, d)),
    r"has N dollars, earns N more and then buys N \w+ for N": (3, lambda a, b, c, d: a + b - bought(c, d)),
    r"had N \w+, found N more, gave N to \w+ and .* among N": (3, lambda a, b, c, d: dealt(a + b - c, d)),
    r"has N \w+\. (\w+) has N times as many as (\w+), and \w+ has N more than \1": (
        3,
        lambda a, b, c: bought(b, a) + c - a,
    ),
    r"^N children .* and N of them leave .* gives N \w+ to each .* has N": (3, lambda a, b, c, d: bought(a - b, c) + d),
}


def test_word_problems_by_simulation() -> None:
    told: Counter[str] = Counter()
    for item in families.distinct("word_problems", "train", 900):
        (story,) = [s for s in STORIES if re.search(s, NUMBER.sub("N", item.prompt))]
        steps, solve = STORIES[story]
        assert [steps] == numbers(item.level)
        assert solve(*numbers(item.prompt)) == int(item.answer) >= 2
        assert not re.search(r"\b[01] ", item.prompt)
        told[story] += 1
    assert len(told) == len(STORIES) == sum(map(len, arithmetic.STORIES.values())) >= 12


def test_truth_equals_python_evaluation() -> None:
    def depth(node: ast.AST) -> int:
        return max(map(depth, ast.iter_child_nodes(node)), default=0) + isinstance(node, ast.BoolOp)

    for item in families.distinct("truth", "train", 400):
        expression = item.prompt.removeprefix("What is the value of ").removesuffix("?")
        assert item.answer == str(eval(expression))
        assert [depth(ast.parse(expression))] == numbers(item.level)


SCALES = [scale.split() for scale in ("taller shorter tallest shortest", "older younger oldest youngest")]
SCALES += [scale.split() for scale in ("faster slower fastest slowest", "heavier lighter heaviest lightest")]
SCALES += [["richer", "poorer", "richest", "poorest"]]


def test_order_by_every_permutation() -> None:
    rank = {"": 0, "second ": 1, "third ": 2}
    for item in families.distinct("order", "train", 400):
        told = re.findall(r"(\w+) is (\w+) than (\w+)\.", item.prompt)
        more, less, most, least = next(scale for scale in SCALES if told[0][1] in scale)
        names = sorted({name for a, _, b in told for name in (a, b)})
        pairs = [{more: (a, b), less: (b, a)}[word] for a, word, b in told]
        fits = [p for p in itertools.permutations(names) if all(p.index(a) < p.index(b) for a, b in pairs)]
        assert len(fits) == 1
        asked = re.search(r"Who is the (second |third )?(\w+)\?$", item.prompt)
        assert asked is not None
        ordered = {most: fits[0], least: fits[0][::-1]}[asked[2]]
        assert item.answer == ordered[rank[asked[1] or ""]]
        assert set(item.choices) <= set(names)
        assert [len(names)] == numbers(item.level)
        assert {item.prompt.count(name) for name in names} == {2}


def test_syllogisms_by_every_model() -> None:
    """A model says of each type of thing whether there is one; terms may be true of nothing, or not."""
    found: Counter[tuple[str, str, str]] = Counter()
    for item in families.distinct("syllogism", "train", 200):
        text = item.prompt.replace("Does it follow that ", "").replace("?", ".")
        statements = re.findall(r"(all|no|some) ([\w-]+) are (not )?([\w-]+)\.", text.lower())
        terms = sorted({term for _, x, _, y in statements for term in (x, y)})
        assert [len(terms) - 1] == [len(statements) - 1] == numbers(item.level)
        types = list(itertools.product((False, True), repeat=len(terms)))
        models = np.arange(2 ** len(types), dtype=np.uint32)
        exists = {
            (x, y, is_y): np.bitwise_and(
                models, sum(1 << i for i, t in enumerate(types) if t[terms.index(x)] and t[terms.index(y)] == is_y)
            )
            != 0
            for x, y in itertools.product(terms, terms)
            for is_y in (True, False)
        }
        holds = [
            {"all": ~exists[x, y, False], "no": ~exists[x, y, True], "some": exists[x, y, not negated]}[word]
            for word, x, negated, y in statements
        ]
        for possible in (np.ones_like(holds[0]), np.all([exists[t, t, True] for t in terms], axis=0)):
            premises = np.all([possible, *holds[:-1]], axis=0)
            assert premises.any()
            assert item.answer == ("Yes" if holds[-1][premises].all() else "No")
        found[item.answer, statements[-1][0], statements[-1][2]] += 1
    assert len(found) == 8


def test_implications_by_following_the_rules() -> None:
    for item in families.distinct("implication", "train", 400):
        rules = dict(re.findall(r"If something is (\w+), it is (\w+)\.", item.prompt))
        start = re.search(r"The \w+ is (\w+)\. Is it also (.*)\?$", item.prompt)
        assert start is not None
        reached = [start[1]]
        while reached[-1] in rules:
            reached.append(rules[reached[-1]])
        assert item.answer == reached[-1]
        assert set(item.choices) & set(reached) == {item.answer}
        assert [len(reached) - 1] == numbers(item.level)
        assert re.split(", | or ", start[2]) == list(item.choices)


def test_sets_by_set_algebra() -> None:
    def names(text: str) -> set[str]:
        return set(re.split(", | and ", text))

    for item in families.distinct("sets", "train", 400):
        members = {
            club: names(listed) for club, listed in re.findall(r"The ([a-z ]+) has ([A-Z][\w, ]+)\.", item.prompt)
        }
        assert [len(members)] == numbers(item.level)
        asked = re.search(r"Which of (.*) is in (.*)\?$", item.prompt)
        assert asked is not None
        assert names(asked[1]) == set(item.choices)
        inside, _, outside = asked[2].partition(" but not in ")
        left = set(item.choices)
        for text, keep in ((inside, True), (outside, False)):
            for club in filter(None, re.split(", | and | or ", text)):
                left = {name for name in left if (name in members[club.removeprefix("the ")]) == keep}
        assert left == {item.answer}
        assert len({sum(name in listed for listed in members.values()) for name in item.choices}) == 1


def test_dates_by_the_calendar() -> None:
    for item in families.distinct("dates", "train", 400):
        (start, count, _, way), *_ = re.findall(
            r"is (?:on a |on |in )(.*?)\. .* is (\d+) (day|month)s? (\w+)\.", item.prompt
        )
        assert way in ("later", "earlier")
        steps = int(count) * (1 if way == "later" else -1)
        if item.level == "months":
            month = datetime.datetime.strptime(start, "%B").month
            assert item.answer == datetime.date(2000, (month - 1 + steps) % 12 + 1, 1).strftime("%B")
        elif item.level == "calendar":
            date = datetime.datetime.strptime(start, "%d %B %Y") + datetime.timedelta(steps)
            assert item.answer == date.strftime("%d %B").lstrip("0")
        else:
            week = [datetime.date(2024, 5, 1) + datetime.timedelta(i) for i in range(7)]
            (day,) = [day for day in week if day.strftime("%A") == start]
            assert item.answer == (day + datetime.timedelta(steps)).strftime("%A")
        assert len(set(item.choices)) == 4


def test_directions_by_walking_again() -> None:
    heading = {"north": 1j, "east": 1, "south": -1j, "west": -1}
    for item in families.distinct("directions", "train", 400):
        start = re.search(r"faces (\w+)\.", item.prompt)
        assert start is not None
        facing, place = complex(heading[start[1]]), 0j
        for steps, turn in re.findall(r"walks (\d+) steps|turns (\w+)", item.prompt):
            place += facing * int(steps or 0)
            facing *= {"left": 1j, "right": -1j, "around": -1}.get(turn, 1)
        if "face now" in item.prompt:
            assert heading[item.answer] == facing
        else:
            vertical, side = item.answer[:5], item.answer[5:]
            assert (place.imag > 0, place.real > 0) == (vertical == "north", side == "east")
            assert place.imag != 0 != place.real
        assert [item.prompt.count("turns")] == numbers(item.level)
