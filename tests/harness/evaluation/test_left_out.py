"""An item that is too long for the model's context is left out and counted; the others are scored as without it."""

from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
import torch
import transformers
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from memsplit.errors import UserError
from memsplit.harness.evaluation.edited_lm import EditedLM
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.evaluation.request import Request
from memsplit.harness.evaluation.runner import Report, run
from memsplit.harness.evaluation.session import EvalSession
from memsplit.harness.models import loading, model_table
from memsplit.harness.spectrum import texts
from memsplit.results.records import tables
from memsplit.results.records.schema import ScoredTask
from memsplit.results.views import terminal
from memsplit.tasks import suite
from memsplit.tests.support import tiny_models

CONTEXT = 40
LONG = "reaps a whirlwind xyz " * 12
PASSAGES = [
    {"prefix_text": "the lion ate the lamb", "suffix_text": ", and the lamb was no more"},
    {"prefix_text": "who sows the wi", "suffix_text": "nd reaps a whirlwind"},
]
TWINS = [
    {"prefix_text": "a lamb ate the lion", "suffix_text": ", and a wind was the lion"},
    {"prefix_text": "the whirlwind", "suffix_text": " sows no more lamb"},
]
FACTS = [
    {"question": "who ate the lamb?", "answer": "the lion", "relation": "ate"},
    {"question": "who was no more?", "answer": "the lamb", "relation": "was"},
]
FILES: dict[str, list[dict[str, Any]]] = {
    "memorized": PASSAGES,
    "twins": TWINS,
    "clean": [{"text": "the lamb and the lion"}, {"text": "no more wind"}],
    "facts_closed": FACTS,
}
TOO_LONG: dict[str, dict[str, Any]] = {
    "memorized": {"prefix_text": "the lion", "suffix_text": LONG},
    "twins": {"prefix_text": LONG, "suffix_text": " the lion"},
    "clean": {"text": LONG},
    "facts_closed": {"question": LONG, "answer": "the lion", "relation": "ate"},
}
TASKS = ("memsplit_recitation", "memsplit_twins", "memsplit_fluency", "memsplit_facts_closed")


def report(folder: Path, pack: Path, **more: Any) -> Report:
    asked: dict[str, Any] = {"tasks": TASKS, "edits": ["svd-50:layers=0,proj=up"], "out": folder / "out", **more}
    model = tiny_models.folder(folder / "model", "bos", CONTEXT)
    return run(Request(model=str(model), pack=str(pack), device="cpu", batch_size=2, **asked))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))


def test_long_items_are_left_out_of_base_and_edit_and_counted(tmp_path: Path) -> None:
    longer = {kind: [*rows, TOO_LONG[kind]] for kind, rows in FILES.items()}
    with_long = report(tmp_path / "long", tiny_models.pack(tmp_path / "a", longer))
    without = report(tmp_path / "short", tiny_models.pack(tmp_path / "b", FILES))
    record, plain = with_long.records[0], without.records[0]
    assert {name: (task.n, task.left_out) for name, task in record.content.tasks.items()} == dict.fromkeys(
        TASKS, (2, 1)
    )
    assert {task.left_out for task in plain.content.tasks.values()} == {msgspec.UNSET}
    for side in (tables.BASE, tables.EDIT):
        pd.testing.assert_frame_equal(tables.items(record, side), tables.items(plain, side))
    assert with_long.fingerprint == without.fingerprint
    assert with_long.to_json()["left_out"] == dict.fromkeys(TASKS, 1)
    (said,) = terminal.left_out(record)
    assert "1 of 3 items of memsplit_facts_closed" in said.plain
    assert terminal.left_out(plain) == []
    assert with_long.notes == [
        f"2 of 6 passages of {kind}.jsonl are cut earlier, before a token or white space at their cut"
        for kind in ("memorized", "twins")
    ]


