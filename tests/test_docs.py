"""Every shell block of the documentation runs, page by page, or says why it does not; the guide's example edit works."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memsplit.harness.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")), *ROOT.glob("examples/*/*.md")]
BLOCK = re.compile(r"((?:<!-- not run: [^>]{10,} -->\n)?)^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = {"sh", "bash", "shell", "console"}
SMALLER = {
    "memsplit-eval": "--limit 4 --factor-tokens 1024",
    "memsplit eval": "--limit 4 --factor-tokens 1024",
    "memsplit export": "--factor-tokens 1024",
    "memsplit factors collect": "--factor-tokens 1024",
    "memsplit gate": "--limit 4 --factor-tokens 1024 --attack quantize",
    "memsplit spectrum": "--limit 4 --factor-tokens 1024",
}
"""What is added to a command, so that it takes seconds."""


def blocks(page: Path) -> list[tuple[bool, str, str]]:
    """(whether it is marked as not run, language, text) of each fenced block."""
    return [(bool(mark), language, text) for mark, language, text in BLOCK.findall(page.read_text())]


def commands(page: Path) -> list[str]:
    runnable = [text for marked, language, text in blocks(page) if language in SHELL and not marked]
    lines = "".join(runnable).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_every_shell_block_is_fenced_and_known() -> None:
    """A command outside a fence, or in one of no language, would be run by nobody."""
    for page in PAGES:
        text = BLOCK.sub("", page.read_text())
        assert "```" not in text, page
        assert not re.search(r"^ {4,}(memsplit|lm_eval|make|pip|python|git) ", text, re.MULTILINE), page
        assert {language for _, language, _ in blocks(page)} <= {*SHELL, "python", "yaml", "toml", "json", "text"}, page
    assert sum(len(commands(page)) for page in PAGES) > 40


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_a_pages_commands_run_one_after_the_other(
    page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("examples", "tasks", "harness", "results"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path_factory.getbasetemp() / "docs-cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for command in commands(page):
        smaller = next((more for begin, more in SMALLER.items() if command.startswith(f"{begin} ")), "")
        command = command.replace(" --attacks", " --attack quantize")  # relearning takes a minute
        if command.startswith("make "):
            command = f"{command} -n -C {ROOT}"
        ours = command.startswith("memsplit") and "$" not in command
        if ours:  # the same as a process of its own, without its seconds of imports
            name, *words = shlex.split(f"{command} {smaller}")
            code = main.main(["eval", *words] if name == "memsplit-eval" else words)
            said = ""
        else:
            done = subprocess.run(
                ["bash", "-c", f"{command} {smaller}"], capture_output=True, text=True, check=False, cwd=tmp_path
            )
            code, said = done.returncode, done.stderr[-3000:]
        expected = (0, 1, 3) if command.startswith("memsplit gate ") else (0,)  # a verdict, whichever so few items give
        assert code in expected, (command, said)


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    code = [text for _, language, text in blocks(ROOT / "docs" / "api.md") if language == "python"]
    exec(code[0].replace("limit=8", "limit=4, factor_tokens=1024"), {})
    assert len(list(tmp_path.glob("memsplit-results/*.json"))) == 1
    names: dict[str, Any] = {}
    exec(code[1], names)
    assert names["found"]["results"]["memsplit_logic_chain"]["acc,none"] > 0.5


def test_the_notebook_runs_what_its_page_shows() -> None:
    """Text, code and order of the cells are those of ``docs/python.md``, but for the link to the notebook itself."""
    page = (ROOT / "docs" / "python.md").read_text()
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code == [
        text.strip("\n") for _, language, text in blocks(ROOT / "docs" / "python.md") if language == "python"
    ]
    assert not any(cell.get("outputs") for cell in cells), "outputs are made where it is run"
    told = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown").split()
    shown = BLOCK.sub("", page).replace(
        "The same code is a [notebook](notebook.ipynb) that you can download and run.", ""
    )
    assert told == shown.split()


def test_the_errors_of_the_page_are_the_commands_own() -> None:
    """What a line says between its blanks stands in the code."""
    code = " ".join("".join(path.read_text() for path in ROOT.glob("*/**/*.py") if ".venv" not in path.parts).split())
    lines = re.findall(r"^\| `(.+?)` ", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        for part in re.split(r"…|'[^']*'|\bN\b|\bM\b|\(No space left on device\)", line):
            words = part.strip(" :;,'`")
            assert len(words) < 8 or words in code, (line, words)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if shutil.which("mkdocs", path=Path(sys.executable).parent) is None:
        pytest.skip("mkdocs is not installed: pip install 'memsplit[docs]'")
    done = subprocess.run(
        ["make", "site", f"VENV={Path(sys.prefix)}", f"SITE={tmp_path / 'site'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "site" / "index.html").read_text()
    assert "memsplit-eval" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=\"https?://", page)
