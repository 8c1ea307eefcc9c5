"""What is read from lm-eval's YAML: the same as lm-eval reads, and mistakes by the file's name."""

from pathlib import Path

import pytest
from lm_eval.tasks._yaml_loader import load_yaml

from memsplit.errors import UserError
from memsplit.harness.evaluation import lm_eval_index
from memsplit.tasks import suite, task_yaml

TASK = "task: mine\nmetric_list:\n  - metric: acc\n  - metric: f1\n    rate: false\n"
LM_EVAL = Path(next(iter(lm_eval_index.folders()["hellaswag"]))).parent


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "where", [suite.FOLDER, LM_EVAL / "mmlu/default", LM_EVAL / "arc", LM_EVAL / "bbh/cot_fewshot"]
)
def test_a_file_says_what_lm_eval_reads_in_it(where: Path) -> None:
    paths = sorted(where.rglob("*.yaml"))
    assert paths
    for path in paths:
        assert same(task_yaml.read(path), load_yaml(path, resolve_func=False)), path


def same(ours: object, theirs: object) -> bool:
    """Whether both are the same, but that lm-eval puts a folder before a function's name."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs or (isinstance(theirs, str) and theirs.endswith(f"/{ours}"))


def test_facts_are_those_of_the_metadata(tmp_path: Path) -> None:
    facts = "metadata: {version: 1.0, axis: words, metrics: {acc: right}, chance: 1/3, summary: s, needs: [a, b]}\n"
    folder(tmp_path, _base=f"dataset_kwargs: {{kind: a}}\n{facts}", full=f"include: _base.yaml\n{TASK}")
    folder(tmp_path, plain=f"{TASK.replace('mine', 'plain')}metadata: {{axis: words, chance: 0.2}}\n")
    folder(tmp_path, other=TASK.replace("mine", "other"))
    tasks = suite.read_folder(tmp_path).tasks
    assert (tasks["mine"].axis, tasks["mine"].metrics, tasks["mine"].chance) == ("words", {"acc": "right"}, 1 / 3)
    assert (tasks["mine"].kind, tasks["mine"].summary, tasks["mine"].not_rates) == ("a+b", "s", frozenset({"f1"}))
    assert (tasks["plain"].metrics, tasks["plain"].chance) == ({"acc": "acc", "f1": "f1"}, 0.2)
    assert (tasks["other"].axis, tasks["other"].metrics) == ("other", {})
    assert not tasks["mine"].own
    assert suite.own().tasks["memsplit_recitation"].own


def test_a_group_is_expanded_in_its_order_and_declares_tasks_of_others(tmp_path: Path) -> None:
    group = "group: all\ntask: [b, {task: a, metadata: {pack: p}}, far]\nmetadata: {also_after: {b: [c]}, tasks: "
    folder(tmp_path, all=group + "{far: {axis: words, chance: 1/2}}}\n")
    folder(tmp_path, a=TASK.replace("mine", "a"), b=TASK.replace("mine", "b"))
    folder(tmp_path, c=TASK.replace("mine", "d"), d="group: c\ntask: [d, a]\n")
    found = suite.read_folder(tmp_path).expand("all")
    assert [(spec.task, spec.chance) for spec in found] == [("b", 0), ("d", 0), ("a", 0), ("far", 0.5)]
    assert found[-1].folder is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task: [", ["mine.yaml is not YAML"]),
        ("- task: a", ["mine.yaml holds no mapping, but list"]),
        (f"include: gone.yaml\n{TASK}", ["gone.yaml cannot be read (No such file or directory)"]),
        (f"include: mine.yaml\n{TASK}", ["mine.yaml includes itself"]),
        (f"{TASK}metadata: {{axis: 3}}\n", ["mine.yaml has a bad value: Expected `str`, got `int` - at `$.axis`"]),
        (f"{TASK}metadata: {{chance: a third}}\n", ["chance of mine is 'a third': expected at least 0, below 1"]),
        (f"{TASK}metadata: {{chance: 1}}\n", ["chance of mine is 1"]),
        ("group: g\ntask: [a]\nmetadata: {tasks: {a: {axes: b}}}\n", ["unknown field `axes`"]),
        (TASK.replace("mine", "twice"), ["twice.yaml defines 'twice' a second time"]),
        ("dataset_path: json\n", ["has no task"]),
        ("task: mine\nmetric_list: acc\n", ["mine.yaml has a bad value: Expected `array`, got `str`"]),
        ("group: g\ntask: [[a]]\n", ["mine.yaml has a bad value: Expected"]),
        (f"{TASK}metadata: {{chance: .inf}}\n", ["chance of mine is inf: expected at least 0, below 1"]),
        (f"{TASK}metadata: {{chance: 1e400}}\n", ["chance of mine is '1e400': expected at least 0, below 1"]),
        (f"{TASK}metadata: {{chance: '1e-99999999999'}}\n", ["chance of mine is '1e-99999999999'"]),
        (f"{TASK}metadata: {{axis: ''}}\n", ["mine.yaml has a bad value", "`$.axis`"]),
        (f"{TASK}metadata: {{axis: a/b}}\n", ["mine.yaml has a bad value", "`$.axis`"]),
        (f"{TASK}metadata: {{metrics: {{acc: ''}}}}\n", ["mine.yaml has a bad value", "`$.metrics"]),
        (f"{TASK}metadata: {{metrics: {{acc: z, f1: z}}}}\n", ["mine.yaml gives two metrics of mine the name 'z'"]),
        (f"{TASK}tag: [[a]]\n", ["mine.yaml has a bad value: Expected `str`"]),
        (f"{TASK}dataset_kwargs: 5\n", ["mine.yaml has a bad value: Expected `object`"]),
        (f"include: 5\n{TASK}", ["mine.yaml has a bad value: Expected"]),
        (f"include: [null]\n{TASK}", ["mine.yaml has a bad value: Expected `str`"]),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    folder(tmp_path, mine=text, **({"twice": text} if "twice" in text else {}))
    with pytest.raises(UserError) as caught:
        suite.read_folder(tmp_path)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_that_changes_its_tasks_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, mine=TASK, all="group: all\ntask: [{task: mine, num_fewshot: 3}]\n")
    with pytest.raises(UserError, match="the group 'all' changes num_fewshot of its tasks"):
        suite.read_folder(tmp_path).expand("all")


def test_a_group_that_names_itself_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, one="group: one\ntask: [two]\n", two="group: two\ntask: [one]\n")
    with pytest.raises(UserError, match="the group 'one' names itself"):
        suite.read_folder(tmp_path).expand("one")


def test_files_that_include_too_many_others_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, **{f"f{i}": f"include: f{i + 1}.yaml\ntask: t{i}\n" for i in range(40)}, f40="x: 1\n")
    with pytest.raises(UserError, match=r"includes files more than 20 deep"):
        suite.read_folder(tmp_path)


def test_names_of_two_folders_must_differ(tmp_path: Path) -> None:
    folder(tmp_path, mine=TASK.replace("mine", "memsplit_twins"))
    with pytest.raises(UserError, match="'memsplit_twins' is defined twice"):
        suite.own() | suite.read_folder(tmp_path)