@pytest.mark.parametrize(("attacks", "reference"), [((), True), (("noise",), False), (("noise",), True)])
def test_long_items_between_the_others_change_nothing_of_them(
    attacks: tuple[str, ...], reference: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scored alone, and where scores of the same items are kept."""
    more: dict[str, Any] = {"attacks": attacks}
    if reference:
        more["reference"] = str(tiny_models.folder(tmp_path / "reference", "two", CONTEXT))
    orders: dict[str, list[int]] = {"none": [], "all": [0, 1, 2]}
    found = {}
    for order, places in orders.items():
        files = {kind: [{**row, "id": f"{kind}-{n}"} for n, row in enumerate(rows)] for kind, rows in FILES.items()}
        for kind, place in ((kind, place) for kind in files for place in reversed(places)):
            files[kind].insert(place, {**TOO_LONG[kind], "id": f"{kind}-long-{place}"})
        pack = tiny_models.pack(tmp_path / order, files)
        for cache in (order, "none"):
            monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "caches" / cache))
            found[order, cache] = report(tmp_path / order / cache, pack, **more)
    for record, *others in zip(*(each.records for each in found.values()), strict=True):
        assert (tables.UNSEEN in tables.sides(record), len(record.attacks)) == (reference, len(attacks))
        assert ("mia_ratio" in set(tables.items(record, tables.EDIT)["metric"])) == reference
        answers = tables.answers(record, tables.EDIT)
        gold = answers.assign(gold=answers["gold"].map("".join)).set_index(["task", "item"])["gold"]
        assert gold["memsplit_recitation", 0].strip() == PASSAGES[0]["suffix_text"]
        assert gold["memsplit_facts_closed"].tolist() == [fact["answer"] for fact in FACTS]
        for other in others:
            for whole in ("items", "answers"):
                pd.testing.assert_frame_equal(tables.whole(other, whole), tables.whole(record, whole))
            assert other.summary == record.summary


def test_a_task_of_which_nothing_is_left_is_not_asked(tmp_path: Path) -> None:
    files = {**FILES, "facts_closed": [TOO_LONG["facts_closed"]]}
    pack = tiny_models.pack(tmp_path / "pack", files)
    found = report(tmp_path, pack, tasks=("memsplit_fluency", "memsplit_facts_closed"))
    assert [(part.task, part.note) for part in found.skipped] == [
        ("memsplit_facts_closed", f"every item is longer than the model's context of {CONTEXT} tokens")
    ]
    with pytest.raises(UserError, match="every item is longer"):
        report(tmp_path, pack, tasks=("memsplit_facts_closed",))


def test_a_limit_is_taken_before_items_are_left_out(tmp_path: Path) -> None:
    files = {**FILES, "clean": [TOO_LONG["clean"], *FILES["clean"]]}
    found = report(tmp_path, tiny_models.pack(tmp_path / "pack", files), tasks=("memsplit_fluency",), limit=2)
    task = found.records[0].content.tasks["memsplit_fluency"]
    assert (task.n, task.left_out) == (1, 1)


def test_a_reference_that_cannot_read_what_the_model_can_is_refused(tmp_path: Path) -> None:
    passages = [{"prefix_text": "the lion", "suffix_text": " ate the lamb" * 8}]
    pack = tiny_models.pack(tmp_path / "pack", {**FILES, "memorized": passages})
    reference = tiny_models.folder(tmp_path / "reference", "bos", 16)
    with pytest.raises(UserError, match=r"cannot be asked: 'memorized-0-test' has \d+ tokens, and its context is 16"):
        report(tmp_path, pack, tasks=TASKS[:2], reference=str(reference))


def test_no_edit_is_told_what_the_model_cannot_read(tmp_path: Path) -> None:
    files = {kind: [*FILES[kind], TOO_LONG[kind]] for kind in ("memorized", "clean")}
    pack = tiny_models.pack(tmp_path / "pack", files)
    loaded = loading.load(model_table.resolve(str(tiny_models.folder(tmp_path / "model", "bos", CONTEXT)), str(pack)))
    editor = ModelEditor(loaded)
    (relearn,) = editor.chain("relearn")
    given = editor.inputs(relearn)
    assert (len(given.forget), len(given.retain)) == (2, 2)
    assert max(len(each.prefix) + len(each.suffix) for each in given.forget) <= CONTEXT


def test_the_spectrum_leaves_out_and_counts_the_same(tmp_path: Path) -> None:
    files = {kind: [TOO_LONG[kind], *rows] for kind, rows in FILES.items()}
    files["facts_open"] = [TOO_LONG["facts_closed"]]
    session = EvalSession(
        Request(
            model=str(tiny_models.folder(tmp_path / "model", "bos", CONTEXT)),
            pack=str(tiny_models.pack(tmp_path / "pack", files)),
            edits=[],
            tasks=(*TASKS, "memsplit_facts_open"),
            device="cpu",
        )
    )
    found, left_out = texts.texts(session)
    assert left_out == {"memorized": 1, "twins": 1, "memsplit_facts_closed": 1, "memsplit_facts_open": 1}
    assert max(len(text.ids) for text in found) <= CONTEXT
    names = {(text.kind, text.name) for text in found}
    assert {name for kind, name in names if kind in ("memorized", "clean")} == {
        *("memorized-1-test", "memorized-2-test"),
        *("clean-0-test", "clean-1-test", "clean-2-test"),
    }
    lm = session.scorer.lm
    for text in found:
        if text.kind == "memorized":
            row = next(row for row in PASSAGES if row["suffix_text"] in lm.tok_decode(text.ids[text.start - 1 :]))
            assert (text.ids[: text.start], text.ids[text.start :]) == lm.passage(row)


def test_a_spectrum_without_a_passage_is_refused(tmp_path: Path) -> None:
    pack = tiny_models.pack(tmp_path / "pack", {**FILES, "memorized": [TOO_LONG["memorized"]]})
    model = tiny_models.folder(tmp_path / "model", "bos", CONTEXT)
    session = EvalSession(Request(model=str(model), pack=str(pack), edits=[], tasks=TASKS, device="cpu"))
    with pytest.raises(UserError, match=f"every memorized passage is longer than the model's context of {CONTEXT}"):
        texts.texts(session)


@pytest.mark.parametrize("task", TASKS)
def test_under_lm_eval_a_long_item_is_refused(task: str, tmp_path: Path) -> None:
    """lm-eval scores every item that it has; learned positions end where the context does."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=400, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=0
    )
    folder = tmp_path / "model"
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tiny_models.tokenizer("bos").save_pretrained(folder)
    lm = EditedLM(str(folder), device="cpu")
    for kind, long in (("a", TOO_LONG), ("b", {})):
        files = {name: [*rows, *([long[name]] if long else [])] for name, rows in FILES.items()}
        pack = str(tiny_models.pack(tmp_path / kind, files))
        tasks = TaskManager(include_path=str(suite.FOLDER), include_defaults=False, metadata={"pack": pack})
        asked = {"tasks": tasks.load([task])["tasks"]}
        if long:
            with pytest.raises(
                UserError, match=f"1 of 3 items of {task} are longer than the model's context of {CONTEXT}"
            ):
                evaluate(lm, asked, bootstrap_iters=0)
            evaluate(lm, asked, samples={task: [0, 1]}, bootstrap_iters=0)
        else:
            assert evaluate(lm, asked, bootstrap_iters=0)["n-samples"][task]["effective"] == 2


def test_a_record_of_before_says_nothing_of_it() -> None:
    before = {"axis": "a", "version": 1, "fingerprint": "f", "n": 3}
    task = msgspec.convert(before, ScoredTask)
    assert not task.left_out
    assert msgspec.to_builtins(task) == before
