"""What is said before anything is scored: of a base that computes no number, of an edit that changes no output."""

from typing import Any

import pytest
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from memsplit.errors import UserError
from memsplit.harness.models.canary import Canary
from memsplit.model_edits.apply import applied
from memsplit.tests.support.architectures import ARCHITECTURES, tiny

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


def test_what_an_edit_changes_is_told_from_what_was_there_before(model: Any) -> None:
    canary = Canary(model, "m")
    with applied(model, edit(model)):
        before = canary.logits()
        assert canary.check("again", before) == "again changes weights, but no logit of 64 random tokens"
        with applied(model, {"model.norm.weight": torch.full((16,), 2.0)}):
            assert canary.check("other", before) == ""


def test_dropout_is_asked_for_nothing(model: Any) -> None:
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    model.train()
    model.model.layers[0].eval()
    canary = Canary(model, "m")
    assert torch.equal(canary.logits(), canary.base)
    assert [layer.training for layer in model.model.layers] == [False, True]


BERT = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
BIDIRECTIONAL: dict[str, dict[str, Any]] = {
    "Bert": BERT,
    "Roberta": {**BERT, "max_position_embeddings": 34, "pad_token_id": 1},
    "XLNet": {"vocab_size": 40, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 24},
}


@pytest.mark.parametrize("spread", [1, 10])
@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_models_that_read_ahead_are_refused(name: str, spread: float) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**BIDIRECTIONAL[name])
    config.initializer_range *= spread
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(UserError, match=f"'m' is no causal language model: .* of {type(model).__name__}"):
        Canary(model, "m")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_models_that_do_not_are_taken(name: str) -> None:
    Canary(tiny(name, 3), "m")


@pytest.mark.parametrize("name", ["GPT2", "Mixtral", "Mamba"])
def test_they_are_taken_in_a_narrow_type(name: str) -> None:
    Canary(tiny(name, 3).bfloat16(), "m")


def test_the_same_models_as_decoders_are_taken() -> None:
    for name in ("Bert", "Roberta"):
        config = getattr(transformers, f"{name}Config")(**BIDIRECTIONAL[name], is_decoder=True)
        canary = Canary(transformers.AutoModelForCausalLM.from_config(config).eval(), "m")
        assert canary.ids.shape == (2, 32)
