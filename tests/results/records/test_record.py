"""Records: read back as written, refused when damaged, of another schema, or with a value that is not of its type."""

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memsplit.errors import UserError
from memsplit.files import digest
from memsplit.results.records import record, schema, tables
from memsplit.results.records.encoding import checked, nan_for_null, plain
from memsplit.results.records.record import Record
from memsplit.results.records.schema import Change, Interval, Results
from memsplit.results.records.tables import ANSWERS, ITEMS
from memsplit.tests.support.records import made


def items(*values: float) -> pd.DataFrame:
    rows = [("t", "logic", "acc", i, value, 1, str(i), "") for i, value in enumerate(values)]
    return pd.DataFrame(rows, columns=ITEMS)


ANSWER = pd.DataFrame([("t", 0, "1 + 1 =", [" 2"], [" 3"])], columns=ANSWERS)
BASE, EDITED = items(1, 1, 1, 0), items(1, 1, 0, 0)
CHANCE = {("logic", "acc"): 0.25}
PUBLISHED = sorted((Path(__file__).parents[3] / "results" / "published" / "records").glob("*.json"))


@pytest.fixture
def written(tmp_path: Path) -> Record:
    return made(tmp_path / "new", BASE, EDITED, chance=CHANCE, answers=ANSWER.assign(side="edit"))


def rewritten(path: Path, content: Mapping[str, Any]) -> None:
    """The JSON anew, with its own hash, so that only what it says can be wrong with it."""
    own = {key: value for key, value in content.items() if key != "sha256"}
    path.write_text(json.dumps({**own, "sha256": digest(own)}))


def test_a_record_is_read_back(written: Record) -> None:
    found = record.read(written.path)
    assert plain(found.content) == plain(written.content)
    pd.testing.assert_frame_equal(tables.items(found, "base"), BASE)
    pd.testing.assert_frame_equal(tables.items(found, "edit"), EDITED)
    pd.testing.assert_frame_equal(tables.answers(found, "edit"), ANSWER)
    assert found.chance == CHANCE
    change = found.changes["logic", "acc"]
    assert (change.value, change.base, change.test) == (-0.25, 0.75, "mcnemar")
    assert change.normalized is not None
    assert change.normalized.value == pytest.approx(0.5)
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


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem[-12:])
def test_a_published_record_has_the_keys_and_values_of_its_file(path: Path) -> None:
    """Of an earlier version: typed and back it is the same text, and makes the same id."""
    content = record.read(path).to_json()
    assert json.dumps(content, indent=2) + "\n" == path.read_text()
    assert path.stem.endswith(digest(record.stable(content))[:12])


@pytest.mark.parametrize("table", ["items", "answers"])
def test_a_damaged_table_is_refused(written: Record, table: str) -> None:
    path = written.files()[table]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=f"the {table} of the record .* are damaged"):
        getattr(tables, table)(written, "edit")
    with pytest.raises(UserError, match=f"the {table} of the record .* are damaged"):
        written.verify()


def test_items_must_be_there_and_answers_may_be_left_out(written: Record) -> None:
    written.files()["answers"].unlink()
    assert written.verify() == "whole, without its answers"
    assert list(tables.answers(written, "edit").columns) == ANSWERS
    written.files()["items"].unlink()
    with pytest.raises(UserError, match="cannot be read"):
        written.verify()


def test_any_change_of_the_json_is_refused(written: Record) -> None:
    text = written.path.read_text()
    for damaged in (
        text.replace("0.75", "0.95"),
        text.replace("0.75", "NaN"),
        text.replace('"created": "2026', '"created": "2027'),
        text[:-9],
        "[]",
        "7",
        "[" * 100_000,
        '{"schema": "2"}',
        "\udcff",
    ):
        assert damaged != text
        written.path.write_text(damaged, errors="surrogateescape")
        with pytest.raises(UserError, match=r"damaged|cannot be read|is no record") as error:
            record.read(written.path)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("other", "words"),
    [(schema.NEWEST + 1, "expected at most 2: update memsplit"), (1, "expected 2: make it again"), (-5, "expected 2")],
)
def test_another_schema_says_so(written: Record, other: int, words: str) -> None:
    rewritten(written.path, {**json.loads(written.path.read_text()), "schema": other})
    with pytest.raises(UserError, match=f"has schema {other}, {words}"):
        record.read(written.path)


