"""Records: read back as written, refused when damaged or newer, migrated when older."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from memsplit.errors import UserError
from memsplit.files import digest
from memsplit.results.records import record, schema
from memsplit.results.records.record import Record
from memsplit.results.records.score_cache import ANSWERS
from memsplit.results.statistics import aggregate
from memsplit.tests.support.records import made


def items(*values: float) -> pd.DataFrame:
    rows = [("t", "logic", "acc", i, value, 1, str(i), "") for i, value in enumerate(values)]
    return pd.DataFrame(rows, columns=aggregate.COLUMNS)


ANSWER = pd.DataFrame([("t", 0, "1 + 1 =", [" 2"], [" 3"])], columns=ANSWERS)
BASE, EDITED = items(1, 1, 1, 0), items(1, 1, 0, 0)
CHANCE = {("logic", "acc"): 0.25}


@pytest.fixture
def written(tmp_path: Path) -> Record:
    return made(tmp_path / "new", BASE, EDITED, chance=CHANCE, answers=ANSWER.assign(side="edit"))


def test_a_record_is_read_back(written: Record) -> None:
    found = record.read(written.path)
    assert found == written
    pd.testing.assert_frame_equal(found.items("base"), BASE)
    pd.testing.assert_frame_equal(found.items("edit"), EDITED)
    pd.testing.assert_frame_equal(found.answers("edit"), ANSWER)
    assert found.chance == CHANCE
    change = found.changes["logic", "acc"]
    assert (change.value, change.base, change.test) == (-0.25, 0.75, "mcnemar")
    assert change.retained is not None
    assert change.retained.value == pytest.approx(0.5)
    assert found.summary["logic_kept"].value == pytest.approx(0.5)
    assert sorted(path.name.partition(".")[2] for path in written.path.parent.iterdir()) == [
        "answers.parquet",
        "items.parquet",
        "json",
    ]


def test_the_same_run_writes_the_same_files_and_another_run_others(tmp_path: Path) -> None:
    first = made(tmp_path, BASE, EDITED)
    later: dict[str, Any] = {"created": "2026-02-02T00:00:00+00:00", "seconds": {"base": 9.0}, "hardware": {}}
    assert made(tmp_path, BASE, EDITED, **later).path == first.path
    assert made(tmp_path, BASE, BASE).path != first.path


@pytest.mark.parametrize("table", ["items", "answers"])
def test_a_damaged_table_is_refused(written: Record, table: str) -> None:
    path = written.files()[table]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=f"the {table} of the record .* are damaged"):
        getattr(written, table)("edit")
    with pytest.raises(UserError, match=f"the {table} of the record .* are damaged"):
        written.verify()


def test_items_must_be_there_and_answers_may_be_left_out(written: Record) -> None:
    written.files()["answers"].unlink()
    assert written.verify() == "whole, without its answers"
    assert list(written.answers("edit").columns) == ANSWERS
    written.files()["items"].unlink()
    with pytest.raises(UserError, match="cannot be read"):
        written.verify()


def test_any_change_of_the_json_is_refused(written: Record) -> None:
    text = written.path.read_text()
    for damaged in (
        text.replace("0.75", "0.95"),
        text.replace('"created": "2026', '"created": "2027'),
        text[:-9],
        "[]",
        "7",
        '{"schema": "2"}',
    ):
        assert damaged != text
        written.path.write_text(damaged)
        with pytest.raises(UserError, match=r"damaged|cannot be read|is no record"):
            record.read(written.path)


def test_a_newer_schema_says_so(written: Record) -> None:
    content = {**written.content, "schema": schema.NEWEST + 1}
    written.path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"has schema {schema.NEWEST + 1}, expected at most {schema.NEWEST}: update"):
        record.read(written.path)


@pytest.mark.parametrize(
    "content", [{"schema": 0}, {"schema": -5}, {"schema": 1, "changes": []}, {"schema": 1, "n": 3}, {"schema": 1}]
)
def test_what_is_no_record_of_its_schema_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"no record that memsplit wrote|lacks"):
        record.read(tmp_path / "r.json")


def test_a_record_that_lacks_a_field_is_refused(written: Record) -> None:
    content = {key: value for key, value in written.content.items() if key not in ("spec", "sha256")}
    written.path.write_text(json.dumps({**content, "sha256": digest(content)}))
    with pytest.raises(UserError, match="lacks spec"):
        record.read(written.path)


def test_an_old_record_is_migrated(written: Record) -> None:
    """Schema 1: one table beside the JSON, under its name; n by task, and nothing of what came later."""
    later = {"tasks", "chance", "control", "command", "sha256", "answers_sha256"}
    old = {key: value for key, value in written.content.items() if key not in later}
    old = {**old, "schema": 1, "n": {"t": 4}, "steps": [{"name": "random"}]}
    written.path.write_text(json.dumps(old))
    written.files()["items"].rename(written.path.with_suffix(".parquet"))
    found = record.read(written.path)
    assert found.content["schema"] == schema.NEWEST
    assert found.content["read_from_schema"] == 1
    assert found.content["tasks"] == {"t": {"n": 4}}
    assert found.content["control"]
    assert found.chance == pytest.approx(CHANCE)
    pd.testing.assert_frame_equal(found.items("edit"), EDITED)
    assert list(found.answers("edit").columns) == ANSWERS
    found.verify()
    found.files()["items"].write_bytes(b"x")
    with pytest.raises(UserError, match="damaged"):
        found.verify()
