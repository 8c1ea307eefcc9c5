"""What is said before anything is scored: of a base that computes no number, of an edit that changes no output."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from memsplit.errors import UserError
from memsplit.harness.evaluation.canary import Canary
from memsplit.model_edits.apply import applied

SIZE = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
CHANGED = "model.layers.1.mlp.up_proj.weight"


class Packed(torch.nn.Linear):
    """Computes with a copy that it made when it was made, as quantized modules do."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False)
        self.weight = linear.weight
        self.packed = linear.weight.detach().clone()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(input, self.packed)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZE, pad_token_id=0, bos_token_id=1, eos_token_id=1)).eval()


def edit(model: Any) -> dict[str, torch.Tensor]:
    return {CHANGED: 0.5 * model.get_parameter(CHANGED).detach()}


def test_an_edit_that_reaches_the_outputs_says_nothing(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    canary = Canary(model, "m")
    with applied(model, edit(model)):
        canary.check("svd-50")
    assert caplog.text == ""


def test_an_edit_of_weights_that_are_not_computed_with_says_so(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    mlp = model.model.layers[1].mlp
    mlp.up_proj = Packed(mlp.up_proj)
    canary = Canary(model, "m")
    with applied(model, edit(model)):
        canary.check("svd-50")
    assert "svd-50 changes weights, but no logit of 64 random tokens" in caplog.text


def test_an_edit_that_makes_no_numbers_says_so(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    canary = Canary(model, "m")
    with applied(model, {CHANGED: torch.full((24, 16), torch.nan)}):
        canary.check("svd-50")
    assert "svd-50 makes logits that are not finite" in caplog.text


@pytest.mark.parametrize("value", [torch.nan, 1e38])
def test_a_base_without_finite_logits_is_refused(model: Any, value: float) -> None:
    """Weights may be finite and what they make not."""
    with torch.no_grad():
        model.lm_head.weight[7] = value
        model.model.norm.weight.fill_(1e4)
    with pytest.raises(UserError, match="the logits of 'm' are not finite"):
        Canary(model, "m")
