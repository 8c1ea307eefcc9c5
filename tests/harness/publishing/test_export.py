"""An exported model scores what its edit scored, to the last item, in this harness and under stock lm-eval."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from memsplit.files import replacing_folder
from memsplit.harness.cli import main
from memsplit.results.records import record, tables
from memsplit.results.records.schema import Results
from memsplit.tasks import suite
from memsplit.tests.support.running import OF_TOKEN_STATS

LIMIT = 10
JOB = ["--edit", "kfac-80+svd-95", "--factor-tokens", "1024"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of the edit."""
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSPLIT_CACHE", str(folder / "cache"))
        assert main.main(["eval", *JOB, "--limit", str(LIMIT), "--out", str(folder / "out")]) == 0
        (path,) = (folder / "out").glob("*.json")
        arguments = ["export", *JOB, "--record", str(path), "--out", str(folder / "model")]
        assert main.main(arguments) == 0
    return path


def edited_items(path: Path) -> pd.DataFrame:
    return tables.items(record.read(path), "edit").set_index(["task", "metric", "item"])["value"]


def test_stock_lm_eval_scores_every_item_the_same(scored: Path, root: Path) -> None:
    manager = TaskManager(include_path=str(root / "tasks"), include_defaults=False)
    lm = HFLM(pretrained=str(scored.parents[1] / "model"), batch_size=32, device="cpu", dtype="auto")
    tasks = {"tasks": manager.load(["memsplit"])["tasks"]}
    found = evaluate(lm, tasks, limit=LIMIT, bootstrap_iters=0, log_samples=True)["samples"]
    items = edited_items(scored)
    compared = 0
    for part in (suite.own().tasks[task] for task in found):
        for sample in found[part.task]:
            for metric, name in part.metrics.items():
                if metric in OF_TOKEN_STATS:
                    continue
                value = sample[metric][0] / sample[metric][1] if isinstance(sample[metric], tuple) else sample[metric]
                assert value == pytest.approx(items[part.task, name, sample["doc_id"]], rel=1e-5)
                compared += 1
    of_ours = {*OF_TOKEN_STATS, "mia_ratio"}  # which takes another model beside it
    assert compared == sum(name not in of_ours for _, name, _ in items.index)


def test_the_card_names_the_edit_and_its_figures(scored: Path) -> None:
    content = record.read(scored).content
    text = (scored.parents[1] / "model" / "README.md").read_text()
    for word in (content.spec, content.edited_weights, content.id, content.fingerprint, "model-index:"):
        assert word in text
    config = json.loads((scored.parents[1] / "model" / "config.json").read_text())
    assert config["dtype"] == "float32"


def test_a_folder_is_not_overwritten_but_by_force(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "model"
    out.mkdir()
    (out / "mine").write_text("")
    job = ["export", "--edit", "none", "--out", str(out)]
    assert main.main(job) == 2
    assert "is there already: expected a new folder, or --force" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["mine"]
    assert main.main([*job, "--force"]) == 2
    assert "or one that was exported before" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["mine"]
    (out / "mine").unlink()
    assert main.main([*job, "--force", "--record", str(scored)]) == 2
    assert "expected none on olmo-tiny" in capsys.readouterr().err
    assert list(out.iterdir()) == []
    for _ in range(2):
        assert main.main([*job, "--force"]) == 0
        assert (out / "model.safetensors").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"spec": "kfac-80:layers=1-3,proj=gate+up"},
            "expected kfac-80:layers=1-3,proj=gate+up+svd-95:layers=1-3,proj=gate+up on olmo-tiny",
        ),
        ({"weights": "0" * 64}, "on olmo-tiny (000000000000), expected"),
        ({"edited_weights": "0" * 64}, "is of other curvature than this edit's"),
    ],
)
def test_a_record_of_another_edit_or_of_other_weights_is_refused(
    scored: Path,
    changed: dict[str, str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(scored.parents[1] / "cache"))
    known = record.read(scored)
    results = {name: getattr(known.content, name) for name in Results.__struct_fields__}
    items = pd.concat([tables.items(known, side).assign(side=side) for side in ("base", "edit")], ignore_index=True)
    other = record.write(tmp_path, "other", Results(**{**results, **changed}), items)
    arguments = ["export", *JOB, "--record", str(other.path), "--out", str(tmp_path / "model")]
    assert main.main(arguments) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    """Broken while it is written, or at either of the two moves at the end."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").write_text("")
    original, moves = os.replace, []

    def replace(source: Path, target: Path) -> None:
        moves.append(target)
        if len(moves) == broken:
            raise OSError(28, "No space left on device")
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match=r"space|half"), replacing_folder(tmp_path / "model") as partial:
        (partial / "half").write_text("")
        if not broken:
            raise OSError("half")
    assert [p.name for p in tmp_path.rglob("*")] == ["model", "mine"]
