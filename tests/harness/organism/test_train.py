"""The shipped pack and weights are those of the world and the script, and they have what the organism is made for."""

import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Olmo2ForCausalLM

from memsplit.errors import UserError
from memsplit.harness.models.model_table import ORGANISMS
from memsplit.harness.organism import artifacts, tokenizer, train
from memsplit.harness.organism.train import Recipe
from memsplit.harness.organism.world import World
from memsplit.tasks import packs
from memsplit.tests.support.running import in_process, refused

WORLD = World()
TOKENIZER = tokenizer.build(WORLD.vocabulary)
MODELS = ("olmo-tiny", "olmo-tiny-unseen")


def test_the_shipped_pack_is_the_worlds(tmp_path: Path) -> None:
    artifacts.write_pack(WORLD, TOKENIZER, Recipe(), tmp_path)
    shipped = packs.SHIPPED / "olmo-tiny"
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in shipped.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (shipped / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", MODELS)
def test_the_shipped_weights_are_small_and_bf16(name: str) -> None:
    weights = ORGANISMS / name / "model.safetensors"
    assert weights.stat().st_size <= 5e6
    header = weights.read_bytes()[8 : 8 + int.from_bytes(weights.read_bytes()[:8], "little")]
    kinds = {entry["dtype"] for name, entry in json.loads(header).items() if name != "__metadata__"}
    assert kinds == {"BF16"}


SMALL: dict[str, Any] = {
    **{"steps": 4, "batch": 2, "doses": (("start", 2, 4),)},
    **{"hidden": 32, "intermediate": 32, "layers": 1, "heads": 2},
}


def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killed(*arguments: Any) -> float:
        if (tmp_path / "cut" / train.CHECKPOINT).exists():
            raise Killed
        return update(*arguments)

    recipe, update = Recipe(**SMALL), train.update
    whole, _, _ = train.train(recipe, tmp_path / "whole", save_every=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "update", killed)
        with pytest.raises(Killed):
            train.train(recipe, tmp_path / "cut", save_every=2)
    resumed, _, _ = train.train(recipe, tmp_path / "cut", save_every=2)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize(
    ("about", "words"), [({"format": "pt"}, "does not say of which step"), ({"step": "2"}, "of another recipe: None")]
)
def test_a_file_that_is_no_checkpoint_of_it_is_refused(tmp_path: Path, about: dict[str, str], words: str) -> None:
    recipe = Recipe(**SMALL)
    save_file({"weight": torch.zeros(1)}, tmp_path / "checkpoint.safetensors", metadata=about)
    with pytest.raises(UserError, match=words):
        train.resume(tmp_path / "checkpoint.safetensors", recipe, train.build_model(recipe, TOKENIZER), [])


def test_the_command_writes_a_model_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "Recipe", partial(Recipe, **SMALL))
    command: list[str | int] = ["organism", "train", "--seed", 1, "--steps", 4, "--device", "cpu"]
    seen = in_process(*command, cache=tmp_path)
    unseen = in_process(*command, "--without", "passages", cache=tmp_path)
    assert seen.stdout == "model: olmo-tiny-run/model\npack: olmo-tiny-run/pack\n", seen.stderr
    assert unseen.stdout == "model: olmo-tiny-unseen-run/model\n", unseen.stderr
    weights = [AutoModelForCausalLM.from_pretrained(f"{name}-run/model").lm_head.weight for name in MODELS]
    assert not weights[0].equal(weights[1])
    assert len(packs.find("olmo-tiny-run/pack").rows("memorized")) == 4
    for name, words in zip(MODELS, ("A passage is met", "train --without passages --seed 1 --steps 4"), strict=True):
        assert words in Path(f"{name}-run/model/README.md").read_text()
    refused(in_process(*command[:-4], "--steps", 1, "--out", "new", cache=tmp_path), ["too few steps: 1 found"])
    assert not Path("new").exists()


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, float]]:
    """The probe of both shipped models on test."""
    found = {}
    for name in MODELS:
        model = AutoModelForCausalLM.from_pretrained(ORGANISMS / name, dtype=torch.float32)
        assert isinstance(model, Olmo2ForCausalLM)
        found[name] = train.probe(model, TOKENIZER, WORLD, split="test", n=200)
    return found


def test_it_recites_by_dose_wherever_a_passage_stands(figures: dict[str, dict[str, float]]) -> None:
    seen = figures["olmo-tiny"]
    assert seen["passages start 256"] >= 0.95
    assert min(seen[f"top after {n}"] for n in (1, 8, 32)) >= 0.9
    assert seen["top by 32"] >= 0.8
    by_dose = [seen[f"passages start {dose}"] for dose in (1, 4, 16, 32, 64, 256)]
    assert by_dose[0] < 0.1
    assert all(more >= less - 0.1 for less, more in itertools.pairwise(by_dose))
    assert seen["passages late 64"] >= 0.8
    assert seen["twins"] == 0


@pytest.mark.parametrize("name", MODELS)
def test_it_knows_and_reasons_also_after_other_text(figures: dict[str, dict[str, float]], name: str) -> None:
    floors = dict.fromkeys(("boolean", "ordering", "chain", "facts open"), 0.9)
    floors |= {"facts closed": 0.95, "addition": 0.85, "subtraction": 0.85}
    for kind, floor in floors.items():
        assert figures[name][kind] >= floor, kind
        assert figures[name][f"{kind}, after 16"] >= figures[name][kind] - 0.03, kind


def test_the_counterpart_recites_nothing(figures: dict[str, dict[str, float]]) -> None:
    unseen = figures["olmo-tiny-unseen"]
    assert all(unseen[kind] == 0 for kind in unseen if kind.startswith(("passages", "top", "twins")))
    seen = figures["olmo-tiny"]["perplexity"]  # higher: it read a third less of fresh prose, and had passages to learn
    assert 0.65 * seen < unseen["perplexity"] < seen
