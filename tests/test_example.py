"""The example package: installed beside the project, known to every command, and its own test passes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def environment(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a process that sees the installed package."""
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    subprocess.run(["cp", "-r", root / "examples" / "memsplit-rtn", source], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder / "installed"), str(source)], check=True)
    return {**os.environ, "PYTHONPATH": str(folder / "installed"), "MEMSPLIT_CACHE": str(folder / "cache")}


def test_the_example_is_an_edit_like_any_other(environment: dict[str, str], tmp_path: Path) -> None:
    listed = subprocess.run(
        [BIN / "memsplit", "edits", "rtn"], env=environment, capture_output=True, text=True, check=True
    )
    assert "bits=int [4]" in listed.stdout
    job = ["--edit", "rtn:bits=3", "--edit", "svd-90+rtn", "--tasks", "memsplit_logic_boolean", "--limit", "4"]
    done = subprocess.run(
        [BIN / "memsplit-eval", *job, "--json", "--out", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    specs = [edit["spec"] for edit in json.loads(done.stdout)["edits"]]
    assert specs == ["rtn:bits=3,layers=1-3,proj=gate+up", "svd-90:layers=1-3,proj=gate+up+rtn:layers=1-3,proj=gate+up"]


def test_a_bad_key_of_the_example_is_told(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [BIN / "memsplit-eval", "--edit", "rtn:bits=9"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        2,
        "memsplit: error: bad edit 'rtn:bits=9': 9 found, expected bits from 2 to 8\n",
    )


def test_the_examples_own_test_passes(environment: dict[str, str], root: Path) -> None:
    tests = root / "examples" / "memsplit-rtn" / "tests"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
        env=environment,
        cwd=tests,
        capture_output=True,
        check=True,
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("memsplit_none:X", "cannot be used: No module named"),
        ("memsplit.errors:UserError", "is no subclass of"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(tmp_path: Path, value: str, message: str) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[memsplit.edits]\nmine = {value}\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([BIN / "memsplit", "edits"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "the edit 'mine' of the package" in done.stderr
    assert "Traceback" not in done.stderr
