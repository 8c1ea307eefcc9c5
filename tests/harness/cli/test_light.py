"""Help, listings and refusals answer without torch, and ``cli/lazy`` imports what it says."""

import ast
import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from memsplit.harness.cli import lazy, main

HEAVY = ["torch", "transformers", "lm_eval", "datasets", "pandas", "scipy", "rich"]
VERSION = f"memsplit {version('memsplit')}\n"
ACTIONS = {
    "factors": ["collect", "import", "list", "show", "verify", "prune"],
    "runs": ["list", "show", "remove", "verify"],
    "pack": ["show", "check", "import"],
    "organism": ["train"],
}
OURS = [name for name in main.COMMANDS if name != "lm-eval"]  # whose help is lm-eval's own
HELP = [[name, *action] for name in OURS for action in ([], *([a] for a in ACTIONS.get(name, ())))]
CASES: list[tuple[list[str], int, str]] = [
    (["--help"], 0, "score a model before and after edits"),
    (["--version"], 0, VERSION),
    (["eval", "--version"], 0, VERSION),
    *(([*words, "--help"], 0, f"usage: memsplit {' '.join(words)}") for words in HELP),
    (["eval", "--list-models"], 0, "olmo-7b"),
    (["eval", "--list-edits"], 0, "kfac-PERCENT"),
    (["eval", "--list-tasks"], 0, "memsplit_twins"),
    (["edits", "kfac"], 0, "needs: curvature"),
    (["pack", "show", "olmo-tiny"], 0, "224 lines"),
    ([], 2, "COMMAND"),
    (["evla"], 2, "did you mean 'eval'?"),
    (["edits", "kfca"], 2, "did you mean 'kfac'?"),
    (["eval", "--edit", "kfca"], 2, "did you mean 'kfac'?"),
    (["eval", "--edit", "kfac-50:layers=9"], 2, "layer 9 is out of range"),
    (["eval", "--model", "olmo-tny"], 2, "did you mean 'olmo-tiny'?"),
    (["eval", "--dtype", "float3"], 2, "did you mean 'float32'?"),
    (["gate", "--edit", "kfca"], 2, "did you mean 'kfac'?"),
    (["export", "--edit", "kfca", "--out", "o"], 2, "did you mean 'kfac'?"),
    (["sweep", "--grid", "kfca-{50,60}"], 2, "did you mean 'kfac'?"),
    (["sweep", "--grid", "kfac-{50,60}", "--launcher", "rya"], 2, "did you mean 'ray'?"),
    (["spectrum", "--edit", "kfca"], 2, "did you mean 'kfac'?"),
    (["spectrum", "--layers", "4"], 2, "layer 4 is out of range"),
    (["factors", "collect", "--edit", "kfca"], 2, "did you mean 'kfac'?"),
    (["mine", "--out", "o", "--corpus", "nowhere"], 2, "unknown corpus 'nowhere'"),
    (["plant", "--passages", "p", "--out", "o", "--corpus", "nowhere"], 2, "unknown corpus 'nowhere'"),
    (["plant", "--passages", "p", "--out", "o", "--dtype", "float3"], 2, "did you mean 'float32'?"),
    (["leaderboard", "--format", "htm"], 2, "did you mean 'html'?"),
    (["compare", "a"], 2, "expected two or more"),
]
SCRIPT = """
import contextlib, io, json, sys
from memsplit.harness.cli.main import main
for arguments in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main(arguments)
        except SystemExit as error:
            code = error.code
    print(json.dumps([code, out.getvalue(), [name for name in sys.argv[1:] if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, list[str]]]:
    """Of each case the exit code, what was printed, and which heavy modules were imported by then, in one process."""
    lines = json.dumps([arguments for arguments, _, _ in CASES])
    folder = tmp_path_factory.mktemp("light")
    environment = {**os.environ, "MEMSPLIT_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", SCRIPT, *HEAVY]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, env=environment, cwd=folder)
    assert list(folder.iterdir()) == []
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("i", range(len(CASES)), ids=[" ".join(arguments) for arguments, _, _ in CASES])
def test_what_needs_no_model_answers_without_torch(i: int, answers: list[tuple[int, str, list[str]]]) -> None:
    _, code, said = CASES[i]
    assert answers[i][0] == code, answers[i][1]
    assert said in answers[i][1]
    assert answers[i][2] == []


def test_memsplit_eval_has_a_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["memsplit-eval", "--version"])
    with pytest.raises(SystemExit) as left:
        main.main_eval()
    assert (left.value.code, capsys.readouterr().out) == (0, VERSION)


def test_what_is_lazy_is_imported_under_the_name_that_types_are_checked_by() -> None:
    """The branch for the type checker and the table name the same modules, and every one of them is there."""
    tree = ast.parse(Path(str(lazy.__file__)).read_text())
    branch = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {}
    for node in branch.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            typed[alias.name] = f"{'.' * node.level}{node.module}.{alias.name}"
    table: dict[str, str] = vars(lazy)["MODULES"]
    assert typed == table
    for name, path in table.items():
        module: Any = getattr(lazy, name)
        assert module is importlib.import_module(path, lazy.__package__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vars(lazy)["__getattr__"]("nothing")
