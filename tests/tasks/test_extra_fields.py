"""Fields that memsplit does not know fit into a table afterwards, whatever they held."""

import json
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from memsplit.tasks.extra_fields import uniform

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner))


@given(st.lists(st.fixed_dictionaries({"id": st.text()}, optional={"a": values, "b": scalars}), min_size=1, max_size=5))
def test_rows_fit_into_a_table(rows: list[dict[str, Any]]) -> None:
    made = uniform(rows, ["id"])
    for name in ("a", "b"):
        pa.array([row.get(name) for row in made])
    assert [row.keys() for row in made] == [row.keys() for row in rows]


def test_a_text_stays_itself_and_what_is_known_is_left_alone() -> None:
    rows: list[dict[str, Any]] = [
        {"ids": [1], "page": "one", "year": 1990, "share": 0.5},
        {"ids": [2], "page": {"n": 2}, "year": None, "share": 1},
        {"ids": "x", "page": None, "year": 1992, "share": float("inf")},
    ]
    made = uniform(rows, ["ids"])
    assert [row["ids"] for row in made] == [[1], [2], "x"]
    assert [row["page"] for row in made] == ["one", json.dumps({"n": 2}), None]
    assert [row["year"] for row in made] == [1990, None, 1992]
    assert [row["share"] for row in made] == [0.5, 1, None]
