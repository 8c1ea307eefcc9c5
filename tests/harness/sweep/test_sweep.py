"""Sweeps by running them: the same records however they come about, the report, and the user's mistakes."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from memsplit.harness.cli import main
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.models.loading import LoadedModel
from memsplit.harness.sweep import view, workers
from memsplit.results.records import tables
from memsplit.results.records.store import RecordFilter, Store
from memsplit.results.statistics.selection import Bounds
from memsplit.results.views import sweep_charts
from memsplit.tasks import packs
from memsplit.tests.results.statistics.test_selection import row
from memsplit.tests.support.browsing import Opened, check_page
from memsplit.tests.support.running import memsplit

TASKS = "memsplit_recitation,memsplit_twins,memsplit_facts_open,memsplit_arithmetic_addition,memsplit_logic_boolean,memsplit_fluency"
ASKED: list[str | int | Path] = ["--tasks", TASKS, "--limit", 4, "--factor-tokens", 1024, "--attack", "quantize"]
SMALL = [*ASKED, "--test-limit", 4, "--max-perplexity-ratio", "1.5"]
GRID = ["--grid", "kfac-{80,95}:layers=3@{0,0.5}", "--grid", "random:match=kfac-80"]
SPECS = [f"kfac-{percent}:layers=3,proj=gate+up{dial}" for percent in (80, 95) for dial in ("", "@0.5")]
CONTROL = "random:layers=1-3,match=kfac-80,proj=gate+up"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def swept(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that ran through."""
    out = tmp_path_factory.mktemp("out") / "sweep"
    done = memsplit("sweep", *GRID, "--baseline", "kfac-90:layers=3@0.9", *SMALL, "--out", out, cache=cache)
    assert done.returncode == 0, done.stderr
    assert "5 of 6: random" in done.stderr
    assert "s left" in done.stderr
    assert "chosen: kfac" in done.stdout
    return out


