"""Fields of rows that memsplit does not know: kept where a table can hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LEAST, _MOST = -(2**63), 2**63 - 1


def uniform(rows: Sequence[Mapping[str, Any]], known: Iterable[str]) -> list[dict[str, Any]]:
    """The rows with one type in each field: text, truth values or numbers, beside null.

    An unknown field that has several types over the rows, lists, objects or numbers that no 64 bits hold is turned into
    text in every row: a text stays itself, another value becomes its JSON. Numbers that are not finite become null.

    Args:
        rows: of one file of a pack.
        known: names of fields that are left alone.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    types = {name: {_type(row[name]) for row in rows if row.get(name) is not None} for name in names}
    text = {name for name, found in types.items() if len(found) > 1 or found & {"other"}} - {*known}
    return [{name: _text(value) if name in text else _finite(value) for name, value in row.items()} for row in rows]


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, float) or (isinstance(value, int) and _LEAST <= value <= _MOST):
        return "number"
    return "text" if isinstance(value, str) else "other"


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
