"""What another checkpoint may differ in, and what makes it one of another architecture."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from memsplit.errors import UserError
from memsplit.harness.models import loading, model_table
from memsplit.model_edits import registry
from memsplit.model_edits.apply import applied, compute
from memsplit.model_edits.inputs import EditInputs
from memsplit.model_edits.pretrained import load_model
from memsplit.model_edits.spec import parse

SPECIAL = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
SIZE = {**SPECIAL, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIG = {**SIZE, "max_position_embeddings": 64, "initializer_range": 0.3}
BIG = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "initializer_range": 0.2}
IDS = torch.randint(40, (2, 20), generator=torch.Generator().manual_seed(5))


def model(seed: int, **changed: Any) -> Any:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**CONFIG, **changed})).eval()


@pytest.fixture(scope="module")
def base() -> Any:
    return model(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Another checkpoint of the base's architecture."""
    model(1).save_pretrained(tmp_path / "other")
    return tmp_path / "other"


def changed(folder: Path, **keys: Any) -> Path:
    """A copy of the folder whose configuration says this too."""
    copied = folder.with_name("copy")
    shutil.copytree(folder, copied)
    file = copied / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))
    return copied


def weights_of(base: Any, folder: Path) -> dict[str, torch.Tensor]:
    return compute(base, registry.build(parse(f"checkpoint:path={folder}")), EditInputs())[0]


@torch.no_grad()
def logits(base: Any, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    with applied(base, weights):
        return torch.as_tensor(base(IDS).logits)


@pytest.mark.parametrize(
    "keys",
    [
        {"attention_dropout": 0.5},
        {"unsloth_fixed": True, "unsloth_version": "2026.1"},
        {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}},
        {"initializer_range": 0.02, "use_cache": False, "eos_token_id": [1, 2]},
        {"pretraining_tp": 2, "_name_or_path": "elsewhere"},
    ],
)
def test_keys_that_compute_nothing_may_differ(base: Any, folder: Path, keys: dict[str, Any]) -> None:
    expected = model(1)(IDS).logits
    torch.testing.assert_close(logits(base, weights_of(base, changed(folder, **keys))), expected)


@pytest.mark.parametrize(
    "keys",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10.0}},
        {"rms_norm_eps": 0.5},
        {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8},
        {"hidden_act": "relu"},
    ],
)
def test_keys_that_compute_something_else_are_named(base: Any, folder: Path, keys: dict[str, Any]) -> None:
    """Of the very shapes of the base."""
    before = {name: (p.data_ptr(), p.clone()) for name, p in base.named_parameters()}
    with pytest.raises(UserError, match="another architecture: its weights give other logits") as caught:
        weights_of(base, changed(folder, **keys))
    assert next(iter(keys)) in str(caught.value)
    for name, parameter in base.named_parameters():
        assert (parameter.data_ptr(), torch.equal(parameter, before[name][1])) == (before[name][0], True)


@pytest.mark.parametrize("rows", [41, 64])
def test_embeddings_that_were_resized_for_a_pad_token_load(
    base: Any, tmp_path: Path, rows: int, caplog: pytest.LogCaptureFixture
) -> None:
    other = model(1)
    other.resize_token_embeddings(rows)
    other.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, "memsplit"):
        found = logits(base, weights_of(base, tmp_path))
    torch.testing.assert_close(found, other(IDS).logits[..., :40])
    assert f"has {rows - 40} more tokens than the base" in caplog.text


@pytest.mark.parametrize("rows", [39, 40 + 257])
def test_another_vocabulary_is_refused(base: Any, tmp_path: Path, rows: int) -> None:
    model(1, vocab_size=rows).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=rf"model.embed_tokens.weight is \({rows}, 16\), expected \(40, 16\)"):
        weights_of(base, tmp_path)


def test_a_head_of_its_own_takes_the_place_of_one_that_is_the_embeddings(tmp_path: Path) -> None:
    base = model(0, tie_word_embeddings=True)
    model(1).save_pretrained(tmp_path / "own")
    weights = weights_of(base, tmp_path / "own")
    assert {"lm_head.weight", "model.embed_tokens.weight"} <= weights.keys()
    before = base(IDS).logits
    torch.testing.assert_close(logits(base, weights), model(1)(IDS).logits)
    assert base.lm_head.weight is base.model.embed_tokens.weight
    assert torch.equal(base(IDS).logits, before)
    with applied(base, weights) as own, applied(base, own):
        assert torch.equal(base(IDS).logits, before)
    with applied(base, weights):
        base.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again(IDS).logits, model(1)(IDS).logits)


def test_a_checkpoint_that_is_tied_as_the_base_stays_so(tmp_path: Path) -> None:
    model(1, tie_word_embeddings=True).save_pretrained(tmp_path)
    base = model(0, tie_word_embeddings=True)
    weights = weights_of(base, tmp_path)
    assert "lm_head.weight" not in weights
    torch.testing.assert_close(logits(base, weights), model(1, tie_word_embeddings=True)(IDS).logits)


