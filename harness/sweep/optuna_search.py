"""A search of a grid within a budget: Optuna proposes specs, and each brace of the grid is a parameter.

Nothing is kept beside the records. A proposal depends only on the seed and on the results before it, so that a search
that is started again, also with more trials, makes the same proposals, reads their records, and continues.
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
"""Proposals that are drawn at random before the sampler learns from results."""
PATIENCE = 4
"""After so many proposals in a row that were tried before, one that was not is drawn at random."""
Point = tuple[int, tuple[int, ...]]
"""Index of a grid, and for each of its braces the index of a choice."""


def need_optuna() -> Any:
    """Import Optuna, an optional dependency.

    Raises:
        UserError: it is not installed, or too old to take constraints.
    """
    remedy = "--trials needs the package optuna, 5.0 or later: pip install 'memsplit[optuna]'"
    try:
        import optuna
    except ImportError as error:
        raise UserError(remedy) from error
    if not hasattr(optuna.trial.Trial, "set_constraint"):
        raise UserError(remedy)
    return optuna


class OptunaSearch:
    """A search for the edit with the highest split score within bounds.

    Args:
        grids: the search space, which is the union of the grids.
        specs: canonical specs of the grids' texts, in their order.
        bounds: constraints; the sampler learns by how far a spec misses them.
        trials: how many different specs to evaluate.
        seed: seed of the sampler.
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
        self.proposed = 0
        self.optuna.logging.set_verbosity(self.optuna.logging.ERROR)
        self.study = self.optuna.create_study(direction="maximize")

    def run(self, evaluate: Callable[[Sequence[str]], Iterable[Row]], at_once: int, first: str | None = None) -> None:
        """Evaluate as many different specs as there are trials.

        Args:
            evaluate: returns the row of each spec, in any order.
            at_once: how many specs each call of ``evaluate`` gets; the sampler learns from them in their order.
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
        """A trial, and its spec, which was not tried before."""
        for n in itertools.count(1):
            trial = self._ask()
            spec = self.points[self._suggest(trial)]
            if spec not in self.tried:
                self.tried.add(spec)
                return trial, spec
            self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
            if n % PATIENCE == 0:
                left = sorted(set(self.points.values()) - self.tried)
                self._enqueue(random.Random(self.seed + self.proposed).choice(left))  # noqa: S311 (no secret)
        raise AssertionError

    def _ask(self) -> Any:
        """A trial by a sampler with its own seed, so that it does not depend on what this process drew before."""
        self.proposed += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self.optuna.exceptions.ExperimentalWarning)
            self.study.sampler = self.optuna.samplers.TPESampler(
                n_startup_trials=RANDOM,
                seed=self.seed * 1_000_003 + self.proposed,
                multivariate=True,
                group=True,
                constant_liar=True,
            )
        return self.study.ask()

    def _suggest(self, trial: Any) -> Point:
        """The point that the sampler suggests for a trial."""
        which = trial.suggest_categorical("grid", range(len(self.grids))) if len(self.grids) > 1 else 0
        at = []
        for b, brace in enumerate(self.grids[which].braces):
            name, n = f"grid {which}, brace {b}: {brace.text}", len(brace.choices)
            at.append(trial.suggest_int(name, 0, n - 1) if brace.ordered else trial.suggest_categorical(name, range(n)))
        return which, tuple(at)

    def _enqueue(self, spec: str) -> None:
        """Make a spec the next proposal."""
        which, at = next(point for point, its_spec in self.points.items() if its_spec == spec)
        braces = self.grids[which].braces
        named = {f"grid {which}, brace {b}: {brace.text}": at[b] for b, brace in enumerate(braces)}
        self.study.enqueue_trial({"grid": which, **named})

    def _tell(self, trial: Any, row: Row) -> None:
        """Report the result of a trial to the sampler."""
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
