"""The guide's example edit, pasted: one file and its row of the docs pass lint, types and the tables of tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

COPIED = ("model_edits", "tests", "docs", "pyproject.toml")
ROW = "| `rows-P` | P % of the output rows, largest norm first | |\n"
LIGHT = """
[[tool.mypy.overrides]]
module = ["torch.*", "numpy.*", "huggingface_hub.*", "safetensors.*"]
follow_imports = "skip"  # checking them takes half a minute, and the example only calls them
"""


@pytest.fixture(scope="module")
def pasted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the example in it, and nothing else changed."""
    package = tmp_path_factory.mktemp("guide") / "memsplit"
    package.mkdir()
    for path in root.iterdir():
        if path.name in COPIED:
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, package / path.name)
        elif not path.name.startswith(".") and path.name != "build":
            (package / path.name).symlink_to(path)
    (code,) = re.findall(r"## An edit\n.*?```python\n(.*?)```", (root / "docs" / "extend.md").read_text(), re.DOTALL)
    assert code.count("\n") <= 30
    (package / "model_edits" / "methods" / "rows.py").write_text(code)
    page = package / "docs" / "edits.md"
    page.write_text(page.read_text() + ROW)
    with (package / "pyproject.toml").open("a") as file:
        file.write(LIGHT)
    return package


@pytest.fixture(autouse=True)
def has_tools() -> None:
    for tool in ("ruff", "mypy"):
        if find_spec(tool) is None:
            pytest.skip(f"{tool} is not installed: pip install 'memsplit[dev]'")


def run(package: Path, *words: str) -> str:
    """The output of a command that must succeed, with the copy as the package ``memsplit``."""
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=package, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_passes_lint(pasted: Path) -> None:
    run(pasted, "ruff", "check", "--no-cache", "model_edits/methods/rows.py")
    run(pasted, "ruff", "format", "--check", "--no-cache", "model_edits/methods/rows.py")


def test_it_passes_the_type_checker(pasted: Path) -> None:
    run(pasted, "mypy", "--cache-dir", os.devnull, "-m", "memsplit.model_edits.methods.rows")


def test_it_is_listed(pasted: Path) -> None:
    assert "rows-PERCENT: keep PERCENT of the output rows" in run(pasted, "memsplit", "edits")


def test_it_passes_the_tables_of_tests(pasted: Path) -> None:
    files = ("test_conformance.py", "test_registry.py", "test_golden.py")
    options = ("-q", "-p", "no:cacheprovider", "-k", "rows or figures")
    said = run(pasted, "pytest", *options, *(f"tests/model_edits/{name}" for name in files))
    assert re.search(r"\b1[0-9] passed", said), said