@pytest.fixture
def here(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process find what the sweep left in the cache."""
    monkeypatch.setenv("MEMSPLIT_CACHE", str(cache))


def ids(out: Path, split: str) -> dict[str, str]:
    return {found.spec: found.id for found in Store(out).records(RecordFilter(split=split))}


def content(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report" / "sweep.json").read_text())
    return found


def test_every_edit_has_a_record_of_dev_and_the_chosen_one_of_test(swept: Path) -> None:
    found = content(swept)
    baseline, chosen = "kfac-90:layers=3,proj=gate+up@0.9", found["chosen"]["spec"]
    assert [edit["spec"] for edit in found["edits"]] == [*SPECS, CONTROL, baseline]
    assert ids(swept, "dev") == {edit["spec"]: edit["record"].removesuffix(".json") for edit in found["edits"]}
    assert chosen in SPECS
    assert set(ids(swept, "test")) == {chosen, baseline} == set(found["test"])
    assert set(found["lead"]) == {"dev", "test"}
    sides = {edit["spec"]: edit["summary"]["perplexity_ratio"]["value"] for edit in found["edits"]}
    assert found["lead"]["dev"]["perplexity_ratio"]["value"] == pytest.approx(sides[chosen] - sides[baseline])
    assert not list(Store(swept).orphans())


def test_it_chooses_on_passages_of_dev_and_reports_others_of_test(swept: Path) -> None:
    pack = packs.find("olmo-tiny")
    for split in ("dev", "test"):
        asked = [row["prefix_text"] for row in pack.rows("memorized", split)[:4]]
        for found in Store(swept).records(RecordFilter(split=split)):
            answers = tables.answers(found, "edit")
            recited = answers[answers["task"] == "memsplit_recitation"]
            assert sorted(set(recited["prompt"])) == sorted(asked), (split, found.spec)


def test_what_is_to_be_forgotten_decides_whether_a_record_is_of_the_same_edit(
    organism: LoadedModel, tmp_path: Path
) -> None:
    """A sweep goes on with the records of equal edits; those of an edit by other passages are of another."""
    rows = {kind: packs.find("olmo-tiny").rows(kind) for kind in ("memorized", "clean", "corpus")}
    recipe_hashes: dict[str, list[str | None]] = {"finetune": [], "svd-80": []}
    for n in (0, 1, 1):
        folder = tmp_path / str(n)
        packs.write(folder, {**rows, "memorized": rows["memorized"][n:]}, packs.Manifest())
        entry = dataclasses.replace(organism.entry, pack=str(folder))
        editor = ModelEditor(dataclasses.replace(organism, entry=entry))
        for spec, found in recipe_hashes.items():
            found.append(editor.recipe_hash(editor.chain(spec)))
    first, second, again = recipe_hashes["finetune"]
    assert first != second == again
    assert len(set(recipe_hashes["svd-80"])) == 1


def test_its_records_are_those_of_an_evaluation(swept: Path, here: None, tmp_path: Path) -> None:
    arguments = ["eval", "--edit", SPECS[0], "--split", "dev", *map(str, ASKED)]
    assert main.main([*arguments, "--out", str(tmp_path)]) == 0
    assert ids(tmp_path, "dev")[SPECS[0]] == ids(swept, "dev")[SPECS[0]]


def test_a_killed_sweep_goes_on_and_writes_the_same_records(
    swept: Path, cache: Path, here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*GRID, "--baseline", "kfac-90:layers=3@0.9", *SMALL, "--out", tmp_path / "out"]
    arguments = ["sweep", *map(str, asked)]
    command = [sys.executable, "-m", "memsplit", *arguments]
    environment = {**os.environ, "MEMSPLIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as killed:
        assert killed.stderr is not None
        for line in killed.stderr:
            if line.startswith("2 of 6"):
                killed.kill()
    assert killed.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in Store(tmp_path / "out").paths()}
    assert 2 <= len(before) < 6
    assert main.main([*arguments, "--json"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for split in ("dev", "test"):
        assert ids(tmp_path / "out", split) == ids(swept, split)
    again, first = json.loads(capsys.readouterr().out), content(swept)
    assert {**again, "edits": None} == {**first, "edits": None}


def test_a_search_evaluates_as_many_as_there_are_trials(
    swept: Path, here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On what takes itself for a terminal; then it is begun again."""
    arguments = ["sweep", *GRID, *map(str, SMALL), "--no-test", "--trials", "3", "--json", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(sys.stderr, "isatty", lambda: True)
        patch.setenv("TERM", "xterm")
        assert main.main(arguments) == 0
    first = capsys.readouterr()
    assert "of 3 edits" in first.err
    found = json.loads(first.out)
    specs = {edit["spec"] for edit in found["edits"]}
    assert len(specs) == 3
    assert specs < {*SPECS, CONTROL}
    assert found["test"] == {}
    expected = ids(swept, "dev")
    assert ids(tmp_path, "dev") == {spec: expected[spec] for spec in specs}
    monkeypatch.setattr(workers.Worker, "evaluate", lambda *_: pytest.fail("evaluated again"))
    assert main.main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_nothing_within_the_bounds_is_exit_code_1(
    swept: Path, here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--grid", SPECS[0], *map(str, SMALL), "--min-kept", "logic=1", "--max-perplexity-ratio", "0.5"]
    assert main.main(["sweep", *arguments, "--out", str(tmp_path)]) == 1
    assert "chosen: none: none of 1 edits is within the bounds" in capsys.readouterr().out
    assert content(tmp_path)["chosen"]["spec"] is None
    assert (tmp_path / "report" / "frontier.svg").exists()
    assert not (tmp_path / "report" / "dials.svg").exists()


def test_the_page_shows_charts_and_asks_for_nothing(swept: Path, browser: Any) -> None:
    path = swept / "report" / "sweep.html"
    check_page(browser, path, charts=4)
    opened = Opened(browser, path)
    assert opened.tab.locator("table:not(details table) tbody tr").count() == 6 + 2
    titles = opened.tab.locator("figcaption").all_inner_texts()
    assert titles[0] == "memory against reasoning"
    assert sorted(titles[2:]) == ["kfac-80:layers=3,proj=gate+up", "kfac-95:layers=3,proj=gate+up"]
    points = opened.tab.locator(".chart").first.locator("path[aria-roledescription=point]")
    assert points.count() >= 6
    opened.tab.close()
    for name in ("frontier", "dials"):
        assert (swept / "report" / f"{name}.svg").read_text().startswith("<svg")


def test_names_on_the_page_are_no_markup(swept: Path, browser: Any, tmp_path: Path) -> None:
    hostile = "<!--<script>alert(1)</script><img src=x onerror=alert(2)>"
    found = content(swept)
    found |= {"model": hostile, "grids": [hostile], "test": {}}
    found["chosen"] = {"spec": hostile, "why": hostile, "by_silence": f"2{hostile}"}
    found["edits"][0]["spec"] = hostile
    rows = [row(hostile, 0.9), row(f"{hostile}@0.5", 0.8, dial=0.5)]
    sweep_charts.write(tmp_path, found, rows, Bounds())
    check_page(browser, tmp_path / "sweep.html", charts=3)
    opened = Opened(browser, tmp_path / "sweep.html")
    assert opened.tab.locator("h1").inner_text() == f"Sweep of {hostile}"
    assert opened.tab.title() == f"Sweep of {hostile}"
    assert opened.tab.locator("figcaption").last.inner_text() == hostile
    assert opened.tab.locator("img").count() == 0
    assert opened.said == []
    opened.tab.close()


def descendants(of: int) -> dict[int, str]:
    """Processes that a process started, and theirs, with their titles."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    found = {of}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {process: titles[process] for process in found if process in titles}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_of_ray_write_the_same_records_though_one_is_killed(swept: Path, cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    arguments = [*GRID, *SMALL, "--no-test", "--launcher", "ray", "--workers", 2, "--out", tmp_path]
    command = [sys.executable, "-m", "memsplit", "sweep", *map(str, arguments)]
    environment = {**os.environ, "MEMSPLIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as run:
        assert run.stderr is not None
        lines = []
        for line in run.stderr:
            lines.append(line)
            if line.startswith("1 of 5"):
                actors = [pid for pid, title in descendants(run.pid).items() if title.startswith("ray::Worker")]
                assert len(actors) == 2
                os.kill(actors[0], signal.SIGKILL)
    assert run.returncode == 0, "".join(lines)
    assert all(" of 5: " in line for line in lines), "".join(lines)
    expected = ids(swept, "dev")
    assert ids(tmp_path, "dev") == {spec: expected[spec] for spec in (*SPECS, CONTROL)}


def test_the_live_table_says_what_is_best_and_how_long_it_takes() -> None:
    from rich.console import Console

    shown = view.SweepView(10, Bounds())
    shown.add(row("kfac-60", 0.9, 2.2), new=False)
    assert shown.left() == "?"
    shown.add(row("kfac-80", 0.8), new=True)
    shown.start = time.monotonic() - 60
    console = Console(width=100, record=True, quiet=False, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(shown.render())
    console.file.close()
    text = console.export_text()
    assert "2 of 10 edits, 60 s gone, 8 min left" in text
    assert text.index("best so far") < text.index("kfac-80") < text.index("last") < text.index("kfac-60")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grid", "kfac-{80,101}"], ["bad edit 'kfac-101'", "0 to 100", "--grid 'kfac-{80,101}'"]),
        (["--grid", "kfac-80:layers={3..4}"], ["layer 4 is out of range", "0-3", "'kfac-80:layers=4'"]),
        (["--grid", "kfac-{80"], ["bad grid 'kfac-{80'", "'{80' found"]),
        (["--grid", "{kfac,kfca}-80"], ["unknown edit 'kfca'", "did you mean 'kfac'", "'{kfac,kfca}-80'"]),
        ([], ["--grid"]),
        (
            ["--grid", "kfac-80", "--tasks", "memsplit_recitation,memsplit_twins,memsplit_fluency"],
            ["'logic'", "--tasks"],
        ),
        (["--grid", "kfac-80", "--min-kept", "logc=0.9"], ["unknown axis 'logc'", "did you mean 'logic'"]),
        (["--grid", "kfac-80", "--min-kept", "logic"], ["'logic' found", "AXIS=SHARE"]),
        (["--grid", "kfac-80", "--max-perplexity-ratio", "0"], ["'0' found", "above 0"]),
        (["--grid", "kfac-80", "--launcher", "rya"], ["unknown launcher 'rya'", "did you mean 'ray'"]),
        (["--grid", "kfac-80", "--workers", "2"], ["--workers", "--launcher ray"]),
        (["--grid", "kfac-80", "--baseline", "kfca"], ["unknown edit 'kfca'"]),
        (["--grid", "kfac-80", "--out", "/proc/nowhere"], ["cannot be written to"]),
    ],
)
def test_mistakes_are_refused_before_anything_is_loaded(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers.Worker, "load", lambda *_: pytest.fail("loaded"))
    assert main.main(["sweep", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("package", "option"), [("optuna", ["--trials", "2"]), ("ray", ["--launcher", "ray"])])
def test_extras_that_are_missing_are_named(
    package: str, option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert main.main(["sweep", "--grid", "kfac-{70,80}", *option, "--out", str(tmp_path / "out")]) == 2
    assert f"pip install 'memsplit[{package}]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_dry_run_counts_the_edits_and_writes_nothing(
    swept: Path, here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--grid", "kfac-{80,95}:layers=3", "--trials", "1", *map(str, SMALL), "--dry-run"]
    assert main.main(["sweep", *arguments, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "edit: kfac-95:layers=3,proj=gate+up: factors cached" in told
    assert "2 edits of 1 grid\nof those, 1 are scored: about 50% of the time of all" in told
    assert not (tmp_path / "out").exists()
