"""Which matrices a spec chooses, what is refused, and the text decoder of a nested model."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from memsplit.errors import UserError
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.models import loading, model_table
from memsplit.model_edits import delta_file, targets
from memsplit.model_edits.architecture import linear_maps
from memsplit.model_edits.target_names import EVERY
from memsplit.model_edits.targets import Target
from memsplit.tests.support.architectures import ARCHITECTURES, PLAIN, tiny


def words(found: tuple[Target, ...]) -> list[str]:
    return [f"{target.layer} {target.proj}" for target in found]


def test_sets_globs_and_negative_layers_choose_matrices() -> None:
    model = tiny("GPT2")
    assert words(targets.find(model, [-1], ["mlp"])) == ["1 up", "1 down"]
    assert words(targets.find(model, [EVERY], ["v", "o"])) == ["0 v", "0 o", "1 v", "1 o"]
    assert words(targets.find(model, [0], ["attn"])) == ["0 q", "0 k", "0 v", "0 o"]
    assert words(targets.find(model, [0], ["*.c_proj"])) == ["0 o", "0 down"]
    assert words(targets.find(model, [0, 1], ["transformer.h.1.mlp.c_fc"])) == ["1 up"]
    assert words(targets.find(model, [1], ["mlp.c_fc"])) == ["1 up"]


def test_a_fused_map_by_name_is_one_matrix_also_beside_its_parts() -> None:
    (whole,) = targets.find(tiny("GPT2"), [0], ["q", "*.c_attn"])
    assert (whole.name, whole.part) == ("transformer.h.0.attn.c_attn", None)


def test_the_experts_of_a_glob_are_those_that_it_names() -> None:
    found = targets.find(tiny("Mixtral"), [0], ["*.experts.2.*"])
    assert [target.name.rpartition(".")[2] for target in found] == ["gate_proj", "up_proj", "down_proj"]
    assert {target.expert for target in found} == {2}


def test_a_block_that_layers_share_is_edited_once_and_by_its_own_name() -> None:
    model = tiny("Zamba2")
    every = targets.find(model, [EVERY], ["up"])
    last = targets.find(model, [3], ["up"])
    assert [target.layer for target in every] == [1]
    assert [target.layer for target in last] == [3]
    assert last[0].parameter == every[0].parameter
    assert torch.equal(last[0].matrix(model), every[0].matrix(model))


@pytest.mark.parametrize(
    ("name", "layers", "proj", "words"),
    [
        ("Mamba", [1], ["up"], ["no projection 'up'", "mixer.in_proj, mixer.out_proj", "layer 1 has"]),
        (
            "NemotronH",
            [0, 1],
            ["gate"],
            ["no projection 'gate'", "some of q, k, v, o, mixer.in_proj", "layers 0-1 have"],
        ),
        ("OPT", [0], ["*.fc9"], ["no projection '*.fc9'", "up, down, q, k, v, o"]),
        ("OPT", [-3], ["up"], ["layer -3 is out of range", "0-1"]),
        ("Zamba2", [1], ["v2*"], ["*.linear"]),
    ],
)
def test_errors_say_what_there_is(name: str, layers: list[int], proj: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        targets.find(tiny(name), layers, proj)
    for word in words:
        assert word in str(caught.value)


def test_the_default_is_asked_of_the_layers_that_are_edited() -> None:
    model = tiny("NemotronH")
    assert targets.default_proj(model, [2]) == ("up",)
    with pytest.raises(
        UserError, match=re.escape("no projection gate or up, which are edited by default: expected some of q")
    ):
        targets.default_proj(model, [1])


class Packed(torch.nn.Module):
    """A linear map whose weight is packed into integers, as those of quantization packages are."""

    def __init__(self, like: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = like.in_features, like.out_features
        self.register_buffer("qweight", torch.zeros(like.in_features // 8, like.out_features, dtype=torch.int32))


def store(kind: str, linear: torch.nn.Linear) -> torch.nn.Module:
    """The module with its weight in another form."""
    if kind == "packed":
        return Packed(linear)
    shape = (linear.weight.numel() // 2, 1) if kind == "nibbles" else linear.weight.shape
    dtype = {"nibbles": torch.uint8, "int8": torch.int8, "float8": torch.float8_e4m3fn}.get(kind, torch.float32)
    shape = shape if kind != "turned" else shape[::-1]
    linear.weight = torch.nn.Parameter(torch.zeros(shape).to(dtype), requires_grad=False)
    return linear


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("packed", "has no weight of its own, quantized by gptq"),
        ("nibbles", "has uint8 weights, quantized by gptq"),
        ("int8", "has int8 weights, quantized by gptq"),
        ("float8", "has float8_e4m3fn weights, quantized by gptq"),
        ("turned", "has weights [16, 24] for a matrix [24, 16], quantized by gptq"),
    ],
)
def test_quantized_weights_are_refused(kind: str, reason: str) -> None:
    model = tiny("NanoChat")
    model.config.quantization_config = {"quant_method": "gptq"}
    mlp = model.model.layers[1].mlp
    mlp.fc1 = store(kind, mlp.fc1)
    expected = re.escape(f"cannot be edited: model.layers.1.mlp.fc1 {reason}; expected")
    with pytest.raises(UserError, match=expected):
        targets.find(model, [1], ["up"])
    with pytest.raises(UserError, match=expected):
        targets.linear_maps(model)
    assert len(targets.find(model, [1], ["down"])) == 1


TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 5, "num_attention_heads": 2}


def towers() -> list[tuple[transformers.PreTrainedConfig, str]]:
    """Configurations of models with a tower, an encoder or adapters of more layers than the text decoder has."""
    small = {**TOWER, "num_hidden_layers": 2, "vocab_size": 32}
    pixels = {"image_size": 8, "patch_size": 4}
    git = transformers.GitConfig(vision_config={**TOWER, **pixels}, **small)
    byte = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 32}
    parts = {"patcher": 6, "encoder": 5, "decoder": 3, "global": 2}
    blt = transformers.BltConfig(
        **{f"{part}_config": {**byte, "num_hidden_layers": layers} for part, layers in parts.items()},
        encoder_hash_byte_group_vocab=8,
    )
    return [(git, "git.encoder.layer"), (blt, "model.local_decoder.layers")]


@pytest.mark.parametrize(("config", "blocks"), towers(), ids=lambda value: getattr(value, "model_type", ""))
def test_towers_encoders_and_patchers_are_never_edited(config: Any, blocks: str) -> None:
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    assert linear_maps.blocks(model)[0] == blocks


def test_layers_that_the_text_configuration_counts_are_preferred_to_a_longer_list() -> None:
    model = tiny("NanoChat")
    model.model.others = torch.nn.ModuleList([torch.nn.Linear(64, 64) for _ in range(5)])
    assert linear_maps.blocks(model)[0] == "model.layers"
    del model.model.layers
    assert linear_maps.blocks(model)[0] == "model.others"
    del model.model.others
    with pytest.raises(UserError, match="NanoChatForCausalLM has no list of layers"):
        linear_maps.blocks(model)


def test_a_model_whose_decoder_is_said_to_be_its_head_has_layers() -> None:
    """ModernBERT's."""
    config = transformers.ModernBertDecoderConfig(**{**PLAIN, "cls_token_id": 1, "sep_token_id": 1})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    assert isinstance(model.get_decoder(), torch.nn.Linear)
    assert {target.proj for target in targets.find(model, [EVERY], ["mlp", "attn"])} == set(["q", "k", "v", "o"]) | {
        "gate",
        "up",
        "down",
    }


