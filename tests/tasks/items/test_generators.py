"""The embedded model's items: right answers, disjoint parts, fixed by their seed."""

import random
import re

import pytest

from memsplit.tasks.items import families, generators


@pytest.mark.parametrize("family", generators.FAMILIES)
def test_items_are_distinct_seeded_and_in_their_split(family: str) -> None:
    for split in ("dev", "test"):
        items = list(families.distinct(family, split, 50, seed=1))
        assert items == list(families.distinct(family, split, 50, seed=1))
        assert len({item.prompt for item in items}) == 50
        assert {generators.split_of(item.key or item.prompt) for item in items} == {split}


def test_a_sum_is_in_the_same_part_as_all_that_follows_from_it() -> None:
    """Of every pair that is drawn: a + b, b + a, and the differences that give a and b."""
    parts: dict[tuple[int, ...], set[str]] = {}
    for family in ("addition", "subtraction"):
        rng = random.Random(0)
        drawn = {item.prompt: item for item in (generators.FAMILIES[family](rng) for _ in range(30_000))}
        assert len(drawn) > 1500
        for prompt, item in drawn.items():
            a, sign, b, _ = prompt.split()
            terms = (int(a), int(b)) if sign == "+" else (int(a) - int(b), int(b))
            parts.setdefault(tuple(sorted(terms)), set()).add(generators.split_of(item.key))
    assert {len(found) for found in parts.values()} == {1}


def test_too_many_items_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 2000"):
        list(families.distinct("addition", "test", 2000))


@pytest.mark.parametrize("family", ["boolean", "addition", "subtraction"])
def test_answers_equal_python_evaluation(family: str) -> None:
    rng = random.Random(0)
    for _ in range(300):
        item = generators.FAMILIES[family](rng)
        expression = item.prompt.removesuffix(" is").removesuffix(" =")
        assert item.answer == str(eval(expression))


def test_ordering_answer_by_brute_force() -> None:
    rng = random.Random(0)
    for _ in range(300):
        item = generators.ordering(rng)
        below = dict(re.findall(r"(\w+) is \w+ than (\w+) \.", item.prompt))
        first = next(name for name in below if name not in below.values())
        last = next(name for name in below.values() if name not in below)
        asked = item.prompt.split()[-2]
        top = {scale[1] for scale in generators.SCALES}
        assert item.answer == (first if asked in top else last)
        assert set(item.choices) == {*below, *below.values()}


def test_chain_answer_by_following_the_rules() -> None:
    rng = random.Random(0)
    for _ in range(300):
        item = generators.chain(rng)
        rules = dict(re.findall(r"if (\w+) then (\w+) \.", item.prompt))
        start = re.search(r"it is (\w+) so", item.prompt)
        assert start is not None
        middle = rules[start.group(1)]
        assert item.answer == f"{middle} then {rules[middle]}"
        assert len(set(item.choices)) == 4
