"""Transcripts: what a model generated for each item and what was expected, for people to look at; never scored.

A text is a list of pieces, one for each token, so that two texts can be compared token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...tasks.suite import TaskSpec

Key = tuple[str | None, int | None]
"""An item: its task's name and its number within the task."""


class Transcript(NamedTuple):
    """What was expected and what was generated, as pieces."""

    gold: list[str]
    generated: list[str]


def is_open(doc: Mapping[str, Any] | None) -> bool:
    """Whether an item has an answer, and not several choices to answer with."""
    return doc is not None and "answer" in doc and len(doc.get("choices") or ()) < 2


def pieces(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[str]:
    """The text that each token adds; joined, the whole text.

    A character that several tokens make up belongs to the last of them.
    """
    found, before = [], ""
    for end in range(1, len(ids) + 1):
        text = decode(ids[:end])
        whole = end == len(ids) or not text.endswith("\N{REPLACEMENT CHARACTER}")
        found.append(text[len(before) :] if whole else "")
        before = text if whole else before
    return found


def rows(
    part: TaskSpec, task: Any, samples: Iterable[Mapping[str, Any]], transcripts: Mapping[Key, Transcript]
) -> list[tuple[str, int, str, list[str], list[str]]]:
    """One row (task, item, prompt, gold, generated) for each item that has an answer; held-out text has none.

    White space at the start and end of a text belongs to the prompt's form, and is left out.

    Args:
        part: the task.
        task: lm-eval's object of it.
        samples: lm-eval's log of each item and filter.
        transcripts: the adapter's; for other items, the likeliest choice or the text stands for what was generated.
    """
    found = []
    for sample in samples:
        if sample["filter"] == part.filter:
            item = part.task, int(sample["doc_id"])
            transcript = transcripts.get(item) or _of_results(task, sample)
            if transcript:
                gold, generated = map(_stripped, transcript)
                found.append((*item, _prompt(task, sample["doc"]), gold, generated))
    return found


def _stripped(text: list[str]) -> list[str]:
    return [text[0].lstrip(), *text[1:-1], text[-1].rstrip()] if len(text) > 1 else [piece.strip() for piece in text]


def _prompt(task: Any, doc: Mapping[str, Any]) -> str:
    return str(doc.get("prefix_text") or doc.get("question") or doc.get("prompt") or task.doc_to_text(doc))


def _of_results(task: Any, sample: Mapping[str, Any]) -> Transcript | None:
    """An item's transcript from what lm-eval logs of it; ``None`` where it has no answer."""
    doc, results = sample["doc"], sample["filtered_resps"]
    kind = task.OUTPUT_TYPE
    if kind == "generate_until":
        return None if doc.get("probe") else Transcript([str(task.doc_to_target(doc))], [str(results[0])])
    if kind not in ("loglikelihood", "multiple_choice"):
        return None
    choices = list(task.doc_to_choice(doc)) if kind == "multiple_choice" else [str(task.doc_to_target(doc))]
    if is_open(doc):
        greedy = (text for text, (_, is_greedy) in zip(choices, results, strict=False) if is_greedy)
        return Transcript([choices[0]], [next(greedy, "")])
    if kind == "loglikelihood":
        return Transcript(choices, choices if results[0][1] else [""])
    target = task.doc_to_target(doc)
    likeliest = max(range(len(choices)), key=lambda i: results[i][0]) if len(results) >= len(choices) else None
    if likeliest is None or not isinstance(target, int | str):
        return None
    return Transcript([str(choices[target] if isinstance(target, int) else target)], [str(choices[likeliest])])
