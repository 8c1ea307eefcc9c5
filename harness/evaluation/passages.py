"""Score passages alone, by one teacher-forced pass: all that an attacked model, or the unseen counterpart, is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import pandas as pd

from ...results.records.axes import LOG_PROB
from ...results.records.score_cache import Scores
from ...results.records.tables import ANSWERS, ITEMS
from ...tasks.suite import TaskSpec
from ..lm.adapter import MemsplitLM
from ..lm.forward import teacher_forced
from .request import passage_tasks
from .scoring import Scorer, cluster_of, group_of

VERSION = 1
"""The version of what :meth:`PassageScorer.score` computes: raise it when a figure or a row changes."""


class PassageScorer:
    """Scores the passages of a suite's tasks.

    Args:
        scorer: of the suite, for the evaluated model.

    Attributes:
        parts: the tasks whose items are passages.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.parts = passage_tasks(scorer.parts)
        self._scorer = scorer

    @cached_property
    def _passages(self) -> dict[str, list[tuple[dict[str, Any], int]]]:
        """By task, each passage's document, and how many tokens of the evaluated model its suffix has."""
        docs = {part.task: self._scorer.docs(part.task) for part in self.parts}
        return {
            task: [(doc, len(self._scorer.lm.passage(doc)[1])) for doc in of_task] for task, of_task in docs.items()
        }

    def too_long(self, lm: MemsplitLM) -> Iterator[str]:
        """The passages that another model cannot read at once, one line each."""
        for doc in (doc for asked in self._passages.values() for doc, _ in asked):
            if (tokens := lm.tokens(doc)) > lm.max_length:
                yield f"{doc['id']!r} has {tokens} tokens, and its context is {lm.max_length}"

    def score(self, weights: str | None, enter: Callable[[], AbstractContextManager[MemsplitLM]]) -> pd.DataFrame:
        """The items (see ``statistics.aggregate``) of ``strict``, ``token_accuracy``, ``log_prob`` and ``mia_loss``.

        ``log_prob`` is of the whole suffix over the number of the *evaluated* model's tokens in it, so that models
        with other tokenizers can be compared by it.

        Args:
            weights: names the weights that are scored; ``None`` keeps no scores, and reads none.
            enter: makes the model with these weights; called only where no scores of them are kept.
        """
        scorer = self._scorer
        tasks = {
            part.task: [part.axis, scorer.fingerprints[part.task], [n for _, n in self._passages[part.task]]]
            for part in self.parts
        }
        about = {"passages": VERSION, "weights": weights, "tasks": tasks, **scorer.settings}
        kept = None if scorer.rescore or weights is None else scorer.store.load(about)
        if kept is not None:
            return kept.items
        with enter() as lm:
            rows = [row for part in self.parts for row in self._rows(part, lm)]
        items = pd.DataFrame(rows, columns=ITEMS)
        if weights is not None:
            scorer.store.save(about, Scores(items, pd.DataFrame(columns=ANSWERS), 0.0))
        return items

    def _rows(self, part: TaskSpec, lm: MemsplitLM) -> list[tuple[Any, ...]]:
        asked = self._passages[part.task]
        passages = [lm.passage(doc) for doc, _ in asked]
        found = teacher_forced(lm.model, passages, batch=lm.batch)
        rows: list[tuple[Any, ...]] = []
        for item, ((doc, tokens), (_, suffix), stats) in enumerate(zip(asked, passages, found, strict=True)):
            first = stats.suffix(stats.rank) == 0
            figures = {
                "strict": float(first.all() and not lm.ends().intersection(suffix)),
                "token_accuracy": float(first.mean()),
                LOG_PROB: float(stats.suffix(stats.log_p).sum()) / tokens,
                "mia_loss": float(stats.log_p.mean()),
            }
            about = (cluster_of(doc) or str(item), group_of(doc))
            rows += [(part.task, part.axis, metric, item, value, 1, *about) for metric, value in figures.items()]
        return rows
