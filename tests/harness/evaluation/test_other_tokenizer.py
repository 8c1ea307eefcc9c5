"""A reference model with another tokenizer is asked the same text of each passage as the evaluated model."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from memsplit.harness.evaluation.request import Request
from memsplit.harness.evaluation.runner import run
from memsplit.harness.models import loading, model_table, token_ids
from memsplit.results.records import tables
from memsplit.tests.support import tiny_models

BYTES, WORDS = 262, 400
"""Sizes of tokenizers: of one that knows hardly more than bytes, and one that knows words."""
AXES = {"memorized": "memsplit_recitation", "twins": "memsplit_twins"}
PASSAGES = {
    "memorized": [("who sows the wi", "nd reaps a whirlwind"), ("the lion ate the lamb", ", and the lamb was no more")],
    "twins": [("a lamb ate the li", "on and the wind"), ("the whirlwind\n ", "sows no more lamb")],
}


@pytest.mark.parametrize(("own", "others"), [(BYTES, WORDS), (WORDS, BYTES), (WORDS, WORDS)])
def test_a_reference_is_asked_the_text_that_the_model_is(
    own: int, others: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    rows = {
        kind: [dict(zip(("prefix_text", "suffix_text"), pair, strict=True)) for pair in PASSAGES[kind]] for kind in AXES
    }
    model, reference = (
        tiny_models.folder(tmp_path / name, kind, 128, tokens)
        for name, kind, tokens in (("model", "none", own), ("reference", "bos", others))
    )
    found = run(
        Request(
            model=str(model),
            reference=str(reference),
            edits=["none"],
            attacks=["noise"],
            pack=str(tiny_models.pack(tmp_path / "pack", rows)),
            tasks=tuple(AXES.values()),
            device="cpu",
            out=tmp_path / "out",
        )
    )
    items = tables.items(found.records[0], tables.UNSEEN).set_index(["task", "metric", "item"])["value"]
    asked = tiny_models.tokenizer("none", own)
    other = loading.load(model_table.resolve(str(reference)))
    for kind, task in AXES.items():
        for item, (before, after) in enumerate(PASSAGES[kind]):
            prefix, suffix, _ = token_ids.cut(before, after, asked)
            expected = log_p(other, asked.decode(prefix), asked.decode(suffix)) / len(suffix)
            assert items[task, "log_prob", item] == pytest.approx(expected, rel=1e-5)
    notes = [note for note in found.notes if "reference" in note]
    assert len(notes) == (own != others)
    assert not notes or notes[0].startswith("2 of 4 passages are cut for the reference model")
    assert pd.notna(found.records[0].summary["memory"].value)


def log_p(loaded: loading.LoadedModel, before: str, after: str) -> float:
    """Log-probability of a text's second part, whose ids do not reach into the first."""
    prefix, suffix = (loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after))
    ids = [loaded.tokenizer.bos_token_id, *prefix, *suffix]
    with torch.no_grad():
        log_probs = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(log_probs[place - 1, ids[place]]) for place in range(len(prefix) + 1, len(ids)))
