"""Which tasks a request's words name, and what is known of tasks that memsplit does not define."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from memsplit.errors import UserError
from memsplit.harness.evaluation import hub_tasks, lm_eval_index
from memsplit.harness.evaluation.task_selection import choose_parts
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.models import model_table
from memsplit.harness.models.loading import LoadedModel
from memsplit.tasks import suite

TINY = model_table.resolve("olmo-tiny")
LM_EVAL = Path(next(iter(lm_eval_index.folders()["hellaswag"]))).parent


def names(*words: str, suite_name: str = "memsplit", include: Path | None = None) -> list[str]:
    parts, skipped = choose_parts(suite_name, words, TINY, [include] if include else [])
    assert not words or skipped == []
    return [part.task for part in parts]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["memsplit_twins", "memsplit_recitation"], ["memsplit_twins", "memsplit_recitation"]),
        (["memsplit_logic*"], ["memsplit_logic_boolean", "memsplit_logic_ordering", "memsplit_logic_chain"]),
        (["memsplit_t*", "hellaswag"], ["memsplit_twins", "hellaswag"]),
        (["memsplit_pos*"], ["memsplit_position", "memsplit_position_twins"]),
        (["hellaswa?"], ["hellaswag"]),
    ],
)
def test_words_name_tasks(words: list[str], expected: list[str]) -> None:
    """A pattern leaves out what the model's packs do not list (``memsplit_logic_truth``)."""
    assert names(*words) == expected


@pytest.mark.parametrize("group", ["mmlu_stem", "ai2_arc", "bbh_cot_fewshot", "glue"])
def test_a_group_or_tag_of_lm_eval_is_the_tasks_that_it_loads(group: str) -> None:
    manager = TaskManager(
        include_path=[str(LM_EVAL / name) for name in ("mmlu", "arc", "bbh", "glue")], include_defaults=False
    )

    def members(name: str) -> set[str]:
        """By lm-eval's own index."""
        entry = manager.task_index[name]
        listed: Any = entry.tags if entry.kind.name == "TAG" else (entry.cfg or {}).get("task")
        return {name} if entry.kind.name == "TASK" else {task for member in listed for task in members(member)}

    assert set(names(group)) == members(group)


def test_a_suites_facts_on_a_task_are_its_own() -> None:
    (here,), _ = choose_parts("memsplit_paper", ["hellaswag"], TINY)
    (elsewhere,), _ = choose_parts("memsplit", ["hellaswag"], TINY)
    assert (here.axis, here.metrics, here.chance) == ("commonsense", {"acc_norm": "hellaswag"}, 0.25)
    assert (elsewhere.axis, elsewhere.metrics) == ("other", {})


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("memsplit_logic_chian", "memsplit_logic_chain"),
        ("hellaswagg", "hellaswag"),
        ("memsplit_postion", "memsplit_position"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(word: str, near: str) -> None:
    with pytest.raises(UserError, match=f"unknown task '{word}': expected one of .*; did you mean '{near}'"):
        names(word)
    with pytest.raises(UserError, match=r"unknown task 'memsplit_q\*z'"):
        names("memsplit_q*z")


def test_lm_eval_is_not_imported_to_find_its_tasks() -> None:
    code = (
        "import sys; from memsplit.harness.evaluation.task_selection import choose_parts\n"
        "from memsplit.harness.models import model_table\n"
        "choose_parts('memsplit', ['mmlu_stem', 'memsplit_twins'], model_table.resolve('olmo-tiny'))\n"
        "sys.exit(bool({'torch', 'lm_eval', 'pandas', 'datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


CAPITALS = """\
task: capitals
dataset_path: json
dataset_kwargs: {data_files: DATA}
test_split: train
output_type: multiple_choice
doc_to_text: "The capital of {{country}} is"
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - metric: acc
  - metric: acc_norm
  - metric: f1
"""
FACTS = "metadata: {axis: geography, metrics: {acc_norm: capitals}, chance: 0.4}\n"


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """A folder with a task that declares nothing, one that does, and a suite of both."""
    rows: list[dict[str, Any]] = [
        {"country": "France", "choices": ["Paris", "Rome"], "gold": 0},
        {"country": "Italy", "choices": ["Oslo", "Rome", "Bern", "Paris"], "gold": 1},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = CAPITALS.replace("DATA", str(tmp_path / "rows.jsonl"))
    (tmp_path / "plain.yaml").write_text(text)
    (tmp_path / "full.yaml").write_text(text.replace("task: capitals", "task: capitals_full") + FACTS)
    (tmp_path / "suite.yaml").write_text(
        "group: places\ntask: [capitals_full, memsplit_logic_chain, arc_easy, capitals]\n"
    )
    return tmp_path


def test_a_folder_adds_tasks_and_suites(include: Path) -> None:
    assert names("capitals", include=include) == ["capitals"]
    assert names(suite_name="places", include=include) == [
        "capitals_full",
        "memsplit_logic_chain",
        "arc_easy",
        "capitals",
    ]
    with pytest.raises(UserError, match=r"unknown suite 'place': expected one of .*did you mean 'places'"):
        names(suite_name="place", include=include)
    with pytest.raises(UserError, match="unknown task 'capitals'"):
        names("capitals")
    with pytest.raises(UserError, match="no folder"):
        names(include=include / "none")
    (include / "bad.yaml").write_text("group: bad\ntask: [nowhere_defined]\n")
    with pytest.raises(UserError, match="the group 'bad' names 'nowhere_defined', which is neither"):
        names(suite_name="bad", include=include)


def test_two_metrics_of_one_name_are_refused(include: Path) -> None:
    (include / "again.yaml").write_text((include / "full.yaml").read_text().replace("capitals_full", "again"))
    with pytest.raises(
        UserError, match="'again' and 'capitals_full' both have a metric 'capitals' in the axis 'geography'"
    ):
        names("again", "capitals_full", include=include)


def test_what_a_task_does_not_declare_is_learned_from_it(organism: LoadedModel, include: Path) -> None:
    """The metrics that lm-eval averages, and the chance of guessing: (1/2 + 1/4) / 2."""
    parts, _ = choose_parts("memsplit", ["capitals", "capitals_full"], TINY, [include])
    tasks, loaded, skipped = hub_tasks.load(parts, MemsplitLM(organism), {"pack": "olmo-tiny", "split": "test"})
    assert skipped == []
    assert set(tasks) == {"capitals", "capitals_full"}
    assert loaded["capitals"].metrics == {"acc": "capitals_acc", "acc_norm": "capitals_acc_norm"}
    assert loaded["capitals"].chance == pytest.approx(0.375)
    assert loaded["capitals_full"] == next(part for part in parts if part.task == "capitals_full")
    assert loaded["capitals_full"].chance == 0.4


def test_a_task_without_a_metric_to_report_is_left_out(organism: LoadedModel, include: Path) -> None:
    text = (include / "plain.yaml").read_text()
    (include / "plain.yaml").write_text(text.replace("  - metric: acc\n  - metric: acc_norm\n", ""))
    parts, _ = choose_parts("memsplit", ["capitals"], TINY, [include])
    tasks, _, skipped = hub_tasks.load(parts, MemsplitLM(organism))
    assert tasks == {}
    assert "none of its metrics is a mean" in skipped[0].note


def test_every_own_task_has_an_axis_and_says_what_it_asks() -> None:
    for spec in suite.own().tasks.values():
        assert spec.axis != "other"
        assert spec.metrics
        assert spec.summary
        assert spec.kind or spec.family
