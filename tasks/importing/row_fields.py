"""The fields of a pack in rows of other files, by the names that they have there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import UserError, unknown

NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "case_id", "known_id", "example_id"),
    "split": ("split",),
    "document": ("document", "doc_index", "doc_id", "document_id"),
    "prefix_ids": ("prefix_ids",),
    "suffix_ids": ("suffix_ids",),
    "ids": ("ids", "input_ids", "token_ids"),
    "prefix_text": ("prefix_text", "prefix", "prompt"),
    "suffix_text": ("suffix_text", "suffix", "target_suffix", "gt", "continuation", "completion"),
    "text": ("text", "content"),
    "question": ("question", "requested_rewrite.prompt", "prompt"),
    "answer": ("answer", "requested_rewrite.target_true.str", "attribute"),
    "wrong": ("wrong", "perturbed_answer", "requested_rewrite.target_new.str"),
    "aliases": ("aliases",),
    "subject": ("subject", "requested_rewrite.subject"),
    "relation": ("relation", "relation_id", "requested_rewrite.relation_id"),
    "fact": ("fact",),
    "dose": ("dose",),
    "population": ("population",),
    "choices": ("choices",),
    "gold": ("gold",),
    "truth": ("truth",),
    "recalled": ("recalled",),
}
"""Where a pack's field stands in other files, the first place that is there; a dot leads into an object or a list."""


class RowFields:
    """A row of another file, asked by the names of a pack's fields.

    Args:
        row: the row.
        places: where fields are, in place of :data:`NAMES`.
    """

    def __init__(self, row: Mapping[str, Any], places: Mapping[str, str]) -> None:
        self.row = row
        self._given = places

    def find(self, name: str) -> Any:
        """The value of a field; ``None`` where the row has none.

        Raises:
            UserError: the user has said where it is, and the row has no such field.
        """
        return self._at(name)[1]

    def ids(self, name: str) -> list[int]:
        """The token ids of a field; none where the row has none.

        Raises:
            UserError: as for :meth:`find`, or it is no list of ids.
        """
        place, value = self._at(name)
        if value is not None and not (isinstance(value, list) and all(type(i) is int and i >= 0 for i in value)):
            raise UserError(f"expected a list of token ids in {place!r}")
        return value or []

    def text(self, name: str) -> str | None:
        """The text of a field; ``None`` where the row has none.

        Raises:
            UserError: as for :meth:`find`, or it is no text.
        """
        place, value = self._at(name)
        if value is not None and not isinstance(value, str):
            raise UserError(f"expected text in {place!r}, found {type(value).__name__}")
        return value

    def texts(self, name: str) -> list[str]:
        """The texts of a field that holds one or a list of them, stripped; a number is a text too.

        Raises:
            UserError: as for :meth:`find`, or it holds something else.
        """
        place, value = self._at(name)
        values = [v for v in (value if isinstance(value, list) else [value]) if v is not None]
        for v in values:
            if isinstance(v, bool) or not isinstance(v, str | int | float):
                raise UserError(f"expected text or a list of texts in {place!r}, found {type(v).__name__}")
        return [str(v).strip() for v in values]

    def has(self, *names: str) -> bool:
        """Whether the row has a value in each of the fields."""
        return all(self.find(name) is not None for name in names)

    def is_blank(self, *names: str) -> bool:
        """Whether one of the fields is there, and all of its places that are there hold nothing but white space."""
        return any(self._blank(name) for name in names)

    def _blank(self, name: str) -> bool:
        values = [value for there, value in (at(self.row, place) for place in self._places(name)) if there]
        return bool(values) and all(map(_is_blank, values))

    def others(self) -> dict[str, Any]:
        """The fields of the row that were not looked in for any field of a pack."""
        looked = {place if place in self.row else place.split(".")[0] for name in NAMES for place in self._places(name)}
        return {name: value for name, value in self.row.items() if name not in looked}

    def _places(self, name: str) -> tuple[str, ...]:
        return (self._given[name],) if name in self._given else NAMES[name]

    def _at(self, name: str) -> tuple[str, Any]:
        """The place of a field and its value: the first that is not blank, else the first that is not null."""
        places = self._places(name)
        found = [(place, *at(self.row, place)) for place in places]
        if name in self._given and not found[0][1]:
            raise unknown("field", places[0], fields(self.row))
        there = [(place, value) for place, _, value in found if value is not None]
        return next((each for each in there if not _is_blank(each[1])), (there or [(places[0], None)])[0])


def _is_blank(value: Any) -> bool:
    """Whether a value is null or nothing but white space."""
    return value is None or (isinstance(value, str) and not value.strip())


def at(value: Any, path: str) -> tuple[bool, Any]:
    """Whether a path leads anywhere in a row, and the value there; a name with a dot in it comes before a path."""
    if isinstance(value, dict) and path in value:
        return True, value[path]
    head, dot, rest = path.partition(".")
    if isinstance(value, dict) and dot and head in value:
        return at(value[head], rest)
    if isinstance(value, list) and re.fullmatch("[0-9]{1,9}", head) and int(head) < len(value):
        return at(value[int(head)], rest) if dot else (True, value[int(head)])
    return False, None


def fields(row: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The paths of a row's fields, and of those of the objects in it."""
    for name, value in row.items():
        if isinstance(value, dict) and value:
            yield from fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"
