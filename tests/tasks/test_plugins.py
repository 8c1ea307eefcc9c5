"""Packages that add tasks and packs: the example, and those that cannot be used."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from memsplit.errors import UserError
from memsplit.harness.evaluation.task_selection import choose_parts
from memsplit.harness.models import model_table
from memsplit.tasks import packs, plugins, suite


def install(site: Path, name: str, groups: dict[str, dict[str, str]]) -> None:
    """What an installer writes that matters here: the package's entry points."""
    info = site / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{k} = {v}" for k, v in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def rivers(root: Path, tmp_path: Path) -> list[str]:
    """The folders to import from, with the example installed."""
    source = root / "examples" / "memsplit-rivers"
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    install(tmp_path, "memsplit_rivers", project["entry-points"])
    return [str(tmp_path), str(source)]


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Packages are looked for once a process."""
    suite.installed.cache_clear()
    yield
    suite.installed.cache_clear()


def test_the_examples_tasks_and_pack_are_found_by_name(rivers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in rivers:
        monkeypatch.syspath_prepend(folder)
    assert "rivers" in packs.names()
    assert [row["answer"] for row in packs.find("rivers").rows("facts_choice", "test")][1] == "North Sea"
    entry = model_table.resolve("olmo-tiny", "olmo-tiny+rivers")
    parts, _ = choose_parts("rivers", [], entry)
    assert [(part.task, part.axis) for part in parts] == [
        ("memsplit_recitation", "recitation"),
        ("rivers_longer", "geography"),
        ("memsplit_facts_choice", "facts_closed"),
    ]
    parts, _ = choose_parts("memsplit", ["rivers_*"], entry)
    assert [(part.task, part.metrics, part.chance) for part in parts] == [("rivers_longer", {"acc": "longer"}, 0.5)]
    with pytest.raises(UserError, match="did you mean 'rivers_longer'"):
        choose_parts("memsplit", ["rivers_longr"], entry)


def test_the_examples_suite_is_scored(rivers: list[str], root: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "MEMSPLIT_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([*rivers, *filter(None, [os.environ.get("PYTHONPATH")])])
    job = ["eval", "--suite", "rivers", "--pack", "olmo-tiny+rivers", "--edit", "none", "--limit", "3", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "memsplit", *job, "--out", str(tmp_path / "out")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["skipped"] == []
    assert list(report["base"]) == ["recitation", "geography", "facts_closed"]
    content = json.loads(Path(report["edits"][0]["record"]).read_text())
    assert content["chance"]["geography/longer"] == 0.5


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("memsplit_none", "cannot be used: No module named"),
        ("memsplit.tasks.suite:NOTHING", "cannot be used: module 'memsplit.tasks.suite' has no attribute"),
        ("memsplit.tasks.suite:OTHER", "names 'other': expected a folder"),
        ("memsplit.tasks.packs", "names 'None': expected a folder"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(
    tmp_path: Path, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "broken", {"memsplit.tasks": {"mine": value}, "memsplit.packs": {"mine": value}})
    monkeypatch.syspath_prepend(str(tmp_path))
    for ask in (suite.installed, lambda: packs.find("mine")):
        with pytest.raises(UserError, match="the package 'broken'") as caught:
            ask()
        assert words in str(caught.value)
    choose_parts("memsplit", ["memsplit_logic_chain"], model_table.resolve("olmo-tiny"))  # which needs no package


def test_a_module_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "own", {"memsplit.tasks": {"own": "memsplit.tasks.suite"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugins.folder(plugins.TASKS, "own") == suite.FOLDER
    assert plugins.folder(plugins.TASKS, "none") is None
