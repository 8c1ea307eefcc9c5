"""The published board is what its records say, and the README what the board says."""

import csv
import re
from pathlib import Path

import pytest

from memsplit.harness.cli import main
from memsplit.model_edits import registry
from memsplit.results.records.store import Store

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "results" / "published"


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    with (BOARD / "leaderboard.csv").open(encoding="utf-8") as file:
        return {row["edit"]: row for row in csv.DictReader(file)}


def test_every_record_is_whole_and_asked_the_same() -> None:
    store = Store(BOARD / "records")
    assert all(whole for _, whole, _ in store.verify())
    assert len({entry.content.fingerprint for entry in store.records()}) == 1
    assert len({entry.content.code for entry in store.records()}) == 1
    names = {step["name"] for entry in store.records() for step in entry.content.steps}
    assert names <= set(registry.edit_names())


def test_the_records_make_the_board(tmp_path: Path) -> None:
    for name in ("leaderboard.csv", "leaderboard.md", "leaderboard.tex"):
        again = tmp_path / name
        assert main.main(["leaderboard", "--store", str(BOARD / "records"), "--out", str(again)]) == 0
        assert again.read_text() == (BOARD / name).read_text()


def test_the_readme_shows_the_board(rows: dict[str, dict[str, str]]) -> None:
    table = re.findall(r"^\| +(\d*) +\| `([^`]+)`.*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    lines = {edit: line for line in (ROOT / "README.md").read_text().splitlines() if (edit := _edit(line))}
    assert len(table) == len(lines) >= 10
    names = ("facts_closed/acc", "facts_open/acc", "arithmetic/acc")
    for rank, edit in table:
        row = rows[edit]
        assert rank == row["rank"], edit
        cells = [cell.strip() for cell in lines[edit].strip("|").split("|")]
        assert cells[5:8] == [f"{float(row[name]):.3f}" for name in names], edit
        if edit != "base":
            low, high = (f"{float(row[f'split_score_{end}']):.3f}" for end in ("low", "high"))
            assert cells[2] == f"{float(row['split_score']):.3f} [{low}, {high}]"
            assert cells[8] == f"{float(row['perplexity_ratio']):.3f}"


def _edit(line: str) -> str:
    found = re.match(r"\| +\d* +\| `([^`]+)`", line)
    return found[1] if found else ""
