"""Rows of other formats, read one by one, as the files of a pack: with ids, splits, and choices among wrong answers."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from .. import packs
from ..dedup import asked
from ..extra_fields import uniform
from .foreign import QUESTIONS, LeftOut, Reading
from .row_fields import NAMES, RowFields
from .splitting import Splitting

CHOICES = "facts_choice"
"""The file of questions with choices, which is made beside one of questions."""
WRONG = 3
"""Wrong answers of a question with choices."""
_OURS = frozenset({*NAMES, *packs.KNOWN, "pack", "probe", "others", "level", "source", "line", "given_id"})
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Given:
    """A row of a file, and where it stands: ``unit`` is what ``number`` counts, lines or rows from 1 on."""

    file: Path
    unit: str
    number: int
    row: Any

    def error(self, problem: object) -> UserError:
        """The error that names the place."""
        return UserError(f"{self.file}, {self.unit} {self.number}: {problem}")


def assemble(
    given: Iterable[Given], reading: Reading, splitting: Splitting
) -> tuple[dict[str, list[Row]], Counter[str]]:
    """The files of a pack by kind, and how many rows were left out, by the reason.

    Exact duplicates are left out. Questions that have enough wrong answers are also asked with choices.

    Raises:
        UserError: a row is not of its kind, no row is left, or the splits are unknown; the message names the place.
    """
    left_out: Counter[str] = Counter()
    rows: dict[object, tuple[Given, Row]] = {}
    for one in given:
        try:
            row = reading.row(one.row)
        except LeftOut as reason:
            left_out[str(reason)] += 1
            continue
        except UserError as error:
            raise one.error(error) from error
        left_out["duplicates"] += rows.setdefault(asked(row), (one, row))[0] is not one
    if not rows:
        raise UserError(f"no row is left of {left_out.total()}: {_told(left_out) or 'the file has none'}")
    places, made = [one for one, _ in rows.values()], [row for _, row in rows.values()]
    if reading.kind == "corpus":
        return {"corpus": [{"text": row["text"]} for row in made]}, +left_out
    _name(places, made, reading.kind)
    for row, split in zip(made, splitting.splits(places, made, reading.kind), strict=True):
        row["split"] = split
    wrong = [row.pop("wrong", []) for row in made]
    extras = [_extras(one, reading) for one in places]
    files = {reading.kind: _checked(places, made, extras, reading.kind)}
    if reading.kind in QUESTIONS:
        choices = _choices(files[reading.kind], wrong, splitting.seed)
        files |= {CHOICES: choices} if choices else {}
    return files, +left_out


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)


def _name(places: Sequence[Given], rows: Sequence[Row], kind: str) -> None:
    """Give each row an id of its own: its own as text, or numbers for all if one is missing or there twice."""
    for one, row in zip(places, rows, strict=True):
        if not isinstance(row.get("id", ""), str | int) or isinstance(row.get("id"), bool):
            raise one.error(f"expected a text or a whole number as 'id', found {type(row['id']).__name__}")
    ids = [str(row.get("id", "")) for row in rows]
    distinct = all(ids) and len(set(ids)) == len(ids)
    for n, (row, own) in enumerate(zip(rows, ids, strict=True)):
        row["id"] = own if distinct else f"{kind}-{n}"
        row |= {"given_id": own} if own and not distinct else {}


def _extras(one: Given, reading: Reading) -> Row:
    """The fields of a row that a pack does not know, lists and objects left out; and where it is from."""
    others = RowFields(one.row, reading.places).others() if isinstance(one.row, dict) else {}
    kept = {n: v for n, v in others.items() if n not in _OURS and not isinstance(v, list | dict)}
    return {**kept, "source": one.file.name, "line": one.number}


def _checked(places: Sequence[Given], rows: Sequence[Row], extras: Sequence[Row], kind: str) -> list[Row]:
    """The whole rows, the id first.

    Raises:
        UserError: a row is not one of a pack.
    """
    whole: list[Row] = []
    for one, row, extra in zip(places, rows, extras, strict=True):
        if "document" in row:
            row["document"] = str(row["document"])
        if kind in QUESTIONS:
            row["fact"] = str(row.get("fact", row["id"]))
        for fault in packs.faults(row, kind):
            raise one.error(fault)
        whole.append({"id": row["id"], "split": row["split"], **row, **extra})
    return uniform(whole, packs.KNOWN)


def _choices(rows: Sequence[Row], wrong: Sequence[Sequence[str]], seed: int) -> list[Row]:
    """The questions with choices: the answer, and :data:`WRONG` wrong ones in an order drawn by id and seed.

    Wrong answers are the row's own, and for a fact of a subject, after those, answers to others of its relation.
    Questions that have too few are left out.
    """
    of_relation: dict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        of_relation[row["relation"]] |= {row["answer"]: None} if row.get("subject") else {}
    made = []
    for row, own in zip(rows, wrong, strict=True):
        rng = random.Random(f"{seed}:{row['id']}")  # noqa: S311 (items, not secrets)
        drawn = list(of_relation[row["relation"]]) if own and row.get("subject") else []
        rng.shuffle(drawn)
        choices = [row["answer"]]
        for other in [*rng.sample(own, len(own)), *drawn]:
            if len(choices) <= WRONG and not any(_alike(other, text) for text in [*choices, *row.get("aliases", [])]):
                choices.append(other)
        if len(choices) > WRONG:
            rng.shuffle(choices)
            made.append({**row, "choices": choices, "gold": choices.index(row["answer"])})
    return made


def _alike(a: str, b: str) -> bool:
    """Whether one answer contains the other."""
    a, b = a.casefold(), b.casefold()
    return not a or a in b or b in a
