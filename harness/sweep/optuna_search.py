"""A budgeted search of a grid: Optuna proposes, each brace a parameter.

No state is kept beside the records: a proposal depends on the seed and on what was found before alone, so that a search
that is begun again makes the same proposals, finds their records, and goes on where it was; with more trials too.
"""

from __future__ import annotations

import itertools
import math
import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...errors import UserError
from ...model_edits.grid import Grid
from ...results.statistics.selection import Bounds, Row

RANDOM = 6
"""Proposals drawn at random before the sampler has enough to go by."""
PATIENCE = 4
"""Proposals in a row of what was tried already, until one that was not is drawn at random."""
Point = tuple[int, tuple[int, ...]]
"""A grid, and the index of a choice for each of its braces."""


def need_optuna() -> Any:
    """Optuna, imported when it is asked for.

    Raises:
        UserError: it is not installed, or too old to be told of bounds.
    """
    remedy = "--trials needs the package optuna, 5.0 or later: pip install 'memsplit[optuna]'"
    try:
        import optuna
    except ImportError as error:
        raise UserError(remedy) from error
    if not hasattr(optuna.trial.Trial, "set_constraint"):
        raise UserError(remedy)
    return optuna


class Search:
    """A search.

    Args:
        grids: the space: the union of them.
        specs: the canonical spec of each text that the grids stand for, in their order.
        bounds: a proposal that misses one is told so, with how far.
        trials: different specs to evaluate.
        seed: of the sampler.
    """

    def __init__(self, grids: Sequence[Grid], specs: Sequence[str], bounds: Bounds, trials: int, seed: int) -> None:
        self.optuna = need_optuna()
        self.grids = grids
        points = [(g, at) for g, grid in enumerate(grids) for at in itertools.product(*_indices(grid))]
        self.points: dict[Point, str] = dict(zip(points, specs, strict=True))
        self.bounds = bounds
        self.trials = min(trials, len(set(specs)))
        self.seed = seed
        self.tried: set[str] = set()
        self.asked = 0
        self.optuna.logging.set_verbosity(self.optuna.logging.ERROR)
        self.study = self.optuna.create_study(direction="maximize")

    def run(self, evaluate: Callable[[Sequence[str]], Iterable[Row]], at_once: int, first: str | None = None) -> None:
        """Evaluate as many specs as there are trials.

        Args:
            evaluate: gives the row of each spec, in any order.
            at_once: specs a call; what they find is told in the order of their proposal.
            first: a spec of the grid to begin with.
        """
        if first is not None:
            self._enqueue(first)
        while len(self.tried) < self.trials:
            batch = [self._propose() for _ in range(min(at_once, self.trials - len(self.tried)))]
            rows = {row.spec: row for row in evaluate([spec for _, spec in batch])}
            for trial, spec in batch:
                self._tell(trial, rows[spec])

    def _propose(self) -> tuple[Any, str]:
        for n in itertools.count(1):
            trial = self._ask()
            spec = self.points[self._suggest(trial)]
            if spec not in self.tried:
                self.tried.add(spec)
                return trial, spec
            self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
            if n % PATIENCE == 0:
                left = sorted(set(self.points.values()) - self.tried)
                self._enqueue(random.Random(self.seed + self.asked).choice(left))  # noqa: S311 (no secret)
        raise AssertionError

    def _ask(self) -> Any:
        """A trial by a sampler of its own seed, so that nothing hangs on how many were drawn by this process."""
        self.asked += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self.optuna.exceptions.ExperimentalWarning)
            self.study.sampler = self.optuna.samplers.TPESampler(
                n_startup_trials=RANDOM,
                seed=self.seed * 1_000_003 + self.asked,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        return self.study.ask()

    def _suggest(self, trial: Any) -> Point:
        which = trial.suggest_categorical("grid", range(len(self.grids))) if len(self.grids) > 1 else 0
        at = []
        for b, brace in enumerate(self.grids[which].braces):
            name, n = f"grid {which}, brace {b}: {brace.text}", len(brace.choices)
            at.append(trial.suggest_int(name, 0, n - 1) if brace.ordered else trial.suggest_categorical(name, range(n)))
        return which, tuple(at)

    def _enqueue(self, spec: str) -> None:
        which, at = next(point for point, found in self.points.items() if found == spec)
        braces = self.grids[which].braces
        named = {f"grid {which}, brace {b}: {brace.text}": at[b] for b, brace in enumerate(braces)}
        self.study.enqueue_trial({"grid": which, **named})

    def _tell(self, trial: Any, row: Row) -> None:
        trial.set_user_attr("spec", row.spec)
        for name, excess in self.bounds.excess(row).items():
            trial.set_constraint(name, excess)
        score = row.metric("split_score")
        if math.isnan(score):
            self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(trial, score)


def _indices(grid: Grid) -> list[range]:
    return [range(len(brace.choices)) for brace in grid.braces]
