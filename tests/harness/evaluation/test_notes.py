"""An edit that changes no output: its record, the report and the JSON say so."""

from pathlib import Path

import pytest
import torch

from memsplit.harness.evaluation.request import Request
from memsplit.harness.evaluation.runner import run
from memsplit.results.records import record
from memsplit.tests.support import tiny_models

NOTE = "svd-50:layers=0,proj=up changes weights, but no logit of 64 random tokens"


def test_a_record_says_that_its_edit_changed_no_logit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    model = tiny_models.model()
    torch.nn.init.zeros_(model.get_parameter("model.layers.0.mlp.down_proj.weight"))
    model.save_pretrained(tmp_path / "model")
    tiny_models.tokenizer("bos").save_pretrained(tmp_path / "model")
    request = Request(
        model=str(tmp_path / "model"),
        pack=str(tiny_models.pack(tmp_path / "pack", {"clean": [{"text": "the lamb and the lion"}]})),
        tasks=("memsplit_fluency",),
        edits=["svd-50:layers=0,proj=up", "svd-50:layers=1,proj=up", "none"],
        device="cpu",
        out=tmp_path / "out",
    )
    report = run(request)
    assert [record.read(written.path).notes for written in report.records] == [(NOTE,), (), ()]
    assert ["notes" in written.to_json() for written in report.records] == [True, False, False]
    assert report.notes == [NOTE]
    assert [edit["notes"] for edit in report.to_json()["edits"]] == [[NOTE], [], []]
