"""Leaderboards: who stands where, which records share a table, and that every format says the same."""

import csv
import dataclasses
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from memsplit.harness.cli import main
from memsplit.results.board import formats
from memsplit.results.board.ranking import boards, ranks
from memsplit.results.records.encoding import plain
from memsplit.results.records.schema import Interval
from memsplit.results.records.store import Store
from memsplit.results.views.format import significant
from memsplit.tests.support.board_records import BASE, made

NAN = (math.nan, math.nan, math.nan)
HOSTILE = "kfac-80:path=<script>alert(1)</script>|a_b&50%#$~^{}\\"


def scores(*figures: tuple[float, float, float]) -> list[Interval]:
    return [Interval(value=value, low=low, high=high) for value, low, high in figures]


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ([], []),
        ([(0.9, 0.8, 1.0), (0.85, 0.7, 0.95), (0.5, 0.4, 0.6)], [1, 1, 3]),
        ([(0.5, 0.4, 0.6), (0.9, 0.8, 1.0), NAN], [2, 1, None]),
        ([(1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.99, 0.98, 0.999)], [1, 1, 3]),
        ([(0.9, 0.8, 1.0), (0.7, 0.6, 0.8)], [1, 1]),  # they touch
        ([(0.9, 0.85, 0.95), (0.8, 0.6, 0.9), (0.7, 0.65, 0.75)], [1, 1, 2]),  # a wide one is behind nobody
    ],
)
def test_ranks(figures: list[tuple[float, float, float]], expected: list[int | None]) -> None:
    assert ranks(scores(*figures)) == expected


@given(st.lists(st.tuples(*[st.integers(0, 20)] * 3).map(sorted), max_size=12))
def test_a_rank_counts_those_that_lie_wholly_above(ends: list[list[int]]) -> None:
    found = ranks(scores(*((value, low, high) for low, value, high in ends)))
    for (_, _, high), rank in zip(ends, found, strict=True):
        above = [other for other in ends if set(range(other[0], 21)) <= set(range(high + 1, 21))]
        assert rank == 1 + len(above)
    if ends:
        assert min(rank for rank in found if rank) == 1


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two edits, a better one made again since, one without a score, two controls, and other items' records."""
    made(tmp_path, "svd-50", score=(0.6, 0.5, 0.65), created=1)
    made(tmp_path, "kfac-80", score=(0.1, 0.0, 0.2), created=2)
    made(tmp_path, "kfac-80", score=(0.9, 0.85, 1.0), created=3)
    made(tmp_path, "ekfac-80", score=(0.9, 0.7, 1.0), ratio=1.01, created=4)
    made(tmp_path, "finetune", score=NAN, matrices=[], created=5)
    made(tmp_path, "random-50", score=(0.99, 0.98, 1.0), control=True, created=6)
    made(tmp_path, "none", score=(0.0, 0.0, 0.0), matrices=[], created=7)
    made(tmp_path, "kfac-80", fingerprint="fedcba9876543210", score=None, created=8)
    made(tmp_path, "kfac-80", arguments={"split": "dev", "limit": 3}, created=9)
    return Store(tmp_path)


def test_base_edits_in_their_order_then_controls(store: Store) -> None:
    board = boards(store.records())[0]
    assert [(e.kind, e.rank, e.spec) for e in board.rows] == [
        ("base", None, "base"),
        ("edit", 1, "ekfac-80"),  # the same score, at less perplexity
        ("edit", 1, "kfac-80"),
        ("edit", 3, "svd-50"),
        ("edit", None, "finetune"),
        ("control", None, "random-50"),
        ("control", None, "none"),
    ]
    assert "1 older record of" in board.note


def test_only_records_of_the_same_items_and_weights_share_a_table(store: Store) -> None:
    other: list[dict[str, Any]] = [
        {"weights": "v" * 64},
        {"dtype": "bfloat16"},
        {"suite": "memsplit_paper"},
        {"model": "a"},
    ]
    for n, changed in enumerate(other):
        made(store.folder, "kfac-80", created=20 + n, **changed)
    found = boards(store.records())
    assert len(found) == 7
    assert len({(board.title, board.details) for board in found}) == 7
    assert [board.about.model for board in found][:1] == ["a"]
    assert [(b.about.split, b.about.suite) for b in found[1:]] == [
        *[("test", "memsplit")] * 4,
        ("dev", "memsplit"),
        ("test", "memsplit_paper"),
    ]
    assert "first 3 items" in found[5].title
    (without,) = (board for board in found if board.about.fingerprint.startswith("f"))
    assert "split_score" not in {column.key for column in without.columns}
    assert [entry.rank for entry in without.rows] == [None, None]