GONE = object()
BROKEN: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("spec",), GONE, "`$`: object missing required field `spec`"),
    (("spec",), 3, "`$.spec`: expected `str`, got `int`"),
    (("items_sha256",), GONE, "missing required field `items_sha256`"),
    (("control",), None, "`$.control`: expected `bool`, got `null`"),
    (("arguments", "seed"), GONE, "`$.arguments`: object missing required field `seed`"),
    (("arguments", "limit"), "8", "`$.arguments.limit`: expected `int | null`, got `str`"),
    (("tasks", "t", "n"), -1, "`$.tasks.t.n`: expected `int` >= 0, got -1"),
    (("tasks", "t"), [], "`$.tasks.t`: expected `object`, got `array`"),
    (("steps",), [{}], "a `name` and a number `dial` in each of `steps`"),
    (("steps", 0, "dial"), "0", "a `name` and a number `dial` in each of `steps`"),
    (("matrices", 0, "kept"), None, "`$.matrices[0].kept`: expected `int`, got `float`"),
    (("base", "logic", "acc"), "0.5", "`$.base.logic.acc`: expected `float`, got `str`"),
    (("base", "logic"), {}, "`$.base.logic`: expected `object` of length >= 1"),
    (("axes", ""), {}, "length >= 1"),
    (("chance", "logic/acc"), 1, "`$.chance.logic/acc`: expected `float` < 1.0, got 1"),
    (("chance", "logic/acc"), None, "`$.chance.logic/acc`: expected `float`, got `null`"),
    (("chance", "logic"), 0.5, "`$.chance`: expected `str` matching regex"),
    (("changes", "acc"), {}, "`$.changes"),
    (("changes", "logic/acc", "n"), 4.5, "`$.changes.logic/acc.n`: expected `int`, got `float`"),
    (("changes", "logic/acc", "retained", "low"), True, "`$.changes.logic/acc.retained.low`: expected `float`"),
    (("summary", "logic_kept", "value"), "x", "`$.summary.logic_kept.value`: expected `float`, got `str`"),
    (("summary", "logic_kept"), 1.0, "`$.summary.logic_kept`: expected `object`, got `float`"),
    (("risk", "edit"), GONE, "`$.risk`: object missing required field `edit`"),
    (("seconds", "base"), None, "`$.seconds.base`: expected `float`, got `null`"),
]


@pytest.mark.parametrize(("place", "value", "words"), BROKEN)
def test_a_value_that_is_not_of_its_type_is_named(
    written: Record, place: tuple[str | int, ...], value: object, words: str
) -> None:
    content: Any = json.loads(written.path.read_text())
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    if value is GONE:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    rewritten(written.path, content)
    with pytest.raises(UserError) as error:
        record.read(written.path)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"the record {written.path} is not as schema 2 has it: `$")
    assert words in message


@pytest.mark.parametrize("field", ["base", "matrices", "steps"])
def test_a_value_that_is_nested_too_deeply_is_refused_in_one_line(written: Record, field: str) -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    rewritten(written.path, {**json.loads(written.path.read_text()), field: deep})
    with pytest.raises(UserError, match=r"cannot be read|is not as schema") as error:
        record.read(written.path)
    assert len(str(error.value).splitlines()) == 1


def test_what_later_and_earlier_versions_write_is_read(written: Record) -> None:
    """More keys than there are types for, and without those that came within the schema."""
    content: Any = json.loads(written.path.read_text())
    later = copy.deepcopy(content) | {"verdict": {"erased": 1.0}}
    later["summary"]["logic_kept"]["level"] = 0.95
    later["arguments"]["attacks"] = ["relearn"]
    earlier = {key: value for key, value in content.items() if key not in ("code", "dtype", "made_from", "skipped")}
    for other in (later, earlier):
        rewritten(written.path, other)
        found = record.read(written.path)
        assert found.changes == written.changes
        assert found.summary == written.summary
    assert found.content.recipe_hash is None


