"""Adapters of the library peft on models whose output head is the embeddings, and on others."""

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from memsplit.model_edits import delta_file, registry
from memsplit.model_edits.apply import applied, compute, other_names
from memsplit.model_edits.inputs import EditInputs
from memsplit.model_edits.spec import parse

SPECIAL = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
SIZE = {**SPECIAL, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
IDS = torch.randint(40, (2, 20), generator=torch.Generator().manual_seed(5))
LORA: dict[str, Any] = {"r": 2, "init_lora_weights": False}


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZE, initializer_range=0.3, tie_word_embeddings=request.param)
    return LlamaForCausalLM(config).eval()


@pytest.mark.filterwarnings("ignore:Model (with|has) `tie_word_embeddings=True`", "ignore:Setting `save_embedding")
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["lm_head"]},
        {"target_modules": ["lm_head", "down_proj"]},
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["embed_tokens", "lm_head"]},
        {"target_modules": ["down_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["down_proj"]},
    ],
    ids=str,
)
@torch.no_grad()
def test_merged_it_is_what_it_was_beside_the_model(model: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(**LORA, **options)).eval()
    for name, parameter in adapted.named_parameters():
        if "modules_to_save" in name:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    adapted.save_pretrained(str(tmp_path / "adapter"))
    expected, before, tied = adapted(IDS).logits, model(IDS).logits, other_names(model)
    weights, _ = compute(model, registry.build(parse(f"peft:path={tmp_path / 'adapter'}")), EditInputs())
    with applied(model, weights):
        torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(model(IDS).logits, before)
    assert other_names(model) == tied
    assert not torch.allclose(expected, before, atol=1e-2)

    delta_file.write(tmp_path / delta_file.NAME, model, weights, "peft")
    again, _ = compute(model, registry.build(parse(f"delta:path={tmp_path}")), EditInputs())
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weight) for name, weight in weights.items())
