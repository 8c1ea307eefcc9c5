"""The passages: read as an import reads them, without near-duplicates, and dealt to the doses."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ...errors import UserError
from ...tasks import packs
from ...tasks.dedup import groups
from ...tasks.importing import cuts, foreign
from ...tasks.importing.assembly import Given, assemble
from ...tasks.importing.row_fields import RowFields
from ..models import pack_import
from ..models.token_ids import passage_ids, start_ids
from .request import PlantingRequest

Row = dict[str, Any]
SAME_DOCUMENT = "of a document that another is of"
NEAR_DUPLICATES, NO_SHARE = "near-duplicates of others", "that make no equal share"
"""Why passages are left out, beside what an import leaves out."""


def read(request: PlantingRequest, tokenizer: Any, model: str) -> tuple[list[Row], Counter[str]]:
    """The passages as rows of a pack, with their ids; and how many were left out, by the reason.

    Of passages of one document the first is kept: passages of a low dose, and twins, would be of documents that the
    model has met parts of more often. So is the first of passages that are near to one another: a passage would be met
    more often than its dose says.

    Args:
        request: the files, and how they are read.
        tokenizer: the model's.
        model: its name.

    Raises:
        UserError: a row cannot be read, or a text is shorter than a prefix and a suffix together.
    """
    sizes = (request.prefix, request.suffix)
    ends = pack_import.token_ends(tokenizer, model)
    by_tokens = cuts.by_tokens(*sizes, ends)

    def cut(text: str) -> tuple[str, str] | None:
        if text.strip():
            _check_length(len(ends(text)), request)
        return by_tokens(text)

    reading = foreign.Reading(
        kind="memorized", places=request.places, prefix=sizes[0], suffix=sizes[1], cut=cut, relation=""
    )
    given = _long_enough(pack_import.read(request.passages), request)
    files, left_out = assemble(given, reading, request.splitting)
    rows = [_with_ids(row, tokenizer) for row in files["memorized"]]
    pack_import.spell({"memorized": rows}, tokenizer, model)
    first: dict[object, Row] = {}
    for n, row in enumerate(rows):
        first.setdefault(row.get("document", n), row)
    alone = list(first.values())
    kept = sorted(min(group) for group in groups(alone, [()] * len(alone)))
    left_out[SAME_DOCUMENT] = len(rows) - len(alone)
    left_out[NEAR_DUPLICATES] = len(alone) - len(kept)
    return [alone[i] for i in kept], +left_out


def deal(rows: Sequence[Row], doses: Sequence[int], seed: int) -> tuple[list[Row], int]:
    """The passages with their doses, the highest first, and how many make no equal share.

    Each split is dealt by itself: every dose, and dose 0, has equally many passages of it.

    Args:
        rows: the passages.
        doses: above 0.
        seed: of the deal.

    Raises:
        UserError: a split has too few passages to give every dose one.
    """
    every = sorted({0, *doses}, reverse=True)
    dealt: list[Row] = []
    for split in packs.SPLITS:
        of_split = sorted((row for row in rows if row["split"] == split), key=lambda row: str(row["id"]))
        random.Random(f"deal:{seed}:{split}").shuffle(of_split)  # noqa: S311 (a design, not a secret)
        each = len(of_split) // len(every)
        if not each:
            raise UserError(
                f"too few passages: {len(of_split)} found in the part {split!r}, expected {len(every)} at least, one "
                f"for each of the doses {', '.join(map(str, reversed(every)))}, and each of a document of its own"
            )
        dealt += [{**row, "dose": every[n // each]} for n, row in enumerate(of_split[: each * len(every)])]
    return sorted(dealt, key=lambda row: -row["dose"]), len(rows) - len(dealt)


def ids(row: Row) -> list[int]:
    """The tokens of a passage as they are planted, without any start."""
    return [*row["prefix_ids"], *row["suffix_ids"]]


def _long_enough(given: Iterable[Given], request: PlantingRequest) -> Iterator[Given]:
    """The rows; one of ids that are not cut yet must have as many as a prefix and a suffix."""
    for one in given:
        fields = RowFields(one.row if isinstance(one.row, dict) else {}, request.places)
        try:
            if not fields.has("prefix_ids", "suffix_ids") and (whole := fields.ids("ids")):
                _check_length(len(whole), request)
        except UserError as error:
            raise one.error(error) from error
        yield one


def _check_length(length: int, request: PlantingRequest) -> None:
    whole = request.prefix + request.suffix
    if length < whole:
        raise UserError(
            f"the passage has {length} tokens: expected {whole} at least, --prefix {request.prefix} and "
            f"--suffix {request.suffix} together"
        )


def _with_ids(row: Row, tokenizer: Any) -> Row:
    """The row with the ids of its parts, without a start; its texts are blank where the ids are cut elsewhere."""
    prefix, suffix = passage_ids(row, tokenizer, ())
    start = start_ids(tokenizer)
    if start and prefix[: len(start)] == start:
        prefix = prefix[len(start) :]
    if not (prefix and suffix):
        raise UserError(f"{row['source']}, {row['line']}: the passage has no token in its prefix or suffix")
    row = {name: value for name, value in row.items() if name != "population"}
    spelled = tokenizer.decode(prefix).split() == row["prefix_text"].split()
    texts = {} if spelled and row["suffix_text"] else {"prefix_text": "", "suffix_text": ""}
    return {**row, "prefix_ids": prefix, "suffix_ids": suffix, **texts}
