"""Every command of the README runs, and the guide's example edit works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from memsplit.model_edits import registry
from memsplit.model_edits.spec import parse

ROOT = Path(__file__).parents[1]
COMMANDS = re.findall(r"^    ((?:memsplit|lm_eval|make).*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
SMALLER = {
    "memsplit-eval": ["--limit", "4", "--factor-tokens", "1024"],
    "organism": ["--steps", "1"],
    "export": ["--factor-tokens", "1024"],
    "factors collect": ["--factor-tokens", "1024"],
}


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 9


@pytest.mark.parametrize("command", COMMANDS)
def test_readme_command(command: str, tmp_path: Path) -> None:
    name, *arguments = shlex.split(command)
    bin_folder = Path(sys.executable).parent
    if name == "make":
        made = subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "memsplit-eval" in made.stdout
        return
    if name == "memsplit":
        arguments = [str(tmp_path / a) if a.startswith("olmo-tiny-") else a for a in arguments]
    if name == "memsplit-eval":
        arguments += ["--out", str(tmp_path / "out")]
    environment = {**os.environ, "MEMSPLIT_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    keys = (name, arguments[0], " ".join(arguments[:2]))
    smaller = next((SMALLER[key] for key in keys if key in SMALLER), [])
    done = subprocess.run(
        [bin_folder / name, *arguments, *smaller],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_guides_edit_works(monkeypatch: pytest.MonkeyPatch) -> None:
    match = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert match is not None
    code = match[1]
    assert code.count("\n") <= 30
    monkeypatch.setattr(registry, "_EDITS", dict(registry.edits()))
    exec(code, {"__name__": "memsplit.model_edits.methods.rows", "__package__": "memsplit.model_edits.methods"})
    weight = torch.tensor([[3.0, -1.0], [0.5, 2.0]])
    edit = registry.build(parse("rows-50"))
    assert isinstance(edit, registry.MatrixEdit)
    outcome = edit.new_weight(weight, None, "m")
    assert torch.equal(outcome.weight, torch.tensor([[3.0, -1.0], [0.0, 0.0]]))
