"""The front door: what `import memsplit` offers gives the same figures as the command line, and shows them shortly."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import memsplit as ms
from memsplit.results.views import frames

TASKS = ["memsplit_recitation", "memsplit_logic_boolean", "memsplit_fluency"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def report(out: Path) -> ms.Report:
    return ms.evaluate("olmo-tiny", edits=["svd-60", "svd-90"], tasks=TASKS, limit=6, out=str(out))


def test_the_frame_has_every_figure_of_the_records(report: ms.Report) -> None:
    frame = report.frame()
    assert list(frame.columns) == ["edit", "axis", "metric", "base", "edited", "change", "low", "high", "p", "n"]
    assert set(frame["edit"]) == {record.spec for record in report.records}
    assert not frame.duplicated(["edit", "axis", "metric"]).any()
    for record in report.records:
        written = json.loads(record.path.read_text())["changes"]
        rows = frame[frame["edit"] == record.spec].set_index(["axis", "metric"])
        assert {"/".join(key) for key in rows.index} == written.keys()
        for key, change in written.items():
            row = rows.loc[tuple(key.split("/", 1))]
            for column, name in (
                ("base", "base"),
                ("edited", "edited"),
                ("change", "value"),
                ("low", "low"),
                ("p", "p"),
            ):
                known = change[name] is not None
                assert row[column] == pytest.approx(change[name]) if known else pd.isna(row[column])
            assert row["n"] == change["n"] == 6
    assert frame["change"].to_numpy() == pytest.approx((frame["edited"] - frame["base"]).to_numpy())


def test_a_report_is_shown_as_a_short_table(report: ms.Report) -> None:
    lines = repr(report).splitlines()
    assert len(lines) == 2 + len(report.records)
    assert max(map(len, lines)) < 200
    for line, record in zip(lines[2:], report.records, strict=True):
        assert record.spec in line
        assert f"{record.summary['recitation_removed'].value:.3f}" in line
    page = report._repr_html_()
    assert "<table" in page
    assert all(record.spec in page for record in report.records)


def test_names_are_no_markup() -> None:
    table = frames.brief([("<img src=x onerror=alert(1)>", {})])
    page = frames.as_html("<b>", table)
    assert "<img" not in page
    assert "<b>" not in page
    assert "&lt;img" in page


def test_one_edit_may_be_a_string(out: Path, report: ms.Report) -> None:
    again = ms.evaluate(edits="svd-60", tasks=TASKS, limit=6, out=out, resume=True)
    assert [record.path for record in again.records] == [report.records[0].path]


def test_tasks_of_ones_own(tmp_path: Path) -> None:
    rows = [{"country": "Peru", "choices": ["Lima", "Quito"], "gold": 0}] * 2
    (tmp_path / "capitals.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task = {
        "task": "capitals",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": str(tmp_path / "capitals.jsonl")},
        "test_split": "train",
        "output_type": "multiple_choice",
        "doc_to_text": "The capital of {{country}} is",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": "acc"}],
        "metadata": {"version": 1.0, "axis": "geography", "metrics": {"acc": "capitals"}, "chance": "1/2"},
    }
    (tmp_path / "capitals.yaml").write_text(json.dumps(task))
    found = ms.evaluate(edits="svd-60", tasks=["capitals"], include_path=[str(tmp_path)], out=tmp_path / "out")
    row = found.frame().iloc[0]
    assert (row["axis"], row["metric"], row["n"]) == ("geography", "capitals", 2)


def test_records_of_a_folder(out: Path, report: ms.Report) -> None:
    found = ms.records(out)
    assert {record.path for record in found} == {record.path for record in report.records}
    assert sorted(found.frame()["edit"]) == sorted(report.frame()["edit"])
    assert [record.spec for record in ms.records(out, edit="svd-90")] == [report.records[1].spec]
    assert found[:1].frame()["edit"].unique().tolist() == [found[0].spec]
    assert len(repr(found[0])) < 100
    assert repr(ms.records(out / "none")) == "0 records\nno records"
    assert "2 records" in repr(found)


def test_boards_of_a_folder(out: Path, report: ms.Report, capsys: pytest.CaptureFixture[str]) -> None:
    boards = ms.board(out)
    boards.show()
    shown = capsys.readouterr().out
    frame = boards.frame()
    assert set(frame["kind"]) == {"base", "edit"}
    for record in report.records:
        assert f"{record.content.steps[0]['percent']:.0f} %" in shown  # a strength of svd
        assert record.spec in repr(boards)
        assert record.spec in boards._repr_html_()
        row = frame[(frame["level"] == "strength") & (frame["edit"] == record.spec)].iloc[0]
        assert row["logic_kept"] == record.summary["logic_kept"].value


def test_compared_with_the_base_it_is_the_record(out: Path, report: ms.Report) -> None:
    record = report.records[0]
    frame = ms.compare("base", record.id, store=out).frame()
    own = report.frame().query("edit == @record.spec")
    pd.testing.assert_frame_equal(frame.reset_index(drop=True), own.reset_index(drop=True))
    both = ms.compare("svd-60", "svd-90", store=out)
    assert "other - first" in repr(both)
    assert both._repr_html_().startswith("<pre>")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "olmo-tny"}, "did you mean 'olmo-tiny'"),
        ({"edits": "kfc-80"}, "did you mean 'kfac'"),
        ({"limit": "8"}, "limit"),
        ({"limit": -1}, "limit"),
        ({"batch_size": 0}, "batch_size"),
        ({"device": "gpu"}, "device"),
        ({"tasks": "memsplit_fluency"}, "tasks"),
        ({"split": "tst"}, "did you mean 'test'"),
        ({"out": ""}, "out"),
        ({"include_path": "my-tasks"}, "include_path"),
        ({"include_path": ["no-tasks"]}, "no folder"),
        ({"edits": []}, "no edit"),
        ({"out": ""}, "bad out ''"),
        ({"out": None}, "bad out None"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(ms.UserError, match=words) as error:
        ms.evaluate(**{"out": tmp_path / "out", **options})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_tasks_is_asked_by_its_path(tmp_path: Path) -> None:
    ours = Path(str(ms.__file__)).parent / "tasks/suites/memsplit/logic_boolean.yaml"
    facts = "metadata: {version: 1.0, axis: mine, metrics: {acc: own}}"
    (tmp_path / "mine.yaml").write_text(f"include: {ours}\ntask: mine\n{facts}\n")
    report = ms.evaluate(edits="none", tasks=["mine"], include_path=[str(tmp_path)], limit=2, out=tmp_path / "out")
    assert list(report.frame()["axis"]) == ["mine"]
    with pytest.raises(ms.UserError, match="expected a list of folders"):
        ms.evaluate(edits="none", include_path=str(tmp_path))


@pytest.mark.parametrize("store", [None, 5, b"x", ["x"], "", "a\0b"])
def test_a_store_is_a_folders_path(store: Any) -> None:
    for call in (ms.records, ms.board, lambda bad: ms.compare("base", "none", store=bad)):
        with pytest.raises(ms.UserError, match=r"bad store .*: expected a folder's path"):
            call(store)


def test_what_chooses_records_is_text(tmp_path: Path) -> None:
    with pytest.raises(ms.UserError, match="bad model 5: expected a text"):
        ms.records(tmp_path, model=5)  # type: ignore[arg-type]
    with pytest.raises(ms.UserError, match="bad record None: expected a text"):
        ms.compare("base", None, store=tmp_path)  # type: ignore[arg-type]


def test_an_empty_folder_has_empty_frames(tmp_path: Path) -> None:
    assert ms.records(tmp_path).frame().empty
    assert ms.board(tmp_path).frame().empty
