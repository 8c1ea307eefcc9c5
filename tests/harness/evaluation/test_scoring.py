"""Kept scores: whole or refused, and used only for the same weights, items and settings."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lm_eval.api.samplers import ContextSampler
from lm_eval.evaluator import evaluate

from memsplit.errors import UserError
from memsplit.harness.evaluation import scoring
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.models import loading, model_table
from memsplit.harness.models.loading import LoadedModel
from memsplit.results.records.score_cache import Scores, ScoreStore
from memsplit.results.records.tables import ANSWERS, ITEMS
from memsplit.tasks import packs, suite

ARGUMENTS = {"weights": "w", "task": "t"}
TASKS = suite.own().tasks
PARTS = [TASKS[f"memsplit_arithmetic_{family}"] for family in ("addition", "subtraction")]


def test_scores_are_read_back_and_damage_is_refused(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path / "new")
    items = pd.DataFrame([("t", "a", "m", 0, 0.1, 1, "0", ""), ("t", "a", "m", 1, 0.2, 3, "1", "")], columns=ITEMS)
    assert store.load(ARGUMENTS) is None
    said = pd.DataFrame([("t", 0, "2 + 2 =", [" 4"], [" 5", "!"])], columns=ANSWERS)
    store.save(ARGUMENTS, Scores(items, said, 1.5))
    found = store.load(ARGUMENTS)
    assert found is not None
    assert found.seconds == 1.5
    pd.testing.assert_frame_equal(found.items, items)
    pd.testing.assert_frame_equal(found.answers, said)
    assert store.load({**ARGUMENTS, "task": "u"}) is None
    path = store.path(ARGUMENTS)
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:20], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            store.load(ARGUMENTS)
    refused = 0
    for i in range(
        0, len(whole), 41
    ):  # no bit that is another goes unseen, unless it is of the archive's dates and modes
        path.write_bytes(whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :])
        try:
            again = store.load(ARGUMENTS)
        except UserError as error:
            assert "damaged" in str(error)
            refused += 1
        else:
            assert again is not None
            assert again.seconds == found.seconds
            pd.testing.assert_frame_equal(again.items, items)
            pd.testing.assert_frame_equal(again.answers, said)
    assert refused > 0.9 * len(range(0, len(whole), 41))
    store.path({"weights": "other"}).write_bytes(whole)
    with pytest.raises(UserError, match="expected"):
        store.load({"weights": "other"})


def scorer(organism: LoadedModel, store: ScoreStore, batch_size: int = 8, limit: int = 5) -> scoring.Scorer:
    tasks = scoring.load_tasks(PARTS, "olmo-tiny", "test")
    return scoring.Scorer(MemsplitLM(organism, batch_size=batch_size), PARTS, tasks, limit=limit, store=store)


def test_a_killed_evaluation_goes_on_at_its_task(
    organism: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scorer(organism, ScoreStore(tmp_path / "whole")).score("w", "base")
    store = ScoreStore(tmp_path / "cut")
    asked: list[str] = []

    def counted(lm: object, tasks: dict[str, dict[str, object]], **options: object) -> object:
        asked.extend(tasks["tasks"])
        if asked == [PARTS[0].task, PARTS[1].task]:
            raise KeyboardInterrupt
        return evaluate(lm, tasks, **options)

    monkeypatch.setattr(scoring, "evaluate", counted)
    with pytest.raises(KeyboardInterrupt):
        scorer(organism, store).score("w", "base")
    again = scorer(organism, store)
    assert again.missing("w") == PARTS[1:]
    pd.testing.assert_frame_equal(again.score("w", "base").items, whole.items)
    assert asked == [PARTS[0].task, PARTS[1].task, PARTS[1].task]
    assert again.missing("w") == []


def test_other_weights_items_or_settings_are_scored_anew(organism: LoadedModel, tmp_path: Path) -> None:
    store = ScoreStore(tmp_path)
    first = scorer(organism, store)
    first.score("w", "base")
    assert first.missing("w") == []
    assert first.missing("v") == PARTS
    assert scorer(organism, store, batch_size=4).missing("w") == PARTS
    assert scorer(organism, store, limit=6).missing("w") == PARTS
    for key in ("device", "versions", "code"):
        other = scorer(organism, store)
        other.settings[key] = "other"
        assert other.missing("w") == PARTS


def test_the_items_are_those_of_the_split() -> None:
    part = suite.own().tasks["memsplit_facts_open"]
    for split in ("dev", "test"):
        task = scoring.load_tasks([part], "olmo-tiny", split)[part.task]
        expected = packs.find("olmo-tiny").rows("facts_open", split)
        assert [doc["id"] for doc in task.eval_docs] == [row["id"] for row in expected]
        assert {doc["split"] for doc in task.eval_docs} == {split}


def fingerprint(task: Any, lm: MemsplitLM, limit: int) -> str:
    scoring.build_requests(task, lm, limit)
    return scoring.task_fingerprint(task, list(task.eval_docs)[:limit])


def test_a_packs_place_is_no_part_of_what_it_asks(organism: LoadedModel, tmp_path: Path) -> None:
    shutil.copytree(packs.SHIPPED / "olmo-tiny", tmp_path / "copy")
    parts = [TASKS["memsplit_facts_open"]]
    fingerprints = {
        fingerprint(scoring.load_tasks(parts, pack, "test")[parts[0].task], MemsplitLM(organism), 5)
        for pack in ("olmo-tiny", str(tmp_path / "copy"))
    }
    assert len(fingerprints) == 1


def test_the_examples_before_a_question_are_part_of_what_is_asked(organism: LoadedModel) -> None:
    lm = MemsplitLM(organism)
    part = TASKS["memsplit_logic_order"]
    task = scoring.load_tasks([part], "world", "test")[part.task]
    found = [fingerprint(task, lm, 5)]
    task.sampler.df[:2] = task.sampler.df[1::-1]
    found.append(fingerprint(task, lm, 5))
    task.config.num_fewshot = 3
    found.append(fingerprint(task, lm, 5))
    assert len(set(found)) == 3


def test_drawn_examples_are_the_same_for_base_and_edit(
    organism: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task may draw the examples that it shows: those that were hashed are those that are sent, each time."""
    part = TASKS["memsplit_logic_order"]
    task = scoring.load_tasks([part], "world", "test")[part.task]
    task.config.num_fewshot, task.sampler = 2, ContextSampler(list(task.dataset["train"]))
    sent: list[list[tuple[str, str]]] = []

    def watched(lm: object, tasks: dict[str, dict[str, Any]], **options: Any) -> object:
        result = evaluate(lm, tasks, **options)
        sent.append([request.args for request in tasks["tasks"][part.task].instances])
        return result

    monkeypatch.setattr(scoring, "evaluate", watched)
    lm = MemsplitLM(organism, batch_size=8, max_length=4096)  # all items fit
    one = scoring.Scorer(lm, [part], {part.task: task}, limit=3, store=ScoreStore(tmp_path))
    hashed = [request.args for request in task.instances]
    one.score("w", "base")
    one.score("v", "edit")
    assert sent == [hashed, hashed]
    assert len({context[:40] for context, _ in hashed}) > 1
    assert fingerprint(task, lm, 3) == one.fingerprints[part.task]


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_models_settings_are_part_of_its_name(organism: LoadedModel, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_table.ORGANISMS / "olmo-tiny", folder)
    assert loading.load(model_table.resolve(str(folder)), device="cpu").weights == organism.weights
    content = json.loads((folder / file).read_text())
    if file == "config.json":
        content["rope_parameters"]["rope_theta"] = 10.0
    else:
        content["normalizer"] = None
    (folder / file).write_text(json.dumps(content))
    assert loading.load(model_table.resolve(str(folder)), device="cpu").weights != organism.weights
