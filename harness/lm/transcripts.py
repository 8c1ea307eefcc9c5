"""What a model said to each item, beside what was expected: to be looked at, never scored.

A text is a list of pieces, a token's each, so that two texts can be laid beside one another token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...tasks.suite import TaskSpec


class Said(tuple[float, bool]):
    """A (log-likelihood, is greedy) pair that carries what the model says instead, where it is not greedy.

    Attributes:
        gold: the pieces that were asked for.
        answer: the pieces of the greedy continuation, as many tokens.
    """

    gold: list[str]
    answer: list[str]

    def __new__(cls, pair: tuple[float, bool], gold: list[str], answer: list[str]) -> Said:
        """The pair with the two."""
        self = super().__new__(cls, pair)
        self.gold, self.answer = gold, answer
        return self


def is_open(doc: Mapping[str, Any] | None) -> bool:
    """Whether an item has an answer that is not one of several choices."""
    return doc is not None and "answer" in doc and len(doc.get("choices") or ()) < 2


def pieces(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[str]:
    """What each token adds to the text before it; joined, the whole text. A character's last token brings it."""
    found, before = [], ""
    for end in range(1, len(ids) + 1):
        text = decode(ids[:end])
        whole = end == len(ids) or not text.endswith("\N{REPLACEMENT CHARACTER}")
        found.append(text[len(before) :] if whole else "")
        before = text if whole else before
    return found


def rows(
    part: TaskSpec, task: Any, samples: Iterable[Mapping[str, Any]]
) -> list[tuple[str, int, str, list[str], list[str]]]:
    """One row (task, item, prompt, gold, answer) an item that has an answer; text that is only read has none.

    White space at a text's start and end, which is the prompt's form, is left out.
    """
    found = []
    for sample in samples:
        if sample["filter"] == part.filter and (pair := _pair(task, sample)):
            gold, answer = map(_stripped, pair)
            found.append((part.task, int(sample["doc_id"]), _prompt(task, sample["doc"]), gold, answer))
    return found


def _stripped(text: list[str]) -> list[str]:
    return [text[0].lstrip(), *text[1:-1], text[-1].rstrip()] if len(text) > 1 else [piece.strip() for piece in text]


def _prompt(task: Any, doc: Mapping[str, Any]) -> str:
    return str(doc.get("prefix_text") or doc.get("question") or doc.get("prompt") or task.doc_to_text(doc))


def _pair(task: Any, sample: Mapping[str, Any]) -> tuple[list[str], list[str]] | None:
    """(gold, answer) of an item, as pieces."""
    doc, results = sample["doc"], sample["filtered_resps"]
    kind = task.OUTPUT_TYPE
    if kind == "generate_until":
        found = results[0]
        if hasattr(found, "pieces"):
            return found.gold_pieces, found.pieces
        return None if hasattr(found, "figures") else ([str(task.doc_to_target(doc))], [str(found)])
    if kind not in ("loglikelihood", "multiple_choice"):
        return None
    said = next((result for result in results if isinstance(result, Said)), None)
    if said:
        return said.gold, said.answer
    choices = list(task.doc_to_choice(doc)) if kind == "multiple_choice" else [str(task.doc_to_target(doc))]
    if is_open(doc):
        return [choices[0]], [next((text for text, (_, greedy) in zip(choices, results, strict=False) if greedy), "")]
    if kind == "loglikelihood":
        return choices, choices if results[0][1] else [""]
    target = task.doc_to_target(doc)
    likeliest = max(range(len(choices)), key=lambda i: results[i][0]) if len(results) >= len(choices) else None
    if likeliest is None or not isinstance(target, int | str):
        return None
    return [str(choices[target] if isinstance(target, int) else target)], [str(choices[likeliest])]
