"""Edits scored after attacks, against the same attack on an unseen counterpart: one evaluation, read in many ways."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from memsplit.harness.evaluation import runner
from memsplit.harness.evaluation.request import Request, command
from memsplit.harness.evaluation.session import EvalSession
from memsplit.harness.models.loading import LoadedModel
from memsplit.model_edits.apply import applied
from memsplit.results.records import record, tables
from memsplit.results.records.record import Record
from memsplit.results.statistics.paired import Paired
from memsplit.tests.support.running import in_process, refused

ATTACK = "quantize:bits=3"
EDITS = ("none", "svd-50:layers=2-3,proj=up")
SIDES = ["base", "edit", "unseen", f"unseen+{ATTACK}", f"edit+{ATTACK}"]
TASKS = ("memsplit_recitation", "memsplit_twins")


@pytest.fixture(scope="module")
def counterpart(organism: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that does not know the passages: without the matrices that hold most of them."""
    folder = tmp_path_factory.mktemp("unseen") / "model"
    names = [
        name for name, _ in organism.model.named_parameters() if "layers.3.mlp.up" in name or "layers.2.mlp.up" in name
    ]
    with applied(organism.model, {name: torch.zeros_like(organism.model.get_parameter(name)) for name in names}):
        organism.model.save_pretrained(folder)
    organism.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def request_(counterpart: Path, tmp_path_factory: pytest.TempPathFactory) -> Request:
    out = tmp_path_factory.mktemp("out")
    return Request(
        model="olmo-tiny",
        edits=EDITS,
        tasks=TASKS,
        limit=12,
        attacks=[ATTACK],
        reference=str(counterpart),
        device="cpu",
        out=out,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def records(request_: Request, cache: Path) -> dict[str, Record]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSPLIT_CACHE", str(cache))
        return {found.spec: found for found in runner.run(request_).records}


def log_prob(items: pd.DataFrame) -> pd.Series:
    return items[items["metric"] == "log_prob"].set_index(["task", "item"])["value"].sort_index()


def test_a_record_holds_every_side_and_what_each_attack_brought_back(records: dict[str, Record]) -> None:
    edited = records[EDITS[1]]
    sides = tables.sides(edited)
    assert sorted(sides) == sorted(SIDES)
    assert [attack.spec for attack in edited.attacks] == [ATTACK]
    found = Paired.of(edited)
    erased = edited.summary["erased"].value
    assert edited.summary["stays_erased"].value == pytest.approx(min(erased, found.memory.erased(f"edit+{ATTACK}")[0]))
    assert edited.attacks[0].erased == found.attacks()[ATTACK]
    strict = sides[f"edit+{ATTACK}"].query("axis == 'recitation' and metric == 'strict'")["value"]
    assert edited.attacks[0].strict == strict.mean()
    assert record.read(edited.path).content == edited.content
    assert {"base", "curvature", "edit", "suite", "attacks"} == edited.content.seconds.keys()


def test_the_attacked_edit_is_the_chain_and_is_scored_as_any(
    records: dict[str, Record], request_: Request, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(cache))
    session = EvalSession(request_)
    chain = session.editor.prepare(*session.chains[1], *session.attacks[ATTACK])
    with applied(session.loaded.model, chain.weights):
        whole = session.scorer.score("chain", "the chain").items
    ours = tables.sides(records[EDITS[1]])[f"edit+{ATTACK}"]
    for metric in ("log_prob", "strict", "token_accuracy", "mia_loss"):
        both = [
            items[items["metric"] == metric].set_index(["task", "item"])["value"].sort_index()
            for items in (whole, ours)
        ]
        pd.testing.assert_series_equal(*both, rtol=1e-5)
    for column in ("cluster", "group", "weight"):
        assert set(ours[column]) <= set(whole[column])


def test_the_unseen_counterpart_is_scored_as_it_is_and_after_the_attack(
    records: dict[str, Record], counterpart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path))
    request = Request(
        model=str(counterpart),
        pack="olmo-tiny",
        edits=[ATTACK],
        tasks=TASKS,
        limit=12,
        device="cpu",
        out=tmp_path / "out",
    )
    own = runner.run(request).records[0]
    theirs = tables.sides(records[EDITS[1]])
    for ours, side in (("base", "unseen"), ("edit", f"unseen+{ATTACK}")):
        np.testing.assert_allclose(log_prob(tables.items(own, ours)), log_prob(theirs[side]), rtol=1e-5)