def test_heads_of_attention_are_no_experts() -> None:
    """XLNet's are tensors [width, heads, head width]."""
    config = transformers.XLNetConfig(d_model=16, n_layer=2, n_head=2, d_inner=24, vocab_size=32)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    found = targets.find(model, [EVERY], ["*"])
    assert {(target.proj, target.expert) for target in found} == {("up", None), ("down", None)}


@pytest.mark.parametrize("counted", [True, False])
def test_a_tensor_of_three_dimensions_is_of_experts_by_its_number_or_its_name(counted: bool) -> None:
    model = tiny("Mixtral")
    for layer in model.model.layers:
        layer.mlp.stack = layer.mlp.experts
        del layer.mlp.experts
    if not counted:
        model.config.num_local_experts = 7
    found = [target for target in targets.find(model, [EVERY], ["*"]) if target.part_of == "mlp"]
    assert {target.expert for target in found} == ({0, 1, 2, 3} if counted else set())


def test_what_holds_a_convolution_is_no_attention() -> None:
    """Although a delta network's maps are called q, k and v."""
    model = tiny("NanoChat")
    assert {target.proj for target in targets.find(model, [1], ["attn"])} == {"q", "k", "v", "o"}
    model.model.layers[1].self_attn.q_conv1d = torch.nn.Conv1d(16, 16, 4, groups=16)
    with pytest.raises(UserError, match=r"no projection 'attn': expected some of up, down, self_attn\.k_proj"):
        targets.find(model, [1], ["attn"])