class TestFiles:
    """What a file holds beside or in place of what the model has; the same as a base and as an edit."""

    def refused(self, base: Any, folder: Path, words: str) -> None:
        with pytest.raises(UserError, match=words):
            weights_of(base, folder)
        with pytest.raises(UserError, match=words):
            load_model(str(folder))

    def test_tensors_without_a_place_are_named(self, base: Any, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        bias = {"model.layers.0.mlp.up_proj.bias": torch.ones(24), "model.layers.0.mlp.zz.bias": torch.ones(1)}
        save_file({**tensors, **bias}, folder / "model.safetensors", metadata={"format": "pt"})
        words = (
            r"hold model\.layers\.0\.mlp\.up_proj\.bias \(2 tensors in all\), for which LlamaForCausalLM has no place"
        )
        self.refused(base, folder, words)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_weights_that_are_not_finite_are_named(self, base: Any, folder: Path, value: float) -> None:
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"][3] = value
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        self.refused(base, folder, r"are not finite: model\.norm\.weight \(1 tensors in all\)")


def test_a_model_that_cannot_be_scored_is_refused_when_it_is_loaded(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(model_table.ORGANISMS / "olmo-tiny" / "tokenizer.json", folder)
    shutil.copy(model_table.ORGANISMS / "olmo-tiny" / "tokenizer_config.json", folder)
    with pytest.raises(UserError, match=r"not finite: lm_head\.weight"):
        loading.load(model_table.resolve(str(folder)), device="cpu")


class TestWindows:
    """What differs beyond a window of attention alone."""

    def mistral(self, window: int | None, context: int = 512) -> Any:
        torch.manual_seed(0)
        config = MistralConfig(
            **{**CONFIG, "max_position_embeddings": context}, num_key_value_heads=2, sliding_window=window
        )
        return MistralForCausalLM(config).eval()

    @pytest.mark.parametrize("windows", [(None, 130), (130, None), (300, 130)])
    def test_another_window_is_another_architecture(
        self, tmp_path: Path, windows: tuple[int | None, int | None]
    ) -> None:
        own, its = windows
        self.mistral(its).save_pretrained(tmp_path)
        with pytest.raises(UserError, match=rf"another architecture.*sliding_window \({its}, not {own}\)"):
            weights_of(self.mistral(own), tmp_path)

    def test_one_that_no_text_reaches_is_of_no_account(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.mistral(160, context=160).save_pretrained(tmp_path)
        with caplog.at_level(logging.WARNING, "memsplit"):
            assert weights_of(self.mistral(None, context=160), tmp_path) == {}
        assert caplog.text == ""

    def test_one_that_is_not_reached_here_is_told(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.mistral(2000, context=4096).save_pretrained(tmp_path)
        with caplog.at_level(logging.WARNING, "memsplit"):
            weights_of(self.mistral(2000, context=4096), tmp_path)
            assert caplog.text == ""
            weights_of(self.mistral(None, context=4096), tmp_path)
        assert "on 128 tokens; on longer texts these may matter: sliding_window (2000, not None)" in caplog.text


class TestNarrowTypes:
    """The same weights are the same model, whatever rounding and kernels do; other functions are others."""

    def narrow(self, seed: int, attention: str = "eager", **changed: Any) -> Any:
        other = model(seed, **{**BIG, **changed})
        for parameter in other.parameters():  # and not the frequencies of its positions, as in a model from a file
            parameter.data = parameter.data.bfloat16()
        other.set_attn_implementation(attention)
        return other

    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    def test_the_same_weights_are_taken(self, tmp_path: Path, attention: str) -> None:
        self.narrow(1).save_pretrained(tmp_path)
        base = self.narrow(0, attention)
        before = {name: (p.data_ptr(), p.dtype) for name, p in base.named_parameters()}
        weights = weights_of(base, tmp_path)
        assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
        assert {name: (p.data_ptr(), p.dtype) for name, p in base.named_parameters()} == before
        with applied(base, weights):
            assert torch.equal(base(IDS).logits, self.narrow(1, attention)(IDS).logits)

    def test_another_function_is_refused(self, tmp_path: Path) -> None:
        self.narrow(1, rms_norm_eps=0.01).save_pretrained(tmp_path)
        with pytest.raises(UserError, match=r"another architecture.*rms_norm_eps \(0\.01, not 1e-06\)"):
            weights_of(self.narrow(0), tmp_path)


def test_a_large_weight_is_no_other_architecture(base: Any, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"][7] = 1e38
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(weights_of(base, folder)["lm_head.weight"], tensors["lm_head.weight"])


def test_logits_that_are_not_finite_are_told_as_such(base: Any, folder: Path) -> None:
    """Two lines that add up to no number, in a model that computes otherwise."""
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"][7] = 3e38 * torch.arange(16).sub(8).sign()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"the logits of '.*' are not finite"):
        weights_of(base, changed(folder, rms_norm_eps=0.5))
