"""Every format of a leaderboard says the same, and the command writes them."""

import csv
import dataclasses
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from memsplit.harness.cli import main
from memsplit.results.board import formats
from memsplit.results.board.ranking import boards
from memsplit.results.board.table import Board
from memsplit.results.records.encoding import plain
from memsplit.results.records.schema import Interval
from memsplit.results.records.store import Store
from memsplit.results.views.format import significant
from memsplit.tests.support.board_records import made

HOSTILE = "kfac-80:path=<script>alert(1)</script>|a_b&50%#$~^{}\\"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A method of two strengths, one without a choice, one with a chosen strength, two controls; other items' records."""
    folder = tmp_path_factory.mktemp("formats")
    made(folder, "svd-50", stays=0.6, kept=0.7, created=1)
    made(folder, "kfac-80", stays=0.1, created=2)
    made(folder, "kfac-80", stays=0.9, created=3)
    made(folder, "kfac-60", stays=0.97, kept=0.5, created=4)
    made(folder, "kfac-80", stays=0.9, split="dev", created=5)
    made(folder, "ekfac-80", stays=0.9, ratio=1.01, created=6)
    made(folder, "bsn-90", stays=0.3, created=7)
    made(folder, "bsn-70", stays=0.4, created=8)
    made(folder, "random-50", stays=0.6, kept=0.5, created=9)
    made(folder, "none", stays=0.0, matrices=[], created=10)
    made(folder, "kfac-80", fingerprint="fedcba9876543210", attacks=False, created=11)
    made(folder, "kfac-80", split="dev", limit=3, created=12)
    return Store(folder)


@pytest.fixture(scope="module")
def tables(store: Store) -> list[Board]:
    return boards(store.records())


def data_rows(tables: list[Board], level: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(formats.csv(tables))) if row["level"] == level]


def check_figures(row: dict[str, str], figures: dict[str, Any]) -> int:
    """Whether a row of the CSV has the figures of an object of the JSON, to the last digit; how many."""
    for name, figure in figures.items():
        ends = figure if isinstance(figure, dict) else {"value": figure}
        for end, number in ends.items():
            key = name if end == "value" else f"{name}_{end}"
            assert row[key] == ("" if number is None else repr(float(number))), key
    return len(figures)


def test_csv_and_json_hold_every_figure_in_full(store: Store, tables: list[Board]) -> None:
    data = json.loads(formats.as_json(tables))
    entries = [entry for board in data["boards"] for entry in board["entries"]]
    rows = data_rows(tables, "method")
    assert len(rows) == len(entries) == sum(len(board.rows) for board in tables)
    compared = 0
    for row, entry in zip(rows, entries, strict=True):
        assert (row["kind"], row["name"], row["rank"]) == (entry["kind"], entry["name"], str(entry["rank"] or ""))
        assert row["edit"] == entry["edit"]
        compared += check_figures(row, entry["figures"])
        if "record" in entry:
            content = store.find(row["record"]).content
            assert (row["record"], row["command"]) == (entry["record"], content.command)
            if row["attacks"]:
                assert all(entry["figures"][name] == plain(figure) for name, figure in content.summary.items())
    assert compared > 80


def test_csv_and_json_hold_every_strength(store: Store, tables: list[Board]) -> None:
    data = json.loads(formats.as_json(tables))
    strengths = [
        (entry, each) for board in data["boards"] for entry in board["entries"] for each in entry.get("strengths", [])
    ]
    rows = data_rows(tables, "strength")
    assert len(rows) == len(strengths) == 10
    for row, (entry, each) in zip(rows, strengths, strict=True):
        assert (row["name"], row["edit"], row["strength"]) == (entry["name"], each["edit"], each["strength"])
        assert row["chosen"] == str(int(each["chosen"]))
        assert row["dev_split_score"] == ("" if each["dev_split_score"] is None else repr(each["dev_split_score"]))
        assert row["record"].split() == each["records"]
        check_figures(row, each["figures"])
    of_kfac = [row["edit"] for row in rows if row["name"] == "kfac" and row["chosen"] == "1"]
    assert of_kfac == ["kfac-80", "kfac-80", "kfac-80"]  # on test, without attacks, and on dev