@pytest.mark.parametrize(
    "spec", ["delta:path={}", "checkpoint:path={}", "relearn:steps=1", "svd-50:layers=0,proj=down+relearn:steps=1"]
)
def test_whole_weights_are_not_written_into_quantized_ones(spec: str, tmp_path: Path) -> None:
    model = tiny("NanoChat")
    model.config.quantization_config = {"quant_method": "gptq"}
    entry = model_table.ModelEntry(name="m", pretrained="m", pack="olmo-tiny")
    editor = ModelEditor(loading.LoadedModel(entry=entry, model=model, tokenizer=None, weights="w"))
    model.save_pretrained(tmp_path)
    delta_file.write(tmp_path / delta_file.NAME, model, {}, "none")
    with pytest.raises(UserError, match="cannot be made of NanoChatForCausalLM: its weights are quantized by gptq"):
        editor.chain(spec.format(tmp_path))
    assert [step.name for step in editor.chain("none")] == ["none"]


def test_a_nested_text_decoder_is_edited_and_never_the_vision_tower() -> None:
    """Although the tower has more layers."""
    torch.manual_seed(0)
    text = {**ARCHITECTURES["Gemma3Text"][0], "vocab_size": 64}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 5, "num_attention_heads": 2}
    config = transformers.Gemma3Config(
        text_config=text, vision_config={**vision, "image_size": 8, "patch_size": 4}, mm_tokens_per_image=4
    )
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    towers = [len(m) for n, m in model.named_modules() if "vision" in n and isinstance(m, torch.nn.ModuleList)]
    assert max(towers) == 5
    assert targets.layer_count(model) == model_table.layer_count(config.to_dict()) == 2
    names = {target.name for target in targets.linear_maps(model)}
    assert len(names) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in names)
    loaded = loading.LoadedModel(
        entry=model_table.ModelEntry(name="m", pretrained="m"), model=model, tokenizer=None, weights="w"
    )
    (edit,) = ModelEditor(loaded).chain("svd-50")
    assert (edit.layers, edit.proj) == ((1,), ("gate", "up"))
    (edit,) = ModelEditor(loaded).chain("svd-50:layers=all,proj=mlp+*.o_proj")
    assert str(edit.spec) == "svd-50:layers=0-1,proj=mlp+*.o_proj"
    assert dataclasses.replace(edit, layers=(0, 1)) == edit


def test_the_log_tells_what_the_default_leaves_out_and_what_has_it(caplog: pytest.LogCaptureFixture) -> None:
    for name, told in (("Qwen2Moe", True), ("Mixtral", False)):
        caplog.clear()
        entry = model_table.ModelEntry(name="m", pretrained="m")
        editor = ModelEditor(loading.LoadedModel(entry=entry, model=tiny(name), tokenizer=None, weights="w"))
        with caplog.at_level("INFO", "memsplit"):
            editor.chain("svd-50+svd-20")
            editor.chain("svd-50:proj=up")
        said = "shared experts are left out of svd: proj=gate+up+shared_gate+shared_up edits them as well"
        assert [record.getMessage() for record in caplog.records] == [said] * told
    editor = ModelEditor(dataclasses.replace(editor.loaded, model=tiny("Qwen2Moe")))
    (edit,) = editor.chain(f"svd-50:{said.split()[-5]}")
    assert {target.proj for target in editor.matrices(edit)} == {"gate", "up", "shared_gate", "shared_up"}