def test_no_edit_erases_nothing(records: dict[str, Record]) -> None:
    summary = records["none"].summary
    assert (summary["erased"].value, summary["erased"].low, summary["erased"].high) == (0, 0, 0)
    assert summary["memory"] == summary["memory_base"]
    assert "split_score" not in summary  # neither logic nor fluency was asked


def test_what_was_scored_is_kept_and_not_scored_again(
    records: dict[str, Record], request_: Request, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(cache))

    def never(*_: object, **__: object) -> Any:
        raise AssertionError("scored again")

    monkeypatch.setattr("memsplit.harness.evaluation.passages.teacher_forced", never)
    again = runner.run(request_)
    assert [found.id for found in again.records] == [found.id for found in records.values()]
    monkeypatch.setattr(runner, "evaluate", never)
    assert len(runner.run(Request(**{**vars(request_), "resume": True})).records) == 2
    with pytest.raises(AssertionError, match="scored again"):
        runner.run(Request(**{**vars(request_), "resume": True, "attacks": []}))


def test_the_command_of_a_record_names_its_attacks(records: dict[str, Record], request_: Request) -> None:
    text = command(request_, EDITS[1])
    assert f"--attack {ATTACK}" in text
    assert records[EDITS[1]].content.command == text
    assert records[EDITS[1]].content.arguments.attacks == (ATTACK,)


def test_on_the_command_line(request_: Request, cache: Path, records: dict[str, Record], tmp_path: Path) -> None:
    words = ["eval", "--edit", EDITS[1], "--attack", ATTACK, "--tasks", ",".join(TASKS), "--limit", "12"]
    words += ["--device", "cpu", "--reference", str(request_.reference), "--out", str(tmp_path)]
    shown = in_process(*words, cache=cache)
    assert shown.returncode == 0, shown.stderr
    for title in ("stays erased", "after an attack on the edited model", "memory left, bits a token"):
        assert title in shown.stdout
    found = json.loads(in_process(*words, "--json", cache=cache).stdout)["edits"][0]
    assert found["attacks"][0]["spec"] == ATTACK
    least = min(found["summary"]["erased"], found["attacks"][0]["erased"]["value"])
    assert found["summary"]["stays_erased"] == pytest.approx(least)
    alone = in_process(*[word for word in words if word not in ("--attack", ATTACK)], cache=cache)
    assert "known after attacks: --attacks" in alone.stdout


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--attack", "relearm"], ["'relearm'", "relearn"]),
        (["--attack", "noise:layers=7"], ["noise:layers=7", "layer 7 is out of range"]),
        (["--attack", "svd-50"], ["bad attack 'svd-50'", "relearn"]),
        (["--reference", "nowhere"], ["'nowhere'"]),
    ],
)
def test_a_mistake_is_one_line(cache: Path, option: list[str], words: list[str]) -> None:
    refused(in_process("eval", "--edit", "none", *option, cache=cache), words)


def test_without_passages_there_is_nothing_to_compare(request_: Request, cache: Path) -> None:
    words = [
        "eval",
        "--edit",
        "none",
        "--tasks",
        "memsplit_fluency",
        "--limit",
        "1",
        "--reference",
        str(request_.reference),
    ]
    refused(in_process(*words, cache=cache), ["--reference", "no task that is asked has any"])
    words = ["eval", "--edit", "none", "--tasks", "memsplit_recitation", "--attack", "relearn"]
    refused(in_process(*words, cache=cache), ["attack 'relearn'", "recitation and twins"])
