"""Who may import whom, what must answer without torch, and the public names."""

import logging.config
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import memsplit

HEAVY = {"torch", "transformers", "lm_eval", "pandas", "numpy", "datasets", "msgspec"}


def test_every_room_stands_on_those_below_it_and_none_in_a_circle(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)  # where import-linter looks for pyproject.toml
    monkeypatch.setattr(logging.config, "dictConfig", lambda config: None)  # which would silence every logger there is
    assert lint_imports(no_cache=True, no_logo=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize("folder", ["harness", "model_edits", "results", "tasks"])
def test_no_room_is_too_full(root: Path, folder: str) -> None:
    for room in {path.parent for path in (root / folder).rglob("*.py")}:
        assert len([path for path in room.glob("*.py") if path.name != "__init__.py"]) < 20, room


def imported(code: str) -> set[str]:
    """The top packages in ``sys.modules`` after a program ran in a process of its own."""
    program = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "module",
    [
        "harness.cli.main",
        "harness.cli.commands.listings",
        "harness.models.model_table",
        "harness.evaluation.request",
        "model_edits.registry",
        "tasks.suite",
    ],
)
def test_listings_never_import_torch(module: str) -> None:
    assert not imported(f"import memsplit.{module}") & {"torch", "transformers", "lm_eval", "pandas", "datasets"}


def test_import_memsplit_imports_nothing_heavy() -> None:
    assert not imported("import memsplit; dir(memsplit)") & HEAVY


def test_every_public_name_is_there_and_on_the_api_page(root: Path) -> None:
    for name in memsplit.__all__:
        assert getattr(memsplit, name) is not None
    assert set(memsplit.__all__) <= set(dir(memsplit))
    page = (root / "docs" / "api.md").read_text()
    documented = re.findall(r"^::: memsplit\.(\w+)$", page, re.MULTILINE)
    assert sorted(documented) == sorted(set(memsplit.__all__) - {"__version__"})
    assert not re.findall(r"^::: (?!memsplit\.\w+$).*", page, re.MULTILINE), "only public names are documented there"
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        _ = memsplit.evaluat
