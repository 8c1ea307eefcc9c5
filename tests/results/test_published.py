"""The published board is what its records say, and the README what the board says."""

import csv
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from memsplit.harness.cli import main
from memsplit.harness.models import model_table
from memsplit.model_edits import registry
from memsplit.model_edits import spec as grammar
from memsplit.results.board.methods import BASELINES
from memsplit.results.board.ranking import NEAR
from memsplit.results.records.store import Store

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "results" / "published"


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "leaderboard.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    """The row of each method."""
    return {row["name"]: row for row in read(BOARD) if row["level"] == "method" and row["kind"] != "base"}


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the board that the published records make."""
    folder = tmp_path_factory.mktemp("again")
    arguments = ["--store", str(BOARD / "records"), "--format", "all", "--out", str(folder)]
    assert main.main(["leaderboard", *arguments]) == 0
    return folder


def edits_of_make(split: str) -> list[str]:
    """The specs that ``make board`` scores on a part, with make's variables and bash's braces expanded."""
    dry = subprocess.run(["make", "--dry-run", "board"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    options = " ".join(re.findall(rf"--split {split}([^>;&]*)", dry.replace("\\\n", " ")))
    expanded = subprocess.run(["bash", "-c", f"printf '%s\n' {options}"], capture_output=True, text=True, check=True)
    return [line.strip().removeprefix("--edit=") for line in expanded.stdout.splitlines()]


def test_make_board_has_baselines_and_chooses_on_dev_what_it_tells_on_test() -> None:
    dev, test = edits_of_make("dev"), edits_of_make("test")
    edits = {text: registry.build(grammar.parse(text)) for text in test}
    assert len({str(edit.spec) for edit in edits.values()}) == len(test) >= 30
    assert set(dev) <= set(test)
    page = (ROOT / "docs" / "leaderboard.md").read_text()
    assert f"scores {len(test)} edits of `olmo-tiny` on test and {len(dev)} on dev" in page
    drawn = [text for text in test if re.search("seed=", text)]
    without_seed = [re.sub("[:,](label_)?seed=[0-9]+", "", text) for text in drawn]
    assert {without_seed.count(text) for text in without_seed} == {2}
    assert set(without_seed) <= {*test, "finetune"}  # finetune:loss=npo
    assert {"random", "noise", "quantize"} <= {edit.name for edit in edits.values()}
    assert any(edit.percent == 0 for edit in edits.values())
    entry = model_table.resolve("olmo-tiny")
    for edit in (edit for edit in edits.values() if edit.name == "quantize"):  # not of every matrix
        assert (edit.layers, edit.proj) == (entry.layers, entry.proj)


def test_every_record_is_whole_and_asked_the_same() -> None:
    store = Store(BOARD / "records")
    assert all(whole for _, whole, _ in store.verify())
    asked = {(entry.content.arguments.split, entry.content.fingerprint) for entry in store.records()}
    assert len(asked) == len({split for split, _ in asked})
    assert len({entry.content.code for entry in store.records()}) == 1
    names = {step["name"] for entry in store.records() for step in entry.content.steps}
    assert names <= set(registry.edit_names())


def test_the_records_make_the_board(again: Path) -> None:
    for name in ("leaderboard.csv", "leaderboard.json", "leaderboard.md", "leaderboard.tex"):
        assert (again / name).read_text() == (BOARD / name).read_text()


def test_no_baseline_is_near_the_top_of_a_headline(again: Path) -> None:
    """What deletes, rounds, disturbs or picks at random knows nothing of memory: a board it leads says nothing."""
    for board in json.loads((again / "leaderboard.json").read_text())["boards"]:
        assert board["attacks"]
        first = max(score(entry) for entry in board["entries"] if entry["rank"] == 1)
        controls = [entry for entry in board["entries"] if entry["kind"] == "control"]
        families = {
            entry["method"] if not entry["name"].startswith("magnitude-0") else "deletion" for entry in controls
        }
        assert families >= BASELINES.keys()
        for entry in controls:
            assert score(entry) < first - NEAR, entry["edit"]
        assert board["warnings"] == []


def score(entry: dict[str, Any]) -> float:
    """The split score that a row shows; the best of its strengths where none was chosen."""
    shown = [entry["figures"]] if "strength" in entry else [each["figures"] for each in entry["strengths"]]
    return max(figures.get("split_score", {}).get("value") or 0.0 for figures in shown)


def test_the_readme_shows_the_board(rows: dict[str, dict[str, str]]) -> None:
    lines = re.findall(r"^\| *(\d*) *\| `([^`]+)`(?: \(control\))? \| (.*) \|$", (ROOT / "README.md").read_text(), re.M)
    assert {method for _, method, _ in lines} == rows.keys()
    for rank, method, rest in lines:
        row = rows[method]
        strength, score, *cells = rest.split(" | ")
        assert (rank, strength) == (row["rank"], row["strength"]), method
        low, high = (f"{float(row[f'split_score_{end}']):.3f}" for end in ("low", "high"))
        assert score == f"{float(row['split_score']):.3f} [{low}, {high}]"
        names = ("net_erased", "stays_erased", "erased", "reasoning_kept", "fluency_kept", "knowledge_kept")
        assert cells == [f"{float(row[name]):.3f}" for name in names], method