def test_json_says_what_speaks_against_the_order_and_what_is_missing(tables: list[Board]) -> None:
    first = json.loads(formats.as_json(tables))["boards"][0]
    assert first["warnings"] == list(tables[0].warnings)
    assert any("Baselines that are missing" in remark for remark in first["remarks"])
    assert first["attacks"] == ["relearn"]


def test_markdown_has_as_many_cells_in_every_row_and_no_markup(tmp_path: Path) -> None:
    made(tmp_path, HOSTILE, model="<b>*x*|y")
    text = formats.markdown(boards(Store(tmp_path).records()), all_columns=True)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    counts = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert len(counts) == 1
    assert len(rows) == 4
    assert not re.search(r"(?<!\\)<", text)
    assert r"\<script\>alert(1)\</script\>\|a\_b" in text


def test_latex_is_escaped_and_ruled(tmp_path: Path) -> None:
    made(tmp_path, HOSTILE)
    made(tmp_path, "random-50")
    made(tmp_path, "bsn-70")
    made(tmp_path, "bsn-90")
    text = formats.latex(boards(Store(tmp_path).records()), all_columns=False)
    assert r"\textbar" in text or "|a" in text
    assert r"a\_b\&50\%\#\$\textasciitilde" in text
    (body,) = re.findall(r"\\toprule\n(.*)\\bottomrule", text, re.DOTALL)
    assert [line if line.startswith("\\") else line.split(" & ")[1][:4] for line in body.splitlines()] == [
        "meth", r"\midrule", "base", r"\midrule", "kfac", "bsn", "", "", r"\midrule", "rand",
    ]  # fmt: skip
    columns = re.search(r"\\begin{tabular}{(\w+)}", text)
    assert columns
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if not line.startswith("\\")} == {
        len(columns[1]) - 1
    }
    assert r"split score$\uparrow$" in text.replace(" $", "$")


def test_latex_has_a_command_for_infinity(tmp_path: Path) -> None:
    made(tmp_path, "finetune")
    (board,) = boards(Store(tmp_path).records())
    endless = Interval(value=math.inf, low=-math.inf, high=math.inf)
    rows = [dataclasses.replace(row, cells={**row.cells, "split_score": endless}) for row in board.rows]
    text = formats.latex([dataclasses.replace(board, rows=rows)], all_columns=True)
    assert "∞" not in text
    assert r"$\infty$ [$-\infty$, $\infty$]" in text


