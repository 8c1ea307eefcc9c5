"""Figures that are not finite, from the record to every table: never a traceback, never good, shown as a hyphen."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from memsplit.harness.cli import main
from memsplit.results.board.ranking import boards
from memsplit.results.gate.judge import verdict
from memsplit.results.gate.policy import parse
from memsplit.results.records.record import Record
from memsplit.results.records.store import Store
from memsplit.results.statistics.selection import Bounds, Row, choose, pareto_front
from memsplit.results.views import sweep_charts
from memsplit.tests.support.board_records import made

NAN, INF = math.nan, math.inf
FAULTS: list[dict[str, float]] = [
    {"stays": NAN, "ratio": NAN},
    {"stays": INF},
    {"stays": -INF},
    {"stays": 1e300, "ratio": 1e200},
    {"ratio": INF},
    {"ratio": NAN},
    {"kept": NAN},
]
"""What is wrong with edits whose other figures are as good as can be."""
GOOD = {"stays": 0.99, "kept": 1.0, "ratio": 1.0}
POLICY = {"stays_erased": 0.5, "erased": 0.5, "fluency": 0.9, "perplexity_ratio": 1.1, "margins": {"logic": 0.2}}
OVERLONG = re.compile(r"\d{9}")
"""What nobody reads; dates and hashes apart."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("not_finite")
    for split in ("dev", "test"):
        for i, fault in enumerate(FAULTS):
            figures: dict[str, Any] = {**GOOD, **fault}
            made(folder, f"magnitude-50:layers={i}", **figures, split=split)
        made(folder, "svd-50", stays=0.6, kept=0.8, ratio=1.05, split=split)
    return Store(folder)


@pytest.fixture
def records(store: Store) -> list[Record]:
    return [record for record in store.records() if record.content.arguments.split == "test"]


def faulty(record: Record) -> bool:
    return record.spec.startswith("magnitude")


def test_the_only_finite_edit_is_first_and_no_other_has_a_good_score(store: Store) -> None:
    (board,) = boards(store.records())
    ranked = {row.name: row for row in board.of("edit")}
    assert len(ranked) == len(FAULTS) + 1
    assert ranked["svd"].rank == 1
    for name, row in ranked.items():
        assert name == "svd" or row.rank is None or row.score().value < 0.1, name


@pytest.mark.parametrize("style", ["terminal", "markdown", "csv", "latex", "json", "html"])
def test_a_leaderboard_is_written(store: Store, style: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--store", str(store.folder), "--format", style, "--all-columns"]
    given += ["--out", str(tmp_path / "board")] if style == "html" else []
    assert main.main(["leaderboard", *given]) == 0
    text = (tmp_path / "board").read_text() if style == "html" else capsys.readouterr().out
    assert "magnitude" in text
    if style in ("terminal", "markdown", "latex"):
        assert "nan" not in text
        assert not OVERLONG.search(re.sub(r"fingerprint.*", "", text))
    if style == "json":
        json.loads(text, parse_constant=lambda word: pytest.fail(word))


def test_no_gate_passes_them(records: list[Record]) -> None:
    policy = parse(POLICY)
    for record in records:
        found = verdict(record, None, policy)
        assert not faulty(record) or not found.passed
        text = str(found)
        assert "nan" not in text
        assert not OVERLONG.search(text), text


def test_they_can_be_compared_and_shown(
    store: Store, records: list[Record], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [record.id for record in records]
    where = ["--store", str(store.folder)]
    for options in ([], ["--json"]):
        assert main.main(["compare", *names, *where, *options]) == 0
        assert main.main(["runs", "show", *names, *where, *options]) == 0
        assert main.main(["runs", "list", *where, *options]) == 0
        text = capsys.readouterr().out
        assert "nan" not in text.lower()


def test_no_sweep_chooses_them(records: list[Record], tmp_path: Path) -> None:
    rows = [Row.of(record) for record in records]
    chosen = choose(rows, Bounds(max_perplexity_ratio=1e9)).row
    assert chosen is not None
    assert chosen.spec == "svd-50"
    strict = choose(rows, Bounds(max_perplexity_ratio=1.01))
    assert strict.row is None
    assert "nan" not in strict.why
    for row, on_front in zip(rows, pareto_front(rows), strict=True):
        known = all(math.isfinite(row.metric(name)) for name in ("stays_erased", "reasoning_kept", "fluency_kept"))
        assert not on_front or known
    sweep_charts.pareto_figure(sweep_charts.table(rows, Bounds(), "svd-50", None), Bounds())


def test_what_is_made_of_an_unknown_figure_is_unknown(records: list[Record]) -> None:
    by_spec = {record.spec: record.summary for record in records}
    for i, fault in enumerate(FAULTS):
        value = {name: figure.value for name, figure in by_spec[f"magnitude-50:layers={i}"].items()}
        unknown = {
            name for name in ("erased", "stays_erased", "reasoning_kept", "fluency_kept") if math.isnan(value[name])
        }
        expected = {"erased", "stays_erased"} if not math.isfinite(fault.get("stays", 0)) else set()
        expected |= {"reasoning_kept"} if "kept" in fault else set()
        expected |= {"fluency_kept"} if math.isnan(fault.get("ratio", 1)) else set()
        assert unknown == expected, fault
        assert math.isnan(value["split_score"]) == bool(expected)
        assert expected or value["split_score"] == pytest.approx(0, abs=1e-9)
