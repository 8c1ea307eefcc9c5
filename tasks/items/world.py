"""Facts as questions: closed book, by choice, open book, and open book with a context that says otherwise.

A folder's ``facts.jsonl`` holds one fact a line, ``relations.json`` how the facts of each relation are asked: as the
beginning of a sentence that the answer ends (arXiv 1909.01066), in three wordings (arXiv 2102.01017). :func:`rows`
makes rows of the kinds in :data:`KINDS` from them. All random choices for a fact are seeded by its id, so that its
questions are the same every time. The false answer in a context is that of another fact of the same type
(arXiv 2109.05052).
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import UserError, unknown

FACTS, RELATIONS = "facts.jsonl", "relations.json"
KINDS = ("facts_closed", "facts_choice", "facts_open", "facts_counterfactual")
WORDINGS, WRONG, BESIDE = 3, 3, 2
"""How many wordings a relation has, wrong choices a question, and statements a context beside the one that matters."""
Fact = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Phrasing:
    """How the facts of one relation are put into words.

    Attributes:
        type: the answers' type; relations of one type share their wrong answers.
        wordings: three texts with ``{subject}``, which the answer continues after one space.
        context: a statement with ``{subject}`` and ``{answer}``.
    """

    type: str
    wordings: tuple[str, ...]
    context: str

    def state(self, subject: str, answer: str) -> str:
        """The statement that ``answer`` is the answer for ``subject``."""
        return self.context.format(subject=subject, answer=answer)


def read_relations(path: Path) -> dict[str, Phrasing]:
    """The phrasings in a ``relations.json``, by relation.

    Raises:
        UserError: the file cannot be read, or a relation does not fit :class:`Phrasing`; the message names it.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"the pack's {path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object, found {type(content).__name__}")
    return {name: _relation(f"{path}, relation {name!r}", value) for name, value in content.items()}


def _relation(where: str, value: object) -> Phrasing:
    if not isinstance(value, dict) or value.keys() != {"type", "wordings", "context"}:
        raise UserError(f"{where}: expected an object of 'type', 'wordings' and 'context'")
    kind, wordings, context = value["type"], value["wordings"], value["context"]
    if not isinstance(kind, str):
        raise UserError(f"{where}: expected a str 'type'")
    if not isinstance(wordings, list) or not all(_asks(w, {"subject"}) and w == w.rstrip() for w in wordings):
        raise UserError(f"{where}: expected 'wordings' with {{subject}} that end without a space")
    if len(set(wordings)) != WORDINGS or len(wordings) != WORDINGS:
        raise UserError(f"{where}: expected {WORDINGS} different wordings, found {len(set(wordings))}")
    if not _asks(context, {"subject", "answer"}):
        raise UserError(f"{where}: expected a 'context' with {{subject}} and {{answer}}")
    return Phrasing(type=kind, wordings=tuple(wordings), context=context)


def _asks(text: object, names: set[str]) -> bool:
    """Whether ``text`` is a template with exactly these placeholders."""
    return isinstance(text, str) and sorted(re.findall(r"{.*?}|[{}]", text)) == sorted(f"{{{name}}}" for name in names)