@pytest.mark.parametrize("width", [80, 140, 480])
def test_a_terminal_shows_every_method_and_score(tables: list[Board], width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(formats.terminal(tables, width == 480, width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    score = tables[0].rows[1].score()
    for word in (significant(score.value), f"[{significant(score.low)},", "ekfac", "random", "base", "first 3 items"):
        assert word in words, word
    assert "1 older record" in words
    assert ("commonsense" in text, "twins" in text) == (False, width == 480)


def test_a_curve_that_ends_before_says_where(tables: list[Board]) -> None:
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(formats.terminal(tables, False, 300))
    text = console.export_text()
    for shown in (text, formats.markdown(tables, False), formats.latex(tables, False)):
        assert "not reached, at most 0.600" in " ".join(shown.split()) or "at most 0.600" in shown
        assert shown.count("not reached,") >= 3


def test_a_lead_that_is_read_off_where_the_control_ends_says_where(tables: list[Board]) -> None:
    lines = {
        line.split("|")[2].strip(): line for line in formats.markdown(tables[:1], False).splitlines() if "|" in line
    }
    assert "(at 0.600)" in lines["kfac"]  # the control ends there
    assert "(at " not in lines["svd"]  # it stays erased as far as the control


def test_all_strengths_are_shown_where_none_is_chosen(tables: list[Board]) -> None:
    lines = formats.markdown(tables, False).splitlines()
    at = next(n for n, line in enumerate(lines) if "none of 2 chosen" in line)
    assert [[cell.strip() for cell in line.split("|")[1:4]] for line in lines[at : at + 3]] == [
        ["-", "bsn", "none of 2 chosen"],
        ["", "", "90 %"],
        ["", "", "70 %"],
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.97123, "0.971"),
        (-3.5, "-3.500"),
        (32.732, "32.7"),
        (12345.6, "12346"),
        (1.2e6, "1.20e+06"),
        (math.nan, "-"),
        (math.inf, "∞"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def run(*arguments: object) -> int:
    return main.main(["leaderboard", *map(str, arguments)])


def test_the_command_writes_each_format_and_all(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("--store", store.folder, "--format", "all", "--out", out / "all") == 0
    names = [f"leaderboard.{end}" for end in ("csv", "html", "json", "md", "svg", "tex")]
    assert sorted(path.name for path in (out / "all").iterdir()) == names
    capsys.readouterr()
    for name in names:
        assert run("--store", store.folder, "--out", out / name) == 0
        assert (out / name).read_bytes() == (out / "all" / name).read_bytes(), name
        assert capsys.readouterr().out == f"{out / name}\n"
    assert run("--store", store.folder, "--format", "csv", "--edit", "svd") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["edit"] for row in rows] == ["base", "svd-50", "svd-50"]
    assert run("--store", store.folder, "--split", "dev") == 0
    assert "dev part" in capsys.readouterr().out


def test_without_attacks_there_is_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "store", "svd-50", attacks=False)
    out = tmp_path / "out"
    assert run("--store", tmp_path / "store", "--out", out / "board.svg") == 2
    assert "nothing to draw: expected --attacks" in capsys.readouterr().err
    assert not out.exists()
    assert run("--store", tmp_path / "store", "--format", "all", "--out", out) == 0
    assert "leaderboard.svg" not in {path.name for path in out.iterdir()}


def test_the_dev_part_chooses_also_where_the_test_part_is_asked_for(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--store", store.folder, "--split", "test", "--edit", "kfac-", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["split"] for row in rows} == {"test"}
    assert [row["edit"] for row in rows if row["level"] == "method" and row["attacks"]] == ["base", "kfac-80"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "htm"], ["'htm'", "did you mean 'html'?"]),
        (["--format", "html"], ["--format html", "expected --out"]),
        (["--format", "terminal", "--out", "x"], ["terminal", "no --out"]),
        (["--out", "x.foo"], ["'x.foo'", ".html", "--format"]),
        (["--model", "olmo-7b"], ["--model 'olmo-7b'", "--store"]),
        (["--store", ".", "--out", "board.json"], ["'board.json'", "--store"]),
        (["--store", "x/..", "--format", "all", "--out", "."], ["'.'", "--store"]),
        (["--card", "README.md"], ["--record"]),
        (["--private"], ["--private", "--push"]),
        (["--with-answers"], ["--with-answers", "--push"]),
        (["--message", "m"], ["--message", "--push"]),
    ],
)
def test_mistakes_get_one_line(
    store: Store, arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--store", store.folder, *arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    for word in words:
        assert word in told.err


def test_an_empty_store_and_a_damaged_record_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--store", tmp_path / "none") == 2
    assert "memsplit-eval writes them" in capsys.readouterr().err
    path = made(tmp_path, "kfac-80").path
    items = path.with_suffix(".items.parquet")
    whole = items.read_bytes()
    items.unlink()
    assert run("--store", tmp_path) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert f"items of the record {path} cannot be read" in err
    items.write_bytes(whole)
    path.write_text(path.read_text().replace('"split_score"', '"split_skore"'))
    assert run("--store", tmp_path) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert f"{path} is damaged" in err
