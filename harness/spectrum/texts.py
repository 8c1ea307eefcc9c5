"""The texts that ``memsplit spectrum`` shows a model, and the places in them that count.

Of each text the positions are counted at which the model predicts what it is asked to give: a passage's suffix, a
task's answer, each given all that comes before it. Clean text is cut where the passages are, so that both are counted
at the same places of their contexts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...tasks import packs
from ...tasks.suite import TaskSpec
from ..evaluation.scoring import cluster_of
from ..evaluation.session import EvalSession
from ..models.token_ids import text_ids

KINDS = ("memorized", "twins", "clean")
"""Texts of the pack; a task that asks them is known by their name."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """One text.

    Attributes:
        kind: what it is of.
        name: its own.
        cluster: what others are about too.
        ids: its tokens.
        start: the first that is asked for.
    """

    kind: str
    name: str
    cluster: str
    ids: list[int]
    start: int

    def counted(self, everywhere: bool) -> range:
        """The places whose next token is asked for, or all that have a next token."""
        return range(0 if everywhere else self.start - 1, len(self.ids) - 1)


def texts(session: EvalSession) -> Iterator[Text]:
    """The pack's passages and clean text, then each task's items.

    Raises:
        UserError: the pack lacks memorized passages or clean text, or a line of theirs is broken.
    """
    lm, request = session.scorer.lm, session.request
    pack = packs.find(session.loaded.entry.pack)
    cuts = []
    for kind in ("memorized", *(["twins"] if pack.has("twins") else [])):
        rows = pack.rows(kind, request.split)[: request.limit]
        for row in rows:
            prefix, suffix = lm.passage(row)
            cuts.append((len(prefix), len(suffix)))
            yield _text(session, kind, row["id"], row, prefix, suffix)
    given, asked = (int(statistics.median(lengths)) for lengths in zip(*cuts, strict=True))
    for row in pack.rows("clean", request.split)[: request.limit]:
        ids = [*lm.start, *text_ids(row, lm.tokenizer)]
        cut = min(given, len(ids) // 2)
        yield _text(session, "clean", row["id"], row, ids[:cut], ids[cut : cut + asked])
    for part in session.parts:
        if not set(part.kind.split("+")) <= set(KINDS):
            yield from _task_texts(session, part)


def _text(
    session: EvalSession, kind: str, name: str, row: Mapping[str, Any], given: list[int], asked: list[int]
) -> Text:
    """What is too long for the model loses its beginning, as in lm-eval."""
    ids = [*given, *asked]
    over = max(0, len(ids) - session.scorer.lm.max_length)
    start = max(1, len(given) - over)
    return Text(kind=kind, name=name, cluster=cluster_of(row) or name, ids=ids[over:], start=start)


def _task_texts(session: EvalSession, part: TaskSpec) -> Iterator[Text]:
    """Each item's prompt, as it is sent to the model, and its answer."""
    lm, task = session.scorer.lm, session.scorer.tasks[part.task]
    requests: dict[int, list[Any]] = {}
    for request in task.instances:
        requests.setdefault(request.doc_id, []).append(request)
    for doc_id, of_doc in requests.items():
        doc = of_doc[0].doc
        if "suffix_text" in doc:
            given, asked = lm.passage(doc)
        else:
            given, asked = lm._encode_pair(*_asked(task, doc, of_doc))
        if asked:
            yield _text(session, part.task, str(doc_id), doc, given or [lm.prefix_token_id], asked)


def _asked(task: Any, doc: Mapping[str, Any], requests: Sequence[Any]) -> tuple[str, str]:
    """An item's prompt and right answer, as texts; of several right ones, the first."""
    arguments = [request.args for request in requests]
    if requests[0].request_type == "loglikelihood_rolling":
        return "", arguments[0][0]
    target = task.doc_to_text(doc) if getattr(task, "multiple_input", 0) else task.doc_to_target(doc)
    if requests[0].request_type == "loglikelihood":
        prompt, answer = arguments[target if isinstance(target, int) and 0 <= target < len(arguments) else 0]
        return prompt, answer
    target = target[0] if isinstance(target, list) and target else target
    return arguments[0][0], f"{task.config.target_delimiter}{target}"


def table(texts: Sequence[Text], everywhere: bool) -> pd.DataFrame:
    """One row a text: what it is of, its name and cluster, and how many of its tokens count."""
    rows = [(text.kind, text.name, text.cluster, len(text.counted(everywhere))) for text in texts]
    return pd.DataFrame(rows, columns=["kind", "text", "cluster", "tokens"])


def kind_of(part: TaskSpec) -> str:
    """The name that a task's texts go by."""
    first = part.kind.split("+")[0]
    return first if first in KINDS else part.task
