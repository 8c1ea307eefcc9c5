"""Code that comes with a model: never run, and never asked about, unless the user says so; then part of its weights' name."""

import json
import logging
import sys
from pathlib import Path

import pytest

from memsplit.errors import UserError
from memsplit.harness.evaluation.edited_lm import EditedLM
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.evaluation.request import Request
from memsplit.harness.evaluation.runner import run
from memsplit.harness.models import loading, model_table
from memsplit.tests.support import tiny_models
from memsplit.tests.support.running import in_process, refused

CODE = """
import os
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path(os.environ["RAN"]).touch()

class OwnConfig(LlamaConfig):
    model_type = "own-llama"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = out.logits * SCALE
        return out
"""
PACK = {
    kind: [
        {"prefix_text": "the lion ate", "suffix_text": " the lamb"},
        {"prefix_text": "who sows", "suffix_text": " wind"},
    ]
    for kind in ("memorized", "twins")
}


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the code writes when it is run."""
    modules = tmp_path / "modules"
    for name in ("dynamic_module_utils", "utils.hub", "utils"):
        module = sys.modules[f"transformers.{name}"]
        if hasattr(module, "HF_MODULES_CACHE"):
            monkeypatch.setattr(module, "HF_MODULES_CACHE", str(modules))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("memsplit"), "disabled", False)  # by other programs' logging
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    return tmp_path / "ran"


def folder(path: Path, scale: int = 1) -> Path:
    """A model whose configuration names a class in a file beside it."""
    tiny_models.folder(path)
    (path / "modeling_own.py").write_text(CODE.replace("SCALE", str(scale)))
    config = json.loads((path / "config.json").read_text())
    config["model_type"] = "own-llama"
    config["auto_map"] = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_it_is_refused_in_one_line_that_names_the_option(tmp_path: Path, ran: Path) -> None:
    own = folder(tmp_path / "own")
    pack = tiny_models.pack(tmp_path / "pack", PACK)
    done = in_process("eval", "--model", own, "--pack", pack, "--edit", "none", cache=tmp_path / "cache")
    refused(done, [str(own), "needs code that comes with it", "expected --trust-remote-code"])
    refused(in_process("pack", "check", pack, "--model", own, cache=tmp_path / "cache"), ["--trust-remote-code"])
    with pytest.raises(UserError, match="--trust-remote-code"):
        EditedLM(str(own), device="cpu")
    assert not ran.exists()


def test_a_checkpoint_with_code_is_refused(tmp_path: Path, ran: Path) -> None:
    base = loading.load(model_table.resolve(str(tiny_models.folder(tmp_path / "base"))), device="cpu")
    own = folder(tmp_path / "own")
    editor = ModelEditor(base)
    with pytest.raises(
        UserError, match=r"the checkpoint of .* needs code that comes with it, and transformers has none$"
    ):
        editor.prepare(*editor.chain(f"checkpoint:path={own}"))
    assert not ran.exists()


def test_code_that_transformers_has_is_used_without_asking(tmp_path: Path, ran: Path) -> None:
    plain, own = tiny_models.folder(tmp_path / "plain"), folder(tmp_path / "own")
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    names = [type(loading.load(model_table.resolve(str(each)), device="cpu").model).__module__ for each in (plain, own)]
    assert names == ["transformers.models.llama.modeling_llama"] * 2
    assert not ran.exists()


def test_it_runs_where_the_user_says_so_and_names_the_weights(
    tmp_path: Path, ran: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack = str(tiny_models.pack(tmp_path / "pack", PACK))
    found = {}
    for scale in (1, 3):
        own = str(folder(tmp_path / str(scale) / "own", scale))
        asked = Request(
            model=own,
            pack=pack,
            edits=["svd-50:layers=0,proj=up"],
            tasks=["memsplit_recitation", "memsplit_twins"],
            reference=own,
            trust_remote_code=True,
            device="cpu",
            out=tmp_path / "out",
        )
        (found[scale],) = run(asked).records
    assert ran.exists()
    assert caplog.text.count("nothing has checked it") == 4
    contents = [found[scale].content for scale in (1, 3)]
    assert all(each.arguments.trust_remote_code is True for each in contents)
    assert all("--trust-remote-code" in each.command for each in contents)
    assert contents[0].weights != contents[1].weights
    plain = loading.load(model_table.resolve(str(tiny_models.folder(tmp_path / "plain"))), device="cpu")
    assert plain.weights not in {each.weights for each in contents}
    log_probs = [each.base["recitation"]["log_prob"] for each in contents]
    assert log_probs[0] != pytest.approx(log_probs[1])
