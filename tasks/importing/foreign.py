"""Rows of other formats as rows of a pack.

=======================  ================================================================================
what a row is            by which fields it is known (all names: :data:`.row_fields.NAMES`)
=======================  ================================================================================
a passage                ``prefix_ids`` and ``suffix_ids`` (the source work, arXiv 2510.24256; the extraction
                         benchmark of arXiv 2202.07646), or a prefix and a suffix as texts (the source work's quotes;
                         MUSE's ``prompt`` and ``gt``, arXiv 2407.06460)
a text, or ids, to cut   ``text``, or ``ids``; a row that is itself a text
a question               ``question`` and ``answer``, with the wrong answers in ``perturbed_answer`` (TOFU, arXiv
                         2401.06121); ``prompt`` and ``attribute`` (ROME's known facts) and ``requested_rewrite``
                         (CounterFact), both of arXiv 2202.05262
=======================  ================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import UserError
from ..packs import FIELDS, PASSAGES
from .cuts import Cut, ends
from .row_fields import RowFields

QUESTIONS = ("facts_closed", "facts_open")
EMPTY, SHORT = "without text", "too short to cut"
"""Why a row is left out."""


class LeftOut(Exception):
    """A row cannot be used, for one of the reasons above."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the rows of another format are read.

    Attributes:
        kind: the file of a pack that they belong in.
        places: where fields are, in place of :data:`.row_fields.NAMES`.
        prefix: tokens of the prefix of ids that are not cut yet.
        suffix: tokens of their suffix.
        cut: cuts a text.
        relation: of facts that name none.
    """

    kind: str
    places: Mapping[str, str] = field(default_factory=dict)
    prefix: int
    suffix: int
    cut: Cut
    relation: str

    def row(self, given: Any) -> dict[str, Any]:
        """The pack's row, with ``id``, ``split`` and ``document`` only where the given row has them.

        Facts have their wrong answers as ``wrong``.

        Raises:
            UserError: the row has not the fields of its kind; the message names the field.
            LeftOut: a text is null or white space, or too short to cut.
        """
        given = {"text": given} if isinstance(given, str) else given
        if not isinstance(given, dict):
            raise UserError(f"expected an object or a text, found {type(given).__name__}")
        row = RowFields(given, self.places)
        optional: tuple[str, ...]
        if self.kind in PASSAGES:
            made, optional = self._passage(row), ("dose", "population")
        elif self.kind in QUESTIONS:
            made, optional = self._question(row), ("fact",)
        else:
            made, optional = self._other(row), ("aliases", "fact")
        found = {name: row.find(name) for name in ("id", "split", "document", *optional)}
        return {**{name: value for name, value in found.items() if value is not None}, **made}

    def _passage(self, row: RowFields) -> dict[str, Any]:
        prefix, suffix = row.text("prefix_text"), row.text("suffix_text")
        ids = {name: row.ids(name) for name in ("prefix_ids", "suffix_ids")}
        if all(ids.values()):
            both = bool(prefix and suffix)
            return {**ids, "prefix_text": prefix if both else "", "suffix_text": suffix if both else ""}
        if prefix is None or suffix is None:
            return self._whole(row)
        if not (prefix.strip() and suffix.strip()):
            raise LeftOut(EMPTY)
        return {"prefix_text": prefix, "suffix_text": suffix}

    def _whole(self, row: RowFields) -> dict[str, Any]:
        """A passage of a text, or of ids, that is not cut yet."""
        if ids := row.ids("ids"):
            cut = ends(len(ids), self.prefix, self.suffix)
            if not cut:
                raise LeftOut(SHORT)
            parts = {"prefix_ids": ids[: cut[0]], "suffix_ids": ids[cut[0] : cut[1]]}
            return {**parts, "prefix_text": "", "suffix_text": ""}
        if not row.has("text") and row.is_blank("prefix_text", "suffix_text"):
            raise LeftOut(EMPTY)
        text = self._needed(row, "a prefix and a suffix, a text, or ids", "text")["text"]
        pair = self.cut(text)
        if not pair:
            raise LeftOut(SHORT)
        return {"prefix_text": pair[0], "suffix_text": pair[1]}

    def _question(self, row: RowFields) -> dict[str, Any]:
        self._needed(row, "a question and an answer", "question", "answer")
        answers, subject = row.texts("answer"), row.text("subject")
        if not answers or not answers[0]:
            raise LeftOut(EMPTY)
        aliases = [*answers[1:], *row.texts("aliases")]
        return {
            "question": ask(row.text("question") or "", subject),
            "answer": answers[0],
            "relation": next(iter(row.texts("relation")), self.relation),
            **({"aliases": aliases} if aliases else {}),
            **({"subject": subject} if subject else {}),
            "wrong": row.texts("wrong"),
        }

    def _other(self, row: RowFields) -> dict[str, Any]:
        """A row of another file: its fields as they are."""
        if self.kind == "clean" and (ids := row.ids("ids")):
            return {"ids": ids, "text": row.text("text") or ""}
        names = [name for name in FIELDS[self.kind] if name not in ("id", "split")]
        return self._needed(row, " and ".join(names), *names)

    def _needed(self, row: RowFields, what: str, *names: str) -> dict[str, Any]:
        """The values of fields that a row must have.

        Raises:
            UserError: the row has no such field.
            LeftOut: one is there, but null or white space.
        """
        if row.is_blank(*names):
            raise LeftOut(EMPTY)
        if not row.has(*names):
            raise UserError(
                f"expected {what} for {self.kind}.jsonl, found the fields {', '.join(map(str, row.row)) or '(none)'}; "
                "--field NAME=FIELD says where one is, --as KIND what the rows are"
            )
        return {name: row.text(name) if name == "text" else row.find(name) for name in names}


def kind_of(given: Any, stem: str, places: Mapping[str, str]) -> str:
    """The file of a pack that rows like this one belong in.

    Args:
        given: the first row.
        stem: the name of its file, which decides if a pack has a file of that name.
        places: where the user has said that fields are.
    """
    if stem in FIELDS:
        return stem
    row = RowFields(given if isinstance(given, dict) else {}, {})
    facts = {"question", "answer"}
    told = facts <= {*places, *(name for name in facts if row.has(name))}
    return "facts_closed" if told and not row.has("prefix_text", "suffix_text") else "memorized"


def ask(question: str, subject: str | None) -> str:
    """A question as a pack has it, which the answer continues after one space.

    ``{}`` stands for the subject. A question in words is followed by ``Answer:``; the beginning of a sentence is not.
    """
    whole = (question.replace("{}", subject) if subject else question).strip()
    return f"Question: {whole}\nAnswer:" if whole.endswith("?") else whole
