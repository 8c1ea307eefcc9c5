"""The texts that ``memsplit spectrum`` gives a model, and the positions in them that are counted.

Counted are the positions at which the model predicts what it is asked for: the suffix of a passage, or the answer of a
task's item. Clean text is cut where the passages are cut, so that both are counted at the same positions.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...errors import UserError
from ...tasks import packs
from ...tasks.suite import TaskSpec
from ..evaluation.scoring import cluster_of
from ..evaluation.session import EvalSession
from ..models.token_ids import text_ids

KINDS = ("memorized", "twins", "clean")
"""Kinds of text that the pack has. A task about one of them is of that kind; any other task is a kind of its own."""


@dataclass(frozen=True, kw_only=True)
class ProbeText:
    """One text.

    Attributes:
        kind: one of :data:`KINDS`, or the name of a task.
        name: the id of the passage or item.
        cluster: what the text shares with other texts, such as a document or a fact; else its own name.
        ids: its tokens.
        start: index of the first token that the model is asked for.
    """

    kind: str
    name: str
    cluster: str
    ids: list[int]
    start: int

    def counted(self, everywhere: bool) -> range:
        """The positions whose next token the model is asked for or, ``everywhere``, all that have a next token."""
        return range(0 if everywhere else self.start - 1, len(self.ids) - 1)


def texts(session: EvalSession) -> tuple[list[ProbeText], dict[str, int]]:
    """The pack's passages and clean text, then each task's items; and how many of a kind are left out.

    Left out is what is longer than the model's context, of a task's items what its scorer leaves out too.

    Raises:
        UserError: the pack lacks memorized passages or clean text, a line of theirs is broken, or no passage is left.
    """
    most = session.scorer.lm.max_length
    tasks = [part for part in session.parts if _own_kind(part)]
    passages = list(_passages(session))
    kept = [text for text in passages if len(text.ids) <= most]
    if not any(text.kind == KINDS[0] for text in kept):
        raise UserError(f"every memorized passage is longer than the model's context of {most} tokens")
    others = [*_clean(session, kept), *(text for part in tasks for text in _task_texts(session, part))]
    left_out = Counter(text.kind for text in (*passages, *others) if len(text.ids) > most)
    asked = filter(_own_kind, (*session.parts, *session.scorer.skipped))
    left_out.update({part.task: session.scorer.left_out[part.task] for part in asked})
    return [*kept, *(text for text in others if len(text.ids) <= most)], dict(+left_out)


def _own_kind(part: TaskSpec) -> bool:
    """Whether a task's items are a kind of text of their own."""
    return not set(part.kind.split("+")) <= set(KINDS)


def _passages(session: EvalSession) -> Iterator[ProbeText]:
    request, pack = session.request, packs.find(session.loaded.entry.pack)
    for kind in ("memorized", *(["twins"] if pack.has("twins") else [])):
        for row in pack.rows(kind, request.split)[: request.limit]:
            yield _text(kind, row["id"], row, *session.scorer.lm.passage(row))


def _clean(session: EvalSession, passages: Sequence[ProbeText]) -> Iterator[ProbeText]:
    """Clean text, cut where the passages are: after the medians of their prefixes' and suffixes' lengths."""
    lm, request = session.scorer.lm, session.request
    prefix_length = int(statistics.median(text.start for text in passages))
    suffix_length = int(statistics.median(len(text.ids) - text.start for text in passages))
    for row in packs.find(session.loaded.entry.pack).rows("clean", request.split)[: request.limit]:
        ids = text_ids(row, lm.tokenizer, lm.start)
        cut = min(prefix_length, len(ids) // 2)
        yield _text("clean", row["id"], row, ids[:cut], ids[cut : cut + suffix_length])


def _text(kind: str, name: str, row: Mapping[str, Any], prompt: list[int], answer: list[int]) -> ProbeText:
    start = max(1, len(prompt))
    return ProbeText(kind=kind, name=name, cluster=cluster_of(row) or name, ids=[*prompt, *answer], start=start)


def _task_texts(session: EvalSession, part: TaskSpec) -> Iterator[ProbeText]:
    """Each item's prompt, as it is sent to the model, and its answer."""
    lm, task = session.scorer.lm, session.scorer.tasks[part.task]
    requests: dict[int, list[Any]] = {}
    for request in task.instances:
        requests.setdefault(request.doc_id, []).append(request)
    for doc_id, of_doc in requests.items():
        doc = of_doc[0].doc
        if "suffix_text" in doc:
            prompt, answer = lm.passage(doc)
        else:
            prompt, answer = lm._encode_pair(*_prompt_and_answer(task, doc, of_doc))
        if answer:
            yield _text(part.task, str(doc_id), doc, prompt, answer)


def _prompt_and_answer(task: Any, doc: Mapping[str, Any], requests: Sequence[Any]) -> tuple[str, str]:
    """An item's prompt and right answer, as texts; the first answer where several are right."""
    arguments = [request.args for request in requests]
    if requests[0].request_type == "loglikelihood_rolling":
        return "", arguments[0][0]
    target = task.doc_to_text(doc) if getattr(task, "multiple_input", 0) else task.doc_to_target(doc)
    if requests[0].request_type == "loglikelihood":
        prompt, answer = arguments[target if isinstance(target, int) and 0 <= target < len(arguments) else 0]
        return prompt, answer
    target = target[0] if isinstance(target, list) and target else target
    return arguments[0][0], f"{task.config.target_delimiter}{target}"


def table(texts: Sequence[ProbeText], everywhere: bool) -> pd.DataFrame:
    """One row for each text: ``kind, text, cluster, tokens``, where ``tokens`` is how many positions are counted."""
    rows = [(text.kind, text.name, text.cluster, len(text.counted(everywhere))) for text in texts]
    return pd.DataFrame(rows, columns=["kind", "text", "cluster", "tokens"])


def kind_of(part: TaskSpec) -> str:
    """The kind of a task's texts: one of :data:`KINDS`, or the task's name."""
    first = part.kind.split("+")[0]
    return first if first in KINDS else part.task
