"""Logits of chosen positions against those of a whole pass, over many architectures."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from memsplit.model_edits import targets
from memsplit.model_edits.architecture import logits
from memsplit.model_edits.curvature.collect import collect
from memsplit.model_edits.curvature.labels import Draws
from memsplit.tests.support.architectures import ARCHITECTURES, tiny

IDS = torch.arange(21).reshape(3, 7) % 13 + 2
CHOSEN = torch.tensor([[0, 1, 0, 0, 1, 1, 0], [0] * 7, [0, 0, 0, 0, 0, 0, 1]], dtype=torch.bool)


@pytest.fixture
def widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of positions that heads are shown while the test runs."""
    seen: list[int] = []
    linear = torch.nn.functional.linear

    def counted(input_nd: torch.Tensor, *rest: Any) -> torch.Tensor:
        output = linear(input_nd, *rest)
        if output.shape[-1] == 32:
            seen.append(output[..., 0].numel())
        return output

    monkeypatch.setattr(torch.nn.functional, "linear", counted)
    return seen


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_chosen_logits_are_those_of_a_whole_pass(name: str, widths: list[int]) -> None:
    model = tiny(name, 3.0)
    assert logits.chooses(model)
    whole = model(input_ids=IDS, use_cache=False).logits
    widths.clear()
    found = logits.logits_at(model, IDS, CHOSEN)
    assert widths[-1] == int(CHOSEN.sum()), "the head comes last"
    torch.testing.assert_close(found, whole[CHOSEN], rtol=1e-5, atol=1e-6)
    every = torch.ones_like(CHOSEN)
    torch.testing.assert_close(logits.logits_at(model, IDS, every), whole.flatten(0, 1))
    assert not model.get_output_embeddings()._forward_pre_hooks


class MixesPositions(torch.nn.Module):
    """A model that does to its logits what hangs on the other positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(16, 4)
        self.head = torch.nn.Linear(4, 16, bias=False)
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.get_input_embeddings, self.get_output_embeddings = lambda: self.table, lambda: self.head

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
        logits_btv = self.head(self.table(input_ids))
        return SimpleNamespace(logits=logits_btv - logits_btv.mean(1, keepdim=True))


@torch.no_grad()
def test_a_model_whose_head_cannot_be_shown_some_positions_computes_all() -> None:
    torch.manual_seed(0)
    model = MixesPositions()
    assert not logits.chooses(model)
    assert torch.equal(logits.logits_at(model, IDS, CHOSEN), model(IDS).logits[CHOSEN])


@torch.no_grad()
def test_nothing_is_told_by_logits_of_nan() -> None:
    model = tiny("GPT2")
    norm = model.transformer.ln_f.weight
    sound = norm.clone()
    norm.fill_(torch.nan)
    assert not logits.chooses(model)
    norm.copy_(sound)
    assert logits.chooses(model)


def test_a_pass_makes_no_more_logits_than_are_to_be_had_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("GPT2")
    monkeypatch.setattr(logits, "AT_ONCE", 32 * 10)
    sizes = [(9, 4), (9, 4), (8, 3), (8, 0), (7, 7), (7, 30), (6, 1)]
    found = logits.batched(model, sizes, 3, lambda size: size)
    assert list(found) == [sizes[:2], sizes[2:5], sizes[5:6], sizes[6:]]
    monkeypatch.setattr(logits, "chooses", lambda _: False)
    assert [len(some) for some in logits.batched(model, sizes, 3, lambda size: size)] == [1] * 7


@pytest.mark.parametrize("draws", [Draws(draws=2), Draws(labels="gold")])
def test_curvature_does_not_hang_on_how_many_logits_are_had_at_once(
    draws: Draws, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("Gemma3Text", 3.0)
    found = targets.find(model, layers=(1,), proj=("gate", "down"))
    whole = collect(model, found, [IDS], draws=draws)
    monkeypatch.setattr("memsplit.model_edits.curvature.collect.AT_ONCE", 32 * 6 * 2)
    parted = collect(model, found, [IDS], draws=draws)
    for name, factors in whole.items():
        torch.testing.assert_close(parted[name].aaT, factors.aaT)
        torch.testing.assert_close(parted[name].ggT, factors.ggT)
