"""An edit or an attack that changes no output: the record, the report and the JSON say so."""

from pathlib import Path

import pytest
import torch

from memsplit.harness.evaluation.request import Request
from memsplit.harness.evaluation.runner import run
from memsplit.results.records import record
from memsplit.tests.support import tiny_models

NOTE = "svd-50:layers=0,proj=up changes weights, but no logit of 64 random tokens"


def deaf(folder: Path) -> str:
    """A model that hears nothing of its first MLP."""
    model = tiny_models.model()
    torch.nn.init.zeros_(model.get_parameter("model.layers.0.mlp.down_proj.weight"))
    model.save_pretrained(folder)
    tiny_models.tokenizer("bos").save_pretrained(folder)
    return str(folder)


def test_a_record_says_that_its_edit_changed_no_logit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    request = Request(
        model=deaf(tmp_path / "model"),
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


def test_a_record_says_so_of_attacks_whether_or_not_their_scores_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    rows = [{"prefix_text": "the lion ate", "suffix_text": " the lamb"}]
    request = Request(
        model=deaf(tmp_path / "model"),
        reference=str(tiny_models.folder(tmp_path / "reference", "bos")),
        pack=str(tiny_models.pack(tmp_path / "pack", {"memorized": rows, "twins": rows})),
        tasks=("memsplit_recitation", "memsplit_twins"),
        edits=["svd-50:layers=1,proj=down"],
        attacks=["noise:layers=0,proj=up", "noise:layers=1,proj=up", "noise:size=1e+30", "noise:size=0"],
        device="cpu",
        out=tmp_path / "out",
    )
    broken = "makes logits that are not finite: its figures are not known"
    idle = "changes no weight, and so brings nothing back"
    for _ in range(2):
        report = run(request)
        (written,) = report.records
        notes = record.read(written.path).notes
        found = [note.partition(" noise:")[::2] for note in notes]
        assert [(about, said.partition(" ")[2]) for about, said in found] == [
            ("the attack on edit:", "changes weights, but no logit of 64 random tokens"),
            ("the attack on edit:", broken),
            ("the attack on edit:", idle),
            ("the attack on unseen:", broken),
            ("the attack on unseen:", idle),
        ]
        assert report.notes == report.to_json()["edits"][0]["notes"] == list(notes)