def test_what_the_columns_divide_by_what(store: Store) -> None:
    base, kfac = (next(e for e in boards(store.records())[0].rows if e.spec == spec) for spec in ("base", "kfac-80"))
    assert kfac.cells["components_removed"] == 1 - 60 / 400
    assert kfac.cells["norm_removed"] == pytest.approx(0.6)
    assert kfac.cells["seconds"] == 3.25
    assert kfac.cells["logic/acc"] == 0.4
    assert base.cells == {
        f"{axis}/{metric}": BASE[axis][metric]
        for axis, metric in [
            ("recitation", "strict"),
            ("twins", "strict"),
            ("facts_closed", "acc"),
            ("logic", "acc"),
            ("fluency", "perplexity"),
        ]
    }
    assert kfac.axes["recitation"].value == pytest.approx(0.1)
    assert (kfac.axes["recitation"].low, kfac.axes["recitation"].high) == pytest.approx((0.0, 0.15))
    assert kfac.axes["facts_closed"].value == 0.5
    assert "components_removed" not in next(e for e in boards(store.records())[0].rows if e.spec == "finetune").cells


def test_csv_and_json_hold_every_figure_in_full(store: Store) -> None:
    tables = boards(store.records())
    rows = list(csv.DictReader(io.StringIO(formats.csv(tables))))
    data = json.loads(formats.as_json(tables))
    entries = [entry for board in data["boards"] for entry in board["entries"]]
    assert len(rows) == len(entries) == sum(len(board.rows) for board in tables)
    compared = 0
    for row, entry in zip(rows, entries, strict=True):
        assert (row["kind"], row["edit"], row["rank"]) == (entry["kind"], entry["edit"], str(entry["rank"] or ""))
        if entry["kind"] == "base":
            continue
        content = store.find(row["record"]).content
        assert row["command"] == content.command
        assert row["record"] == entry["record"]
        for name, interval in content.summary.items():
            assert entry["figures"][name] == plain(interval)
            for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                number = getattr(interval, key)
                assert row[name + end] == ("" if math.isnan(number) else repr(number)), name
                compared += 1
    assert compared > 80


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
    made(tmp_path, "random-50", control=True)
    text = formats.latex(boards(Store(tmp_path).records()), all_columns=False)
    assert r"\textbar" in text or "|a" in text
    assert r"a\_b\&50\%\#\$\textasciitilde" in text
    (body,) = re.findall(r"\\toprule\n(.*)\\bottomrule", text, re.DOTALL)
    assert [line if line.startswith("\\") else line.split(" & ")[1][:4] for line in body.splitlines()] == [
        "edit", r"\midrule", "base", r"\midrule", "kfac", r"\midrule", "rand",
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


@pytest.mark.parametrize("width", [80, 140, 300])
def test_a_terminal_shows_every_edit_and_score(store: Store, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(formats.terminal(boards(store.records()), width == 300, width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for word in ("ekfac-80", "0.900", "[0.850, 1.000]", "random-50", "base", "first 3 items", "1 older record"):
        assert word in text, word
    assert ("arithmetic" in text, "twins" in text, "facts" in text) == (False, width == 300, width > 80)


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
    names = ["leaderboard.csv", "leaderboard.html", "leaderboard.json", "leaderboard.md", "leaderboard.tex"]
    assert sorted(path.name for path in (out / "all").iterdir()) == names
    capsys.readouterr()
    for name in names:
        assert run("--store", store.folder, "--out", out / name) == 0
        assert (out / name).read_bytes() == (out / "all" / name).read_bytes(), name
        assert capsys.readouterr().out == f"{out / name}\n"
    assert run("--store", store.folder, "--format", "csv", "--edit", "svd") == 0
    assert [row["edit"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["base", "svd-50"]
    assert run("--store", store.folder, "--split", "dev") == 0
    assert "dev part" in capsys.readouterr().out


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


def test_an_empty_store_and_a_damaged_record_get_one_line(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--store", tmp_path / "none") == 2
    assert "memsplit-eval writes them" in capsys.readouterr().err
    path = store.paths()[0]
    path.write_text(path.read_text().replace('"split_score"', '"split_skore"'))
    assert run("--store", store.folder) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert f"{path} is damaged" in err
