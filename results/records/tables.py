"""The tables beside a record's JSON, as data frames: scores of items, and answers."""

from __future__ import annotations

import io

import pandas as pd

from .record import Record

ITEMS = ["task", "axis", "metric", "item", "value", "weight", "cluster", "group"]
"""Columns of scores, a row an item and metric (see ``statistics.aggregate``)."""
ANSWERS = ["task", "item", "prompt", "gold", "answer"]
"""Columns of answers, a row an item; ``gold``, what was expected, and ``answer`` are lists of the tokens' texts."""


def items(record: Record, side: str) -> pd.DataFrame:
    """The scores (``ITEMS``) of a side, ``base`` or ``edit``.

    Raises:
        UserError: their file is damaged or gone.
    """
    return _of_side(record, "items", side)


def answers(record: Record, side: str) -> pd.DataFrame:
    """The answers (``ANSWERS``) of a side, ``base`` or ``edit``.

    Empty where the record has none, or where their file was left out, as it is when records are published.

    Raises:
        UserError: their file is damaged.
    """
    if "answers" not in record.files():
        return pd.DataFrame(columns=ANSWERS)
    return plain_lists(_of_side(record, "answers", side))


def plain_lists(answers: pd.DataFrame) -> pd.DataFrame:
    """The table with Python's lists in place of the arrays that parquet reads."""
    return answers.assign(**{name: [list(cell) for cell in answers[name]] for name in ("gold", "answer")})


def _of_side(record: Record, name: str, side: str) -> pd.DataFrame:
    table = pd.read_parquet(io.BytesIO(record.table(name)))
    return table[table["side"] == side].drop(columns="side").reset_index(drop=True)
