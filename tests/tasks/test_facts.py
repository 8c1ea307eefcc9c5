"""The pack ``world``: its facts are sound, its questions fair, and stock lm-eval scores them as they are meant."""

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from memsplit.files import digest
from memsplit.tasks import documents, packs, scoring
from memsplit.tasks.items import world
from memsplit.tests.support.world_facts import ASKED, FACTS, PACK, RELATIONS, ROWS, Doc, right, says


def statement(fact: Doc, answer: str) -> str:
    return RELATIONS[fact["relation"]].context.replace("{subject}", fact["subject"]).replace("{answer}", answer)


def test_there_are_many_facts_each_once_half_for_dev_half_for_test() -> None:
    assert len(FACTS) == len(PACK.rows("facts")) >= 1200
    relations = Counter(fact["relation"] for fact in FACTS.values())
    assert relations.keys() == RELATIONS.keys()
    assert len(relations) >= 14
    assert len({(fact["relation"], fact["subject"]) for fact in FACTS.values()}) == len(FACTS)
    for relation, n in relations.items():
        dev = sum(f["split"] == "dev" for f in FACTS.values() if f["relation"] == relation)
        assert abs(2 * dev - n) <= 1, relation


def test_answers_are_short_and_aliases_differ() -> None:
    for fact in FACTS.values():
        assert 1 <= len(fact["answer"].split()) <= 4
        assert len(set(right(fact))) == len(right(fact))
        assert all(text == text.strip() != "" for text in (fact["subject"], *right(fact)))


def test_no_wording_gives_the_answer_away() -> None:
    for fact in FACTS.values():
        relation = RELATIONS[fact["relation"]]
        for text in (*relation.wordings, relation.context.replace("{answer}", "")):
            assert not any(says(text.replace("{subject}", fact["subject"]), answer) for answer in right(fact)), fact


def test_closed_book_asks_each_fact_in_three_wordings_and_each_once_before_any_again() -> None:
    for split in packs.SPLITS:
        rows = PACK.rows("facts_closed", split)
        n = len(rows) // 3
        turns = [[row["fact"] for row in rows[i * n : (i + 1) * n]] for i in range(3)]
        assert turns[0] == turns[1] == turns[2]
        assert len(set(turns[0])) == n
        assert len({row["relation"] for row in rows[:60]}) >= 25
    questions = defaultdict(set)
    for row in ROWS["facts_closed"]:
        questions[row["fact"]].add(row["question"])
        wordings = RELATIONS[row["relation"]].wordings
        assert row["question"] in {w.replace("{subject}", FACTS[row["fact"]]["subject"]) for w in wordings}
    assert questions.keys() == FACTS.keys()
    assert {len(found) for found in questions.values()} == {3}
    assert (
        Counter(int(row["id"][-1]) for row in ROWS["facts_closed"][: len(FACTS)]).most_common()[-1][1] > len(FACTS) / 4
    )


@pytest.mark.parametrize("kind", world.KINDS)
def test_rows_carry_their_fact_and_its_split(kind: str) -> None:
    rows = ROWS[kind]
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        fact = FACTS[row["fact"]]
        assert (row["split"], row["relation"]) == (fact["split"], fact["relation"])
        if kind != "facts_counterfactual":
            assert scoring.accepted(row) == right(fact)
    for split in packs.SPLITS:
        assert PACK.rows(kind, split) == [row for row in rows if row["split"] == split]


def test_wrong_choices_are_of_the_type_and_never_right() -> None:
    types: dict[str, set[str]] = defaultdict(set)
    for fact in FACTS.values():
        types[RELATIONS[fact["relation"]].type].add(fact["answer"])
    for row in ROWS["facts_choice"]:
        fact = FACTS[row["fact"]]
        assert row["choices"][row["gold"]] == fact["answer"]
        assert len({choice.casefold() for choice in row["choices"]}) == 4
        wrong = row["choices"][: row["gold"]] + row["choices"][row["gold"] + 1 :]
        assert set(wrong) <= types[RELATIONS[fact["relation"]].type]
        for choice in wrong:
            assert not any(says(choice, answer) or says(answer, choice) for answer in right(fact))
            assert not any(answer.casefold().startswith(choice.casefold()) for answer in right(fact))
    golds = Counter(row["gold"] for row in ROWS["facts_choice"])
    assert min(golds.values()) > len(FACTS) / 5


def test_open_book_states_the_fact_among_others_of_its_relation_and_split() -> None:
    stated: dict[str, dict[str, Doc]] = defaultdict(dict)
    for fact in FACTS.values():
        stated[fact["relation"]][statement(fact, fact["answer"])] = fact
    for row in ROWS["facts_open"]:
        fact = FACTS[row["fact"]]
        assert row["question"].endswith(ASKED[row["fact"]])
        context = row["question"].removesuffix(ASKED[row["fact"]])
        found = [other for text, other in stated[row["relation"]].items() if f"{text} " in context]
        assert sum(len(statement(other, other["answer"])) + 1 for other in found) == len(context)
        assert len(found) == 3
        assert fact in found
        assert {other["split"] for other in found} == {fact["split"]}
        assert len({other["answer"] for other in found}) == 3


