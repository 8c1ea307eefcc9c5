"""How long a text a model can read, against what it reads."""

from typing import Any

import pytest
import torch
import transformers

from memsplit.model_edits.architecture.context import context_length

SIZE = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (transformers.LlamaConfig(max_position_embeddings=77), 77),
        (transformers.GPT2Config(n_positions=55), 55),
        (transformers.XLNetConfig(), None),
        (transformers.LlamaConfig(max_position_embeddings=-1), None),
        (transformers.LlamaConfig(max_position_embeddings=0), None),
        (transformers.MambaConfig(), None),
    ],
)
def test_only_a_positive_length_is_one(config: Any, expected: int | None) -> None:
    assert context_length(config) == expected


@pytest.mark.parametrize("name", ["Roberta", "Bert", "XLMRoberta", "GPT2", "OPT"])
def test_a_text_of_that_length_is_the_longest_that_is_read(name: str) -> None:
    size = {**SIZE, "max_position_embeddings": 30, "pad_token_id": 3, "word_embed_proj_dim": 16, "is_decoder": True}
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{name}Config")(**size)).eval()
    longest = context_length(model.config, model)
    assert longest == (26 if "Roberta" in name else 30)
    with torch.no_grad():
        model(torch.full((1, longest), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, longest + 1), 5))
