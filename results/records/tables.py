"""The tables beside a record's JSON, as data frames: scores of items, and answers."""

from __future__ import annotations

import io

import pandas as pd

from .record import Record

ITEMS = ["task", "axis", "metric", "item", "value", "weight", "cluster", "group"]
"""Columns of scores, a row an item and metric (see ``statistics.aggregate``)."""
ANSWERS = ["task", "item", "prompt", "gold", "answer"]
"""Columns of answers, a row an item; ``gold``, what was expected, and ``answer`` are lists of the tokens' texts."""
BASE, EDIT, UNSEEN = "base", "edit", "unseen"
"""Sides of a record: the base model, the edited one, and the unseen counterpart. Those of attacks are named by
:func:`attacked`; these and the unseen counterpart's hold passages alone."""


def attacked(side: str, attack: str) -> str:
    """The name of a side after an attack: ``edit+relearn``.

    Args:
        side: ``edit`` or ``unseen``.
        attack: the attack's canonical spec.
    """
    return f"{side}+{attack}"


def sides(record: Record) -> dict[str, pd.DataFrame]:
    """The scores (``ITEMS``) of every side, by its name.

    Raises:
        UserError: their file is damaged or gone.
    """
    table = whole(record, "items")
    return {
        str(side): rows.drop(columns="side").reset_index(drop=True) for side, rows in table.groupby("side", sort=False)
    }


def items(record: Record, side: str) -> pd.DataFrame:
    """The scores (``ITEMS``) of a side; empty where the record has none.

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
    table = whole(record, name)
    return table[table["side"] == side].drop(columns="side").reset_index(drop=True)


def whole(record: Record, name: str) -> pd.DataFrame:
    """A table of all sides, with the column ``side``.

    Raises:
        UserError: its file is damaged or gone.
    """
    return pd.read_parquet(io.BytesIO(record.table(name)))