numbers = st.floats(allow_nan=True, allow_infinity=False)
intervals = st.builds(Interval, value=numbers, low=numbers, high=numbers)
names = st.text("abc_", min_size=1, max_size=5)
counts = st.integers(0, 10**6)
changes = st.builds(
    Change,
    **dict.fromkeys(("value", "low", "high", "base", "edited", "p", "p_holm", "detectable"), numbers),
    n=counts,
    clusters=counts,
    normalized=st.none() | intervals,
    test=st.sampled_from(["mcnemar", "sign-flip"]),
)
metric_names = st.builds("{}/{}".format, names, names)
risks = st.builds(
    schema.Risk,
    discoverable=st.dictionaries(names, st.dictionaries(names, st.dictionaries(names, numbers))),
    membership=st.dictionaries(names, st.dictionaries(names, intervals)),
)
group_metrics = st.builds(schema.GroupMetric, value=numbers, n=counts, se=numbers)
by_group = st.dictionaries(names, st.dictionaries(names, st.dictionaries(names, group_metrics, max_size=2), max_size=2))
measured = st.fixed_dictionaries(
    {
        "base": st.dictionaries(names, st.dictionaries(names, numbers, min_size=1)),
        "chance": st.dictionaries(metric_names, st.floats(0, 0.99)),
        "changes": st.dictionaries(metric_names, changes),
        "summary": st.dictionaries(names, intervals),
        "risk": st.builds(schema.Sides, base=risks, edit=risks),
        "groups": st.none() | st.builds(schema.Sides, base=by_group, edit=by_group),
        "matrices": st.lists(
            st.builds(schema.EditedMatrix, name=names, kept=counts, total=counts, removed_norm=numbers), max_size=3
        ).map(tuple),
        "hardware": st.dictionaries(names, names | st.integers(0, 9)),
        "recipe_hash": st.none() | names,
    }
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(measured)
def test_whatever_was_measured_is_read_back(written: Record, changed: dict[str, Any]) -> None:
    """Every number and every nan, whatever its place: in memory, as JSON, and in memory again."""
    content = msgspec.structs.replace(written.content, **changed)
    again = schema.decode(json.loads(json.dumps(plain(content), allow_nan=False)))
    assert repr(again) == repr(content)
    assert again.changes.keys() == content.changes.keys()


def test_numbers_that_json_has_no_word_for_are_null() -> None:
    value = {"a": [math.nan, math.inf, -math.inf, 0.5], "b": (Interval(value=math.nan, low=0.0, high=1.0),), "c": None}
    assert plain(value) == {"a": [None] * 3 + [0.5], "b": [{"value": None, "low": 0.0, "high": 1.0}], "c": None}
    filled = nan_for_null(plain(value), frozenset({"c"}))
    assert filled["c"] is None
    assert math.isnan(filled["a"][0])


def test_a_result_that_is_not_finite_is_written_as_null_and_read_as_nan(tmp_path: Path, written: Record) -> None:
    results = Results(**{name: getattr(written.content, name) for name in Results.__struct_fields__})
    endless = {"logic": {"acc": math.inf}, "fluency": {"perplexity": math.nan}}
    found = record.write(tmp_path, "r", msgspec.structs.replace(results, base=endless), BASE.assign(side="base"))
    assert json.loads(found.path.read_text())["base"] == {"logic": {"acc": None}, "fluency": {"perplexity": None}}
    for content in (found.content, record.read(found.path).content):
        assert all(math.isnan(value) for metrics in content.base.values() for value in metrics.values())


def test_a_mistake_in_a_mapping_of_mappings_is_named_by_its_keys() -> None:
    kind = dict[str, dict[str, list[Interval]]]
    value = {"a": {"b": [{"value": 1.0, "low": 0.0, "high": 2.0}, {"value": 1.0, "low": "0", "high": 2.0}]}}
    with pytest.raises(UserError, match=r"^`\$\.a\.b\[1\]\.low`: expected `float`, got `str`$"):
        checked(value, kind)
