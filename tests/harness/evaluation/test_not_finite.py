"""An edit that leaves no numbers, from the model to the gate: no policy, however narrow and loose, is met by it."""

from typing import Any

import numpy as np
import pytest

from memsplit.harness.evaluation.request import Request
from memsplit.harness.evaluation.runner import run
from memsplit.harness.lm import decoding
from memsplit.results.gate.judge import verdict
from memsplit.results.gate.policy import parse
from memsplit.results.records import tables
from memsplit.results.records.record import Record
from memsplit.tests.support import tiny_models

EDIT = "noise:size=1e30,layers=0-1,proj=all"
ATTACKS = (EDIT, "relearn:steps=1")

N = 60
"""Passages, all of them such as the base goes on by itself."""
POLICIES: dict[str, dict[str, Any]] = {
    "removed": {"removed": 0.9},
    "margins": {"margins": {"facts_closed/choice": 0.9}},
    "both": {"removed": 0.1, "margins": {"facts_closed/choice": 0.9, "facts_closed/acc": 0.9}},
}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    folder = tmp_path_factory.mktemp("not_finite")
    model = tiny_models.folder(folder / "model", context=512)
    prompts = np.random.default_rng(0).integers(4, 300, (N, 4)).tolist()
    suffixes = decoding.greedy(tiny_models.model(512), prompts, [3] * N, ends=[], batch=N)
    text = tiny_models.tokenizer().decode
    passages = [
        {"prefix_ids": a, "suffix_ids": b, "prefix_text": text(a), "suffix_text": text(b)}
        for a, b in zip(prompts, suffixes, strict=True)
    ]
    facts = [{"question": "who ate the lamb?", "answer": " the lion", "relation": "ate"}]
    choices = [{**facts[0], "choices": [" the lion", " the lamb"], "gold": 0}] * N
    files = {
        "memorized": passages,
        "twins": passages[:5],
        "clean": [{"text": text(prompts[0])}],
        "facts_closed": facts,
        "facts_choice": choices,
    }
    pack = tiny_models.pack(folder / "pack", files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSPLIT_CACHE", str(folder / "cache"))
        request = Request(
            model=str(model),
            pack=str(pack),
            tasks=("memsplit_recitation", "memsplit_twins", "memsplit_facts_choice", "memsplit_facts_closed"),
            edits=[EDIT, "none"],
            attacks=ATTACKS,
            limit=N,
            device="cpu",
            out=folder / "out",
        )
        return run(request).records


@pytest.fixture(scope="module")
def record(records: list[Record]) -> Record:
    return records[0]


def test_no_figure_of_the_edit_is_known(record: Record) -> None:
    base, edited = (tables.items(record, side) for side in (tables.BASE, tables.EDIT))
    assert base.loc[base["metric"] == "strict", "value"].mean() > 0.5
    assert base["value"].notna().all()
    assert edited["value"].isna().all()
    unknown = {name for name, figure in record.summary.items() if np.isnan(figure.value)}
    assert unknown >= {"erased", "stays_erased", "recitation_removed", "facts_closed_kept", "knowledge_kept"}
    assert len(record.attacks) == len(ATTACKS)
    assert np.isnan([attack.strict for attack in record.attacks]).all()


def test_an_attack_that_diverges_is_told_and_the_next_edit_is_scored(records: list[Record]) -> None:
    collapsed, sound = records
    assert [note for note in collapsed.notes if f"the attack on '{collapsed.spec}'" in note and "'relearn:" in note]
    assert not [note for note in sound.notes if "'relearn:" in note]
    for attack in sound.attacks[1:]:
        items = tables.items(sound, tables.attacked(tables.EDIT, attack.spec))
        assert items["value"].notna().all()
        unknown = tables.items(collapsed, tables.attacked(tables.EDIT, attack.spec))
        columns = [name for name in tables.ITEMS if name != "value"]
        assert unknown[columns].equals(items[columns])


@pytest.mark.parametrize("policy", POLICIES)
def test_no_gate_passes_it(record: Record, policy: str) -> None:
    assert not verdict(record, None, parse(POLICIES[policy])).passed
