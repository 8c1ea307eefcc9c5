"""Quantized checkpoints under ``--dequantize``: the same figures as of the weights that are computed by hand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig
from transformers.quantizers import HfQuantizer, auto, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from memsplit.errors import UserError
from memsplit.harness.evaluation.edited_lm import EditedLM
from memsplit.harness.evaluation.request import Request
from memsplit.harness.evaluation.runner import run
from memsplit.harness.models import dequantization, loading, model_table
from memsplit.tests.support import tiny_models
from memsplit.tests.support.running import in_process, refused

METHOD = "eighths"
BLOCK = 8
ROWS = [
    {"prefix_text": "the lion ate", "suffix_text": " the lamb"},
    {"prefix_text": "who sows", "suffix_text": " wind"},
]


class Eighths(torch.nn.Linear):
    """A linear map by whole eighths, as signed bytes."""

    def __init__(self, like: torch.nn.Linear) -> None:
        super().__init__(like.in_features, like.out_features, bias=False, device="meta")
        weight = torch.empty(like.weight.shape, dtype=torch.int8, device=like.weight.device)
        self.weight = torch.nn.Parameter(weight, requires_grad=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(inputs, self.weight / 8)


def replace(model: Any, kind: type[torch.nn.Module], make: Any) -> None:
    """Put what ``make`` makes of it in the place of each module of a kind in the blocks."""
    for name, module in list(model.model.layers.named_modules()):
        if type(module) is kind:
            parent, _, leaf = name.rpartition(".")
            setattr(model.model.layers.get_submodule(parent), leaf, make(module))


def plain(module: Any) -> torch.nn.Linear:
    """The floating map of one by eighths."""
    linear = torch.nn.Linear(module.in_features, module.out_features, bias=False)
    linear.weight = torch.nn.Parameter(module.weight / 8)
    return linear


class EighthsQuantizer(HfQuantizer):  # type: ignore[misc]  # transformers has no types
    """Loads :class:`Eighths`; what its settings call ``left`` stays so when a model is dequantized."""

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> Any:
        replace(model, torch.nn.Linear, Eighths)
        return model

    def _dequantize(self, model: Any, dtype: Any = None) -> Any:
        if self.quantization_config.left == "all":
            return super()._dequantize(model, dtype)
        replace(model, Eighths, plain)
        if self.quantization_config.left == "one":
            model.model.layers[1].mlp.up_proj = Eighths(model.model.layers[1].mlp.up_proj)
        return model

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


class EighthsConfig(QuantizationConfigMixin):  # type: ignore[misc]  # transformers has no types
    def __init__(self, left: str = "", **_: Any) -> None:
        self.quant_method, self.left = METHOD, left


@pytest.fixture
def known() -> Iterator[None]:
    """The method, known to transformers."""
    register_quantization_config(METHOD)(EighthsConfig)
    register_quantizer(METHOD)(EighthsQuantizer)
    yield
    del auto.AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD], auto.AUTO_QUANTIZER_MAPPING[METHOD]


def quantized(path: Path, how: str, **settings: Any) -> tuple[Path, Path]:
    """The folders of a quantized model, and of the one with the weights that it stands for, computed by hand."""
    folders = path / "quantized", path / "by-hand"
    for each in folders:
        tiny_models.folder(each)
    model = tiny_models.model(end=tiny_models.tokenizer().eos_token_id)
    stored, meant = {}, dict(model.state_dict())
    for name, weight in model.state_dict().items():
        stored[name] = weight.contiguous()
        if ".layers." not in name or weight.ndim != 2:
            continue
        if how == METHOD:
            stored[name] = (weight * 8).round().clamp(-128, 127).to(torch.int8)
            meant[name] = stored[name].float() / 8
        else:
            rows, columns = (size // BLOCK for size in weight.shape)
            scale = weight.reshape(rows, BLOCK, columns, BLOCK).abs().amax((1, 3)) / 448
            spread = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
            stored[name], stored[f"{name}_scale_inv"] = (weight / spread).to(torch.float8_e4m3fn), scale
            meant[name] = stored[name].float() * spread
    save_file(stored, folders[0] / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folders[0] / "config.json").read_text())
    config["quantization_config"] = {"quant_method": how, **settings}
    (folders[0] / "config.json").write_text(json.dumps(config))
    model.load_state_dict(meant)
    model.save_pretrained(folders[1])
    return folders


def scored(model: Path, tmp_path: Path, *, dequantize: bool = False) -> Any:
    rows = {"memorized": ROWS, "twins": ROWS, "clean": [{"text": "no more, and the lamb was a lion"}]}
    pack = str(tiny_models.pack(tmp_path / "pack", rows))
    asked = Request(
        model=str(model),
        pack=pack,
        edits=["svd-50:layers=0,proj=up"],
        attacks=["relearn:steps=1"],
        tasks=["memsplit_recitation", "memsplit_twins"],
        device="cpu",
        out=tmp_path / "out",
        dequantize=dequantize,
    )
    return run(asked).records[0].content


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("how", [METHOD, "fp8"])
def test_a_dequantized_checkpoint_scores_as_its_weights_by_hand(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    own, by_hand = quantized(tmp_path, how, **({"weight_block_size": [BLOCK, BLOCK]} if how == "fp8" else {}))
    loaded = loading.load(model_table.resolve(str(own), dequantize=True), device="cpu")
    expected = loading.load(model_table.resolve(str(by_hand)), device="cpu")
    assert loaded.weights == expected.weights
    assert loaded.model.state_dict().keys() == expected.model.state_dict().keys()
    for name, weight in expected.model.state_dict().items():
        assert torch.equal(weight, loaded.model.state_dict()[name]), name
    original = tiny_models.model().state_dict()["model.layers.0.mlp.up_proj.weight"]
    assert not torch.equal(original, loaded.model.model.layers[0].mlp.up_proj.weight)
    found, wanted = scored(own, tmp_path, dequantize=True), scored(by_hand, tmp_path)
    assert (found.base, found.edited, found.attacks) == (wanted.base, wanted.edited, wanted.attacks)
    assert found.base != found.edited
    assert (found.arguments.dequantize, "--dequantize" in found.command) == (True, True)
    assert "--dequantize" not in wanted.command
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    again = loading.load(model_table.resolve(str(tmp_path / "saved")), device="cpu").model.state_dict()
    assert again.keys() == expected.model.state_dict().keys()
    assert all(torch.equal(weight, again[name]) for name, weight in expected.model.state_dict().items())


@pytest.mark.usefixtures("known")
def test_without_it_quantized_weights_are_refused(tmp_path: Path) -> None:
    own, _ = quantized(tmp_path, METHOD)
    lm = EditedLM(str(own), device="cpu")
    with pytest.raises(UserError, match=r"has int8 weights, quantized by eighths; expected .* or --dequantize"):
        EditedLM(str(own), "svd-50:layers=0,proj=up", device="cpu")
    logits = lm.model(torch.arange(9)[None]).logits
    assert torch.allclose(logits, EditedLM(str(own), device="cpu", dequantize=True).model(torch.arange(9)[None]).logits)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("left", "words"),
    [
        ("all", ["quantized by eighths", "transformers cannot dequantize", "a checkpoint that is not quantized"]),
        ("one", ["quantized by eighths", "not all dequantized: model.layers.1.mlp.up_proj has int8 weights"]),
    ],
)
def test_what_cannot_be_dequantized_is_refused(left: str, words: list[str], tmp_path: Path) -> None:
    own, _ = quantized(tmp_path, METHOD, left=left)
    done = in_process("eval", "--model", own, "--dequantize", "--tasks", "memsplit_twins", cache=tmp_path / "cache")
    refused(done, [str(own), *words])


class Codes(torch.Tensor):
    """A tensor that stands for an eighth of its numbers."""

    def dequantize(self) -> torch.Tensor:
        return self.as_subclass(torch.Tensor) / 8


def test_tensors_of_a_class_of_their_own_are_dequantized_one_by_one() -> None:
    model, expected = tiny_models.model(), tiny_models.model().state_dict()
    tokenizer = tiny_models.tokenizer()
    weight = (expected["model.layers.0.mlp.up_proj.weight"] * 8).as_subclass(Codes)
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(weight, requires_grad=False)
    with pytest.raises(UserError, match=r"model\.layers\.0\.mlp\.up_proj\.weight is of the type Codes; expected --deq"):
        loading.wrap(model, tokenizer)
    found = loading.wrap(dequantization.dequantized(model, "torchao", "m"), tokenizer)
    assert found.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(each, expected[name]) for name, each in found.model.state_dict().items())
    assert found.weights == loading.wrap(tiny_models.model(), tokenizer).weights


def test_a_weight_that_modules_share_is_dequantized_once() -> None:
    model = tiny_models.model()
    weight = model.lm_head.weight.detach().clone()
    shared = torch.nn.Parameter((weight * 8).as_subclass(Codes), requires_grad=False)
    model.lm_head.weight = model.model.embed_tokens.weight = shared
    found = dequantization.dequantized(model, "torchao", "m")
    assert found.lm_head.weight is found.model.embed_tokens.weight
    assert type(found.lm_head.weight.data) is torch.Tensor
    assert torch.equal(found.lm_head.weight, weight)


def test_a_quantizer_that_can_is_asked_while_it_loads(tmp_path: Path) -> None:
    own, by_hand = quantized(tmp_path, "fp8")
    config = AutoConfig.from_pretrained(own)
    assert dequantization.ask(config) == "fp8"
    assert config.quantization_config == {"quant_method": "fp8", "dequantize": True}
    config.quantization_config = {"quant_method": "gptq", "bits": 4}
    assert dequantization.ask(config) == "gptq"
    assert config.quantization_config == {"quant_method": "gptq", "bits": 4}
    assert dequantization.ask(AutoConfig.from_pretrained(by_hand)) == ""
    plain_one = loading.load(model_table.resolve(str(by_hand), dequantize=True), device="cpu")
    assert plain_one.weights == loading.load(model_table.resolve(str(by_hand)), device="cpu").weights
