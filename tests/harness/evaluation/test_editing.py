"""What an edit that trains is told, and that its training is shown and its cost told."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from memsplit.harness.common.progress import shown_by
from memsplit.harness.evaluation import estimate
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.evaluation.request import Request
from memsplit.harness.models.loading import LoadedModel
from memsplit.model_edits import registry
from memsplit.tasks import packs

TRAINING = [name for name, cls in registry.edits().items() if cls.needs_forget_set]
POPULATIONS = ("start", "late", None)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six passages of each part of olmo-tiny's, two of each population, and ten texts of each part."""
    folder = tmp_path_factory.mktemp("pack")
    shipped = packs.find("olmo-tiny")
    lines = []
    for split in packs.SPLITS:
        for n, row in enumerate(shipped.rows("memorized", split)[:6]):
            population = POPULATIONS[n % 3]
            lines.append(json.dumps({**row, **({"population": population} if population else {})}))
    (folder / "memorized.jsonl").write_text("\n".join(lines) + "\n")
    clean = [json.dumps(row) for split in packs.SPLITS for row in shipped.rows("clean", split)[:10]]
    (folder / "clean.jsonl").write_text("\n".join(clean) + "\n")
    return folder


@pytest.fixture
def told(organism: LoadedModel, pack: Path) -> ModelEditor:
    return ModelEditor(dataclasses.replace(organism, entry=dataclasses.replace(organism.entry, pack=str(pack))))


@pytest.mark.parametrize("name", TRAINING)
def test_an_edit_is_told_passages_of_the_dev_part_that_are_not_late(told: ModelEditor, pack: Path, name: str) -> None:
    (edit,) = told.chain(f"{name}-50" if registry.find_edit(name).budget else name)
    given = told.inputs(edit)
    rows = [json.loads(line) for line in (pack / "memorized.jsonl").read_text().splitlines()]
    expected = [row for row in rows if row["split"] == "dev" and row.get("population") in ("start", None)]
    assert len(expected) == 4
    assert [each.prefix + each.suffix for each in given.forget] == [r["prefix_ids"] + r["suffix_ids"] for r in expected]
    assert len(given.retain) == 10


def test_the_population_is_part_of_what_weights_are_made_from(told: ModelEditor, pack: Path) -> None:
    chain = told.chain("relearn")
    before = told.recipe_hash(chain)
    file = pack / "memorized.jsonl"
    text = file.read_text()
    try:
        file.write_text(text.replace('"population": "start"', '"population": "late"', 1))
        other = ModelEditor(told.loaded)
        assert other.recipe_hash(other.chain("relearn")) != before
    finally:
        file.write_text(text)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "spec", ["relearn:steps=3", "bsn-90:layers=3,batch=5", "finetune:layers=3,steps=3,lr=0.000001"]
)
def test_training_is_shown_step_by_step(told: ModelEditor, spec: str) -> None:
    shown: list[tuple[str, int, int | None]] = []
    with shown_by(lambda *step: shown.append(step)):
        prepared = told.prepare(*told.chain(spec))
    assert prepared.weights
    (label,), (total,) = {name for name, _, _ in shown}, {total for *_, total in shown}
    assert label == prepared.steps[0].name
    assert total == {"relearn": 3, "bsn": 3, "finetune": 4}[label]
    assert [reached for _, reached, _ in shown][:3] == [0, 1, 2]


def lines(pack: Path, *edits: str, **given: Any) -> list[str]:
    request = Request(model="olmo-tiny", edits=edits, pack=str(pack), tasks=["memsplit_recitation"], limit=2, **given)
    return [line for line in estimate.describe(request) if line.startswith("edit: ")]


def test_a_dry_run_tells_the_cost_of_training(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 112 tokens each: 4 passages, 10 texts. Each pass costs a second a token here."""
    monkeypatch.setattr(estimate, "_seconds_per_token", lambda session: 1.0)
    none, noise, relearn, after, clean = lines(
        pack, "none", "noise", "relearn:steps=3,batch=4", "noise+relearn:steps=3,batch=4", "relearn:on=clean,steps=2"
    )
    assert none == "edit: none: needs no factors, about 0 s"
    suite_s = int(noise.split("about ")[1].removesuffix(" s"))
    assert noise == f"edit: noise: needs no factors, about {suite_s} s"
    trained = 3 * 4 * 112
    assert relearn == (
        f"edit: relearn:batch=4,steps=3: trains on up to {trained} tokens, about {suite_s + 3 * trained} s"
    )
    assert after.endswith(relearn.removeprefix("edit: relearn:batch=4,steps=3"))
    assert clean.endswith(f"trains on up to {2 * 10 * 112} tokens, about {suite_s + 3 * 2 * 10 * 112} s")


def test_an_edit_of_a_package_that_does_not_tell_is_said_to_take_unknown_time(
    pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.find_edit("relearn"), "training_cost", registry.Edit.training_cost)
    (line,) = lines(pack, "relearn")
    assert "trains for a time that is not known beforehand" in line
