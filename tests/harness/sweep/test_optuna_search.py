"""Searches of a grid on a made-up landscape: counted, repeatable, within bounds, better than chance."""

import random
from collections.abc import Iterator, Sequence
from statistics import mean

import pytest

from memsplit.harness.sweep.optuna_search import OptunaSearch
from memsplit.model_edits import grid
from memsplit.results.statistics.selection import Bounds, Row
from memsplit.tests.results.statistics.test_selection import row

GRIDS = [grid.parse("kfac-{0..99..1}:proj={up,down}"), grid.parse("svd-{50,60,70}")]
SPECS = [text for each in GRIDS for text in each]


def landscape(spec: str) -> Row:
    """The best within the bounds is kfac-70:proj=down: below 70 perplexity is too high."""
    percent = float(spec.split("-")[1].split(":")[0])
    score = 1 - abs(percent - 60) / 100 - 0.3 * spec.endswith("up") - 0.5 * spec.startswith("svd")
    return row(spec, max(score, 0), ratio=1.0 if percent >= 70 else 2.5)


def search(trials: int, at_once: int = 1, first: str | None = None, seed: int = 0) -> list[str]:
    asked: list[str] = []

    def evaluate(specs: Sequence[str]) -> Iterator[Row]:
        asked.extend(specs)
        return map(landscape, reversed(specs))

    OptunaSearch(GRIDS, SPECS, Bounds(), trials, seed).run(evaluate, at_once, first)
    return asked


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_search_evaluates_as_many_different_specs_and_the_same_again(at_once: int) -> None:
    asked = search(8, at_once, first="svd-60")
    assert asked[0] == "svd-60"
    assert len(asked) == len(set(asked)) == 8
    assert set(asked) <= set(SPECS)
    assert search(8, at_once, first="svd-60") == asked
    assert search(8, at_once, seed=1) != search(8, at_once)


def test_a_longer_search_goes_on_from_a_shorter_one() -> None:
    assert search(12)[:9] == search(9)


def test_a_search_is_better_than_chance() -> None:
    """20 of 203: by the mean of the best within the bounds."""

    def best(specs: Sequence[str]) -> float:
        found = map(landscape, specs)
        return max((r.metric("split_score") for r in found if Bounds().hold(r)), default=0.0)

    drawn = [best(random.Random(seed).sample(SPECS, 20)) for seed in range(200)]
    found = [best(search(20, seed=seed)) for seed in range(3)]
    assert mean(found) > mean(drawn) + 0.03


def test_a_search_of_everything_ends() -> None:
    few = grid.parse("kfac-{70,80}:proj={up,down}")
    asked: list[str] = []

    def evaluate(specs: Sequence[str]) -> Iterator[Row]:
        asked.extend(specs)
        return map(landscape, specs)

    OptunaSearch([few], list(few), Bounds(), 99, 0).run(evaluate, 2)
    assert sorted(asked) == sorted(few)
