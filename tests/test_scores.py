"""Kept scores: whole or refused, and used only for the same weights, items and settings."""

from pathlib import Path

import pandas as pd
import pytest
from lm_eval.evaluator import evaluate

from memsplit.errors import UserError
from memsplit.harness import scoring
from memsplit.harness.adapter import MemsplitLM
from memsplit.harness.loading import LoadedModel
from memsplit.results import stats
from memsplit.results.scores import Scores, ScoreStore
from memsplit.tasks import suite

ARGUMENTS = {"weights": "w", "task": "t"}
PARTS = [part for part in suite.MEMSPLIT if part.task.startswith("memsplit_arithmetic")]


def test_scores_are_read_back_and_damage_is_refused(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path / "new")
    items = pd.DataFrame([("t", "a", "m", 0, 0.1, 1), ("t", "a", "m", 1, 0.2, 3)], columns=stats.COLUMNS)
    assert store.load(ARGUMENTS) is None
    store.save(ARGUMENTS, Scores(items, 1.5))
    found = store.load(ARGUMENTS)
    assert found is not None
    assert found.seconds == 1.5
    pd.testing.assert_frame_equal(found.items, items)
    assert store.load({**ARGUMENTS, "task": "u"}) is None
    path = store.path(ARGUMENTS)
    whole = path.read_bytes()
    middle = whole.index(b"PAR1", 1) if b"PAR1" in whole[4:-4] else 40
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (whole[:-5], whole[:20], b"", flipped):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            store.load(ARGUMENTS)
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
