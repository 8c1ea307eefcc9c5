"""Files of older versions of transformers, which hold constants that models now compute."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from memsplit.errors import UserError
from memsplit.model_edits.pretrained import load_model
from memsplit.tests.support.architectures import tiny

CAUSAL = torch.ones(64, 64).tril()[None, None]
NEW = {
    "GPTJ": {"transformer.h.0.attn.bias": CAUSAL.byte(), "transformer.h.0.attn.masked_bias": torch.tensor(-1e9)},
    "GPTNeo": {
        "transformer.h.1.attn.attention.bias": (CAUSAL - CAUSAL.tril(-8)).byte(),
        "transformer.h.1.attn.attention.masked_bias": torch.tensor(-1e9),
    },
    "CodeGen": {"transformer.h.0.attn.causal_mask": CAUSAL.bool()},
    "GPT2": {"h.0.attn.bias": CAUSAL, "h.0.attn.masked_bias": torch.tensor(-1e4)},
    "XGLM": {"model.embed_positions.weights": torch.ones(66, 16)},
    "OpenAIGPT": {"h.0.attn.bias": CAUSAL},
    "Mixtral": {"model.layers.0.self_attn.rotary_pos_emb.inv_freq": torch.ones(4)},
}
"""Tensors that published files of each architecture hold."""


def saved(path: Path, name: str, tensors: dict[str, torch.Tensor], as_bin: bool = False) -> str:
    """A folder with a model and these tensors, of the names that the published files have."""
    model = tiny(name)
    model.save_pretrained(path)
    file = path / "model.safetensors"
    held = load_file(file) | tensors
    if as_bin:
        file.unlink()
        torch.save(held, path / "pytorch_model.bin")
    else:
        save_file(held, file, metadata={"format": "pt"})
    return str(path)


@pytest.mark.parametrize("as_bin", [False, True])
@pytest.mark.parametrize("name", NEW)
def test_files_with_constants_load(name: str, as_bin: bool, tmp_path: Path) -> None:
    loaded = load_model(saved(tmp_path, name, NEW[name], as_bin))
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids).logits, tiny(name)(ids).logits)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("transformer.h.0.attn.k_proj.bias", torch.ones(16)),
        ("transformer.h.0.attn.q_proj.weight_scale", torch.tensor(0.5)),
        ("transformer.h.0.attn.bias", torch.rand(1, 1, 64, 64)),
        ("transformer.h.0.attn.bias", CAUSAL.flip(-1)),
        ("transformer.h.0.attn.rotary_emb.inv_freq", torch.ones(4)),
        ("transformer.h.0.lora.weight", torch.ones(64, 64).tril()),
    ],
)
def test_what_computes_something_is_refused(name: str, tensor: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"hold {name}.*for which GPTJForCausalLM has no place"):
        load_model(saved(tmp_path, "GPTJ", {name: tensor.contiguous()}))