def test_a_false_context_says_the_false_answer_and_never_the_truth() -> None:
    opened = {row["fact"]: row for row in ROWS["facts_open"]}
    for row in ROWS["facts_counterfactual"]:
        fact = FACTS[row["fact"]]
        assert row["truth"] == fact["answer"]
        assert row["recalled"] == right(fact)
        assert says(row["question"], row["answer"])
        assert not any(says(row["question"], answer) for answer in right(fact))
        assert not set(scoring.accepted(row)) & set(right(fact))
        true, false = statement(fact, fact["answer"]), statement(fact, row["answer"])
        assert row["question"] == opened[row["fact"]]["question"].replace(true, false)
    order = Counter(
        row["question"].find(statement(FACTS[row["fact"]], row["answer"])) == 0 for row in ROWS["facts_counterfactual"]
    )
    assert len(FACTS) / 4 < order[True] < len(FACTS) / 2.5


def test_questions_are_the_same_in_every_process() -> None:
    code = f"from memsplit.tasks import packs; from memsplit.files import digest; p = packs.find('world'); print(digest([p.rows(k) for k in {world.KINDS}]))"
    environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest([ROWS[kind] for kind in world.KINDS])


# a folder of one's own


class Says(LM):  # type: ignore[misc]  # lm-eval has no types
    """A model that continues each question with one text."""

    def __init__(self, text: Callable[[Doc], str]) -> None:
        super().__init__()
        self.text = text

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        hits = [request.args[1] == f" {self.text(request.doc)}" for request in requests]
        return [(0.0 if hit else -1.0 - len(r.args[1]), hit) for r, hit in zip(requests, hits, strict=True)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def group(root: Path) -> dict[str, Any]:
    manager = TaskManager(include_path=str(root / "tasks"), include_defaults=False)
    tasks: dict[str, Any] = manager.load(["memsplit_world"])["tasks"]
    return tasks


def truth(doc: Doc) -> str:
    """The right answer's last alias."""
    return right(FACTS[doc["fact"]])[-1]


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        (truth, (1, 1, 0, 1)),
        (lambda doc: doc["answer"], (1, 1, 1, 0)),
        (lambda doc: scoring.accepted(doc)[-1], (1, 1, 1, 0)),
        (lambda doc: "no such thing", (0, 0, 0, 0)),
    ],
    ids=["knows", "reads", "reads an alias", "neither"],
)
def test_stock_lm_eval_tells_reading_from_recall(
    group: dict[str, Any], text: Callable[[Doc], str], figures: tuple[int, ...]
) -> None:
    tasks = {name: task for name, task in group.items() if name.startswith("memsplit_facts")}
    found = evaluate(Says(text), {"tasks": tasks}, limit=40, bootstrap_iters=0)["results"]
    scores = [
        found[f"memsplit_facts_{kind}"][f"{metric},none"]
        for kind, metric in (
            ("closed", "acc"),
            ("open", "acc"),
            ("counterfactual", "read"),
            ("counterfactual", "recalled"),
        )
    ]
    assert scores == list(figures)


def test_choice_is_by_likelihood(group: dict[str, Any]) -> None:
    tasks = {"tasks": {"memsplit_facts_choice": group["memsplit_facts_choice"]}}
    for text, expected in ((lambda doc: doc["answer"], 1), (lambda doc: doc["choices"][doc["gold"] - 1], 0)):
        found = evaluate(Says(text), tasks, limit=40, bootstrap_iters=0)["results"]
        assert found["memsplit_facts_choice"]["acc,none"] == expected


def test_the_group_asks_the_world_and_the_pack_may_be_changed(group: dict[str, Any], root: Path) -> None:
    for name, task in group.items():
        if name.startswith("memsplit_facts"):
            assert {doc["pack"] for doc in task.eval_docs} == {"world"}
            assert [doc["id"] for doc in task.eval_docs] == [row["id"] for row in PACK.rows(name[9:], "test")]
    manager = TaskManager(
        include_path=str(root / "tasks"), include_defaults=False, metadata={"pack": "olmo-tiny+world", "split": "dev"}
    )
    closed = manager.load(["memsplit_world"])["tasks"]["memsplit_facts_closed"]
    assert {doc["split"] for doc in closed.eval_docs} == {"dev"}
    assert closed.eval_docs[0]["question"] == packs.find("olmo-tiny").rows("facts_closed", "dev")[0]["question"]


@pytest.mark.parametrize("kind", ["facts_closed", "facts_open"])
def test_without_aliases_nothing_is_scored_otherwise_than_by_loglikelihood(kind: str, root: Path) -> None:
    plain = {
        "task": f"plain_{kind}",
        "custom_dataset": documents.pack_rows,
        "dataset_kwargs": {"kind": kind},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "question",
        "doc_to_target": " {{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    manager = TaskManager(include_path=str(root / "tasks"), include_defaults=False)
    tasks = [ConfigurableTask(config=plain), manager.load([f"memsplit_{kind}"])["tasks"][f"memsplit_{kind}"]]
    for task in tasks:
        task.build_all_requests()
    assert [r.args for r in tasks[0].instances] == [r.args for r in tasks[1].instances]
    assert len(tasks[0].instances) == len(packs.find("olmo-tiny").rows(kind, "test"))
    doc = tasks[0].eval_docs[0]
    for result in ((-1.0, True), (-2.0, False)):
        assert tasks[0].process_results(doc, [result]) == tasks[1].process_results(doc, [result])


def test_aliases_come_through_though_the_first_row_has_none(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "split": "test", "question": "q", "answer": "a", "relation": "r", **more}
        for i, more in enumerate([{}, {"aliases": ["b"]}])
    ]
    (tmp_path / "facts_closed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    docs = documents.pack_rows(kind="facts_closed", pack=str(tmp_path))["test"]
    assert [scoring.accepted(doc) for doc in docs] == [["a"], ["a", "b"]]
