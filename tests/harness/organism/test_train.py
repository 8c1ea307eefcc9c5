"""The shipped pack and weights are those of the world and the script."""

import json
from pathlib import Path

from memsplit.harness.organism import artifacts, tokenizer
from memsplit.harness.organism.train import Recipe
from memsplit.harness.organism.world import World
from memsplit.tasks import packs


def test_the_shipped_pack_is_the_worlds(tmp_path: Path) -> None:
    recipe = Recipe()
    world = World(recipe.seed, recipe.passages)
    artifacts.write_pack(world, tokenizer.build(world.vocabulary), recipe, tmp_path)
    shipped = packs.SHIPPED / "olmo-tiny"
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in shipped.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (shipped / path.name).read_bytes(), path.name


def test_the_shipped_weights_are_small_and_bf16() -> None:
    weights = artifacts.MODEL / "model.safetensors"
    assert weights.stat().st_size <= 16e6
    header = weights.read_bytes()[8 : 8 + int.from_bytes(weights.read_bytes()[:8], "little")]
    kinds = {entry["dtype"] for name, entry in json.loads(header).items() if name != "__metadata__"}
    assert kinds == {"BF16"}
