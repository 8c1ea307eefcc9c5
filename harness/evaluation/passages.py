"""Score passages alone, by one teacher-forced pass: all that an attacked model, or the unseen counterpart, is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from ...files import digest
from ...results.records.axes import LOG_PROB
from ...results.records.score_cache import Scores
from ...results.records.tables import ANSWERS, ITEMS
from ...tasks.suite import TaskSpec
from ..lm.adapter import MemsplitLM
from ..lm.forward import PrefixSuffix, teacher_forced
from ..lm.memory import within_memory
from ..models import token_ids
from .request import passage_tasks
from .scoring import Scorer, cluster_of, group_of

VERSION = 3
"""The version of what :meth:`PassageScorer.score` computes: raise it when a figure, a row or a note changes."""


METRICS = ("strict", "token_accuracy", LOG_PROB, "mia_loss")
"""What a passage is scored by."""


class _Passage(NamedTuple):
    """A passage as the evaluated model has it.

    Attributes:
        doc: its document.
        tokens: how many tokens its suffix has.
        place: where its text is cut (see ``token_ids.place``).
    """

    doc: dict[str, Any]
    tokens: int
    place: int


class PassageScorer:
    """Scores the passages of a suite's tasks.

    Every model is asked the same passages, cut at the same place of their texts.

    Args:
        scorer: of the suite, for the evaluated model.

    Attributes:
        parts: the tasks whose items are passages.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.parts = passage_tasks(scorer.parts)
        self._scorer = scorer

    @cached_property
    def _passages(self) -> dict[str, list[_Passage]]:
        """By task."""
        lm = self._scorer.lm
        return {part.task: [_of_model(doc, lm) for doc in self._scorer.docs(part.task)] for part in self.parts}

    def too_long(self, lm: MemsplitLM) -> Iterator[str]:
        """The passages that another model cannot read at once, one line each."""
        for passage in (passage for of_task in self._passages.values() for passage in of_task):
            if (tokens := sum(map(len, _asked(passage, lm)[0]))) > lm.max_length:
                yield f"{passage.doc['id']!r} has {tokens} tokens, and its context is {lm.max_length}"

    def cut_anew(self, lm: MemsplitLM) -> str:
        """One line that says how many passages another model's own tokens would cut elsewhere, or ``""``."""
        asked = [_asked(passage, lm)[1] for of_task in self._passages.values() for passage in of_task]
        if not any(asked):
            return ""
        return (
            f"{sum(asked)} of {len(asked)} passages are cut for the reference model {lm.pretrained!r} where they are "
            "for the evaluated model, and not where its own tokens would be"
        )

    def score(self, weights: str | None, enter: Callable[[], AbstractContextManager[tuple[MemsplitLM, str]]]) -> Scores:
        """The items (see ``statistics.aggregate``) of ``strict``, ``token_accuracy``, ``log_prob`` and ``mia_loss``.

        ``log_prob`` is of the whole suffix over the number of the *evaluated* model's tokens in it, so that models
        with other tokenizers can be compared by it. All of a passage's are nan where its statistics are not known.

        Args:
            weights: names the weights that are scored; ``None`` keeps no scores, and reads none.
            enter: makes the model with these weights, and a line on them or ``""``; called only where no scores of
                them are kept.
        """
        scorer = self._scorer
        tasks = {
            part.task: [
                part.axis,
                scorer.fingerprints[part.task],
                digest([each[1:] for each in self._passages[part.task]]),
            ]
            for part in self.parts
        }
        about = {"passages": VERSION, "weights": weights, "tasks": tasks, **scorer.settings}
        kept = None if scorer.rescore or weights is None else scorer.store.load(about)
        if kept is not None:
            return kept
        with enter() as (lm, note):
            rows = [row for part in self.parts for row in self._rows(part, lm)]
        items, notes = pd.DataFrame(rows, columns=ITEMS), (note,) if note else ()
        scores = Scores(items, pd.DataFrame(columns=ANSWERS), 0.0, notes)
        if weights is not None:
            scorer.store.save(about, scores)
        return scores

    def unknown(self) -> pd.DataFrame:
        """The items of a model that cannot be made: nan for every passage."""
        rows = [
            row
            for part in self.parts
            for item, passage in enumerate(self._passages[part.task])
            for row in _item(part, item, passage.doc, dict.fromkeys(METRICS, math.nan))
        ]
        return pd.DataFrame(rows, columns=ITEMS)

    def _rows(self, part: TaskSpec, lm: MemsplitLM) -> list[tuple[Any, ...]]:
        of_task = self._passages[part.task]
        asked = [_asked(passage, lm)[0] for passage in of_task]
        found = within_memory(lm, lambda: teacher_forced(lm.model, asked, batch=lm.batch))
        rows: list[tuple[Any, ...]] = []
        for item, ((doc, tokens, _), (_, suffix), stats) in enumerate(zip(of_task, asked, found, strict=True)):
            first = stats.suffix(stats.rank) == 0
            values = (
                float(first.all() and not lm.ends().intersection(suffix)),
                float(first.mean()),
                float(stats.suffix(stats.log_p).sum()) / tokens,
                float(stats.log_p.mean()),
            )
            figures = zip(METRICS, values if stats.known else [math.nan] * len(METRICS), strict=True)
            rows += _item(part, item, doc, dict(figures))
        return rows


def _item(part: TaskSpec, item: int, doc: dict[str, Any], figures: Mapping[str, float]) -> list[tuple[Any, ...]]:
    """The rows of a passage, one a metric."""
    about = (cluster_of(doc) or str(item), group_of(doc))
    return [(part.task, part.axis, metric, item, value, 1, *about) for metric, value in figures.items()]


def _of_model(doc: dict[str, Any], lm: MemsplitLM) -> _Passage:
    prefix, suffix = token_ids.passage_ids(doc, lm.tokenizer, [])
    return _Passage(doc, len(suffix), token_ids.place(_text(doc), prefix, lm.tokenizer))


def _asked(passage: _Passage, lm: MemsplitLM) -> tuple[PrefixSuffix, bool]:
    """A passage's ids under a model, and whether its own tokens would cut the text elsewhere.

    There its two parts are encoded each by itself, so that the model is asked the text that the evaluated one is.
    """
    doc, _, place = passage
    if _of_model(doc, lm).place == place:
        return lm.passage(doc), False
    text = _text(doc)
    prefix, suffix = (token_ids.encode(part, lm.tokenizer) for part in (text[:place], text[place:]))
    return (token_ids.begun(prefix, lm.start), suffix), True


def _text(doc: dict[str, Any]) -> str:
    return f"{doc['prefix_text']}{doc['suffix_text']}"
