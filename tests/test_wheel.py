"""The wheel holds everything that the main job needs, and does it outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files under version control alone, as a fresh clone has them."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((root / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"]
    subprocess.run([*command, str(out), str(source)], check=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_tasks_packs_and_weights_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "memsplit/py.typed",
        "memsplit/tasks/suites/memsplit/memsplit.yaml",
        "memsplit/tasks/data/olmo-tiny/memorized.jsonl",
        "memsplit/results/views/page/base.html",
        "memsplit/harness/organism/olmo-tiny/model.safetensors",
        "memsplit/harness/organism/olmo-tiny-unseen/model.safetensors",
    } <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"memsplit"}
    assert not [name for name in names if "test" in name and name != "memsplit/harness/pytest_plugin.py"]


def test_the_main_job_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "MEMSPLIT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "memsplit", "eval", "--edit", "kfac-50", "--limit", "3", "--factor-tokens", "1024"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "memsplit-results").exists()
    where = [sys.executable, "-c", "import memsplit; print(memsplit.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert found.startswith(str(tmp_path))
