"""Figures that every version of memsplit must find again, or say by its version that it finds others.

Kept scores, ``--resume`` and the board go by explicit versions (``scoring.VERSION``, ``metadata.version`` of a task's
YAML), so a figure that changes and no version with it would be mixed with older ones. Where a change is meant: raise the
version, then ``python -m memsplit.tests.test_golden`` writes the figures anew.
"""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest

from memsplit.harness.evaluation import scoring
from memsplit.harness.evaluation.request import Request
from memsplit.harness.evaluation.runner import run

PATH = Path(__file__).parent / "golden" / "scores.json"
ASKED: dict[str, dict[str, Any]] = {
    "memsplit": {"pack": "olmo-tiny+world", "suite": "memsplit", "limit": 3},
    "memsplit_audit": {"pack": "olmo-tiny", "suite": "memsplit_audit", "limit": 2},
}


def found(out: Path) -> dict[str, Any]:
    """By suite: scoring's and each task's version, and every figure of base and edit."""
    suites = {}
    for name, asked in ASKED.items():
        request = Request(model="olmo-tiny", edits=["svd-60"], split="dev", rescore=True, out=out, **asked)
        content = run(request).records[0].content
        versions = {name: task.version for name, task in content.tasks.items()}
        sides = {"base": content.base, "edit": content.edited}
        suites[name] = {"versions": {"scoring": scoring.VERSION, **versions}, **sides}
    return suites


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return found(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("suite", ASKED)
def test_no_figure_changes_without_its_version(suite: str, now: dict[str, Any]) -> None:
    golden, fresh = json.loads(PATH.read_text())[suite], now[suite]
    assert fresh["versions"] == golden["versions"], "write the figures anew: see this file's first lines"
    for side in ("base", "edit"):
        assert fresh[side].keys() == golden[side].keys()
        for axis, metrics in golden[side].items():
            assert fresh[side][axis].keys() == metrics.keys()
            for metric, value in metrics.items():
                again = fresh[side][axis][metric]
                close = again == value or math.isclose(again, value, rel_tol=1e-3, abs_tol=1e-5)
                assert close, f"{side} {axis}/{metric}: {again}, {value} before, and no version is another"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        PATH.write_text(json.dumps(found(Path(folder)), indent=1) + "\n")
