"""Figures of every edit's weights, which must not change unless the edit's ``version`` does.

Kept scores and ``--resume`` go by ``Edit.version``, so weights that change under the same version would be mixed with older
ones. Where a change is meant: raise the version, then ``python -m memsplit.tests.model_edits.test_golden`` writes the
figures anew; it also adds those of a new edit. All is in float64 on a synthetic matrix or model, so that the figures are
the same on every machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from memsplit.model_edits import registry
from memsplit.model_edits.apply import compute
from memsplit.model_edits.curvature.factors import Factors
from memsplit.model_edits.inputs import EditInputs, MemorizedSequence
from memsplit.model_edits.spec import parse
from memsplit.model_edits.targets import Target
from memsplit.tests.support.edit_cases import MATCHED, by_options, plain, variants

PATH = Path(__file__).parents[1] / "golden" / "edits.json"
VOCABULARY, INNER = 10, 8
ENTRIES = [(0, 0), (2, 3), (5, 1)]
GOLDEN: dict[str, dict[str, Any]] = json.loads(PATH.read_text()) if PATH.exists() else {}


class ToyModel(torch.nn.Module):
    """Reads each token by itself: embedding, one matrix, output head; in float64."""

    def __init__(self, random: np.random.Generator) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, INNER, dtype=torch.float64)
        self.inner = torch.nn.Linear(INNER, INNER + 2, bias=False, dtype=torch.float64)
        self.head = torch.nn.Linear(INNER + 2, VOCABULARY, bias=False, dtype=torch.float64)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.from_numpy(random.standard_normal(parameter.shape)))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.inner(self.embed(input_ids)).tanh()))


def moments(random: np.random.Generator, n: int) -> torch.Tensor:
    """A covariance of a steep spectrum."""
    x = random.standard_normal((3 * n, n)) @ np.diag(np.geomspace(3, 0.1, n)) @ random.standard_normal((n, n))
    return torch.from_numpy(x.T @ x / len(x))


def weights_of(spec: str) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The matrix [10, 8] before and after an edit, and the number of components that are kept."""
    random = np.random.default_rng(0)
    model, target = ToyModel(random), Target(name="inner", layer=0, proj="up")
    i, o = INNER, INNER + 2
    fisher = torch.from_numpy(random.chisquare(1, (o, i)))
    factors = Factors({"aaT": moments(random, i), "ggT": moments(random, o), "fisher_oi": fisher}, 1)
    ids = random.integers(0, VOCABULARY, (8, 12)).tolist()
    forget = [MemorizedSequence(prefix=[n, n], suffix=model_suffix(model, n)) for n in range(3)]
    edit = registry.build(parse(spec))
    inputs = EditInputs(targets=[target], factors={"inner": factors}, forget=forget, retain=ids)
    weights, changes = compute(model, edit, inputs)
    before = model.inner.weight.detach()
    (kept,) = (change.kept for change in changes if change.name == "inner.weight")
    return before, weights.get("inner.weight", before), kept


def model_suffix(model: ToyModel, first: int) -> list[int]:
    """What the model says after a token, so that an edit that stops where nothing is recited has something to do."""
    ids = [first]
    for _ in range(4):
        ids.append(int(model(torch.tensor([ids[-1:]]), torch.ones(1, 1), use_cache=False).logits.argmax()))
    return ids[1:]


def figures(spec: str) -> dict[str, Any]:
    before, after, kept = weights_of(spec)
    removed = float((before - after).norm() / before.norm())
    version = registry.find_edit(parse(spec).name).version
    return {"version": version, "kept": kept, "removed": removed, "entries": [float(after[at]) for at in ENTRIES]}


def specs() -> list[str]:
    """Two percents of every edit of matrices that needs no file, and each other word of an option."""
    edits = [cls for cls in by_options() if cls.targeted or cls.needs_forget_set]
    found = [spec for cls in edits for spec in (plain(cls, 80), plain(cls, 30), *variants(cls, 60))]
    return list(dict.fromkeys([*found, *MATCHED]))


@pytest.mark.parametrize("spec", GOLDEN)
def test_no_weights_change_without_their_version(spec: str) -> None:
    golden, now = GOLDEN[spec], figures(spec)
    assert now["version"] == golden["version"], "write the figures anew: see this file's first lines"
    assert now["kept"] == golden["kept"], spec
    assert now["removed"] == pytest.approx(golden["removed"], abs=1e-6), spec
    assert now["entries"] == pytest.approx(golden["entries"], abs=1e-6), spec


def test_the_figures_are_of_weights_that_change() -> None:
    changed = {parse(spec).name for spec, of in GOLDEN.items() if of["removed"] > 0}
    assert changed >= {
        *("bsn", "ekfac", "finetune", "kfac", "magnitude", "noise", "quantize", "random", "relearn", "svd", "wanda")
    }
    assert changed == {parse(spec).name for spec in GOLDEN}


if __name__ == "__main__":
    PATH.write_text(json.dumps({spec: figures(spec) for spec in specs()}, indent=1) + "\n")