def rows(kind: str, path: Path, facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """The facts as rows of a kind, in their order; closed book asks each fact once before any a second time.

    Args:
        kind: one of :data:`KINDS`.
        path: the facts' file; ``relations.json`` lies beside it.
        facts: its lines.

    Returns:
        ``id, split, question, answer, aliases, relation, fact``. ``facts_choice`` also ``choices`` and ``gold``, the
        index of the right one. ``facts_counterfactual``: ``answer`` is the false one that the context gives, and
        ``truth`` the right one, which is also the first of ``recalled``, before its aliases.

    Raises:
        UserError: a relation is broken or missing, or has too few other answers; the message names it or the line.
    """
    book = Book(path, facts)
    if kind == "facts_closed":
        return [book.closed(fact, turn) for turn in range(WORDINGS) for fact in facts]
    make = {"facts_choice": book.choice, "facts_open": book.open, "facts_counterfactual": book.counterfactual}[kind]
    return [make(fact) for fact in facts]


class Book:
    """Facts, with the answers and statements that their questions are composed from.

    Args:
        path: the facts' file; ``relations.json`` lies beside it.
        facts: its lines.
    """

    def __init__(self, path: Path, facts: Sequence[Fact]) -> None:
        self.path = path
        self.facts = facts
        self.relations = read_relations(path.parent / RELATIONS)
        for number, fact in enumerate(facts, 1):
            if fact["relation"] not in self.relations:
                problem = unknown("relation", fact["relation"], self.relations)
                raise UserError(f"{path}, line {number}: {problem}")
        self.answers: dict[str, dict[str, list[str]]] = defaultdict(dict)
        """Answers with their aliases, by type."""
        self.right: dict[tuple[str, str], list[str]] = defaultdict(list)
        """All correct answers, including aliases, by type and subject."""
        self.beside: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        """The facts that may share a context, by relation and split."""
        for fact in facts:
            kind = self._type(fact)
            self.answers[kind].setdefault(fact["answer"], fact.get("aliases", []))
            self.right[kind, fact["subject"]] += [fact["answer"], *fact.get("aliases", [])]
            self.beside[fact["relation"], fact["split"]].append(fact)

    def closed(self, fact: Fact, turn: int) -> dict[str, Any]:
        """The question on a fact, in one of its wordings; ``turn`` 0 is the wording that the other kinds use."""
        wording = (_rng(fact, "wording").randrange(WORDINGS) + turn) % WORDINGS
        question = self.relations[fact["relation"]].wordings[wording].format(subject=fact["subject"])
        return {**self._row(fact, question), "id": f"{fact['id']}/{wording}"}

    def choice(self, fact: Fact) -> dict[str, Any]:
        """The question with four answers to choose from."""
        choices = [fact["answer"], *self._wrong(fact)]
        _rng(fact, "choices").shuffle(choices)
        return {**self._row(fact), "choices": choices, "gold": choices.index(fact["answer"])}

    def open(self, fact: Fact) -> dict[str, Any]:
        """The question after three statements, one of which answers it."""
        return self._row(fact, self._after(fact, fact["answer"]))

    def counterfactual(self, fact: Fact) -> dict[str, Any]:
        """The question after three statements, of which the one that answers it is false."""
        false = self._wrong(fact)[0]
        right = self.right[self._type(fact), fact["subject"]]
        aliases = [a for a in self.answers[self._type(fact)][false] if not any(_alike(a, r) for r in right)]
        told = {**self._row(fact, self._after(fact, false)), "answer": false, "aliases": aliases}
        return {**told, "truth": fact["answer"], "recalled": [fact["answer"], *fact.get("aliases", [])]}

    def _row(self, fact: Fact, question: str | None = None) -> dict[str, Any]:
        return {
            "id": fact["id"],
            "split": fact["split"],
            "question": self.closed(fact, 0)["question"] if question is None else question,
            "answer": fact["answer"],
            "aliases": fact.get("aliases", []),
            "relation": fact["relation"],
            "fact": fact["id"],
        }

    def _type(self, fact: Fact) -> str:
        return self.relations[fact["relation"]].type

    def _wrong(self, fact: Fact) -> list[str]:
        """Wrong answers of the same type, none of which could be mistaken for a correct one."""
        right = self.right[self._type(fact), fact["subject"]]
        pool = list(self.answers[self._type(fact)])
        _rng(fact, "wrong").shuffle(pool)
        found = list(islice((a for a in pool if not any(_alike(a, r) for r in right)), WRONG))
        if len(found) < WRONG:
            raise self._few(fact, f"expected {WRONG} other answers of the type {self._type(fact)!r}", found)
        return found

    def _after(self, fact: Fact, answer: str) -> str:
        """The question after statements of its relation; the one about its subject says ``answer``."""
        relation = self.relations[fact["relation"]]
        given = [*self.right[self._type(fact), fact["subject"]], self._wrong(fact)[0]]
        pool = self.beside[fact["relation"], fact["split"]].copy()
        rng = _rng(fact, "beside")
        rng.shuffle(pool)
        statements: list[str] = []
        for other in pool:
            statement = relation.state(other["subject"], other["answer"])
            if len(statements) < BESIDE and not any(_alike(other["answer"], g) or _says(statement, g) for g in given):
                statements.append(statement)
                given.append(other["answer"])
        if len(statements) < BESIDE:
            raise self._few(fact, f"expected {BESIDE} facts of its relation and split with other answers", statements)
        statements.insert(rng.randrange(BESIDE + 1), relation.state(fact["subject"], answer))
        return f"{' '.join(statements)} {self.closed(fact, 0)['question']}"

    def _few(self, fact: Fact, expected: str, found: Sequence[str]) -> UserError:
        return UserError(f"{self.path}, line {self.facts.index(fact) + 1}: {expected}, found {len(found)}")


def _rng(fact: Fact, use: str) -> random.Random:
    return random.Random(f"{use}:{fact['id']}")  # noqa: S311 (items, not secrets)


def _alike(a: str, b: str) -> bool:
    """Whether one answer begins with or contains the other, so that a model that gives one may seem to give both."""
    a, b = a.casefold(), b.casefold()
    return a.startswith(b) or b.startswith(a) or _says(a, b) or _says(b, a)


def _says(text: str, answer: str) -> bool:
    return _words(answer) in _words(text)


@cache
def _words(text: str) -> str:
    words = " ".join(re.findall(r"\.?\w+", text.casefold()))
    return f" {words} "
