"""Rows in the shape of the hub's data sets, for the tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memsplit.harness.evaluation import hub_tasks
from memsplit.tasks import suite

HUB = [part for part in suite.own().expand("memsplit_paper") if not part.own and not part.note]
N = 8


def choices(i: int) -> dict[str, list[str]]:
    return {"text": [f"{word} {i}" for word in ("red", "a green one", "blue", "no")], "label": list("ABCD")}


Row = Callable[[int], dict[str, Any]]
SCIENCE: Row = lambda i: {"question": f"What is {i} ?", "choices": choices(i), "answerKey": "ABCD"[i % 4]}  # noqa: E731
BBH: Row = lambda i: {"input": f"not True and {i} is", "target": "False"}  # noqa: E731
LETTERS = "ABCDEFGHIJ"
DATA: dict[str, dict[str, tuple[str, Row]]] = {
    "mandarjoshi/trivia_qa": {
        "rc.nocontext": (
            "train validation",
            lambda i: {"question": f"who is {i}", "answer": {"aliases": [f"n{i}", "Walk under"]}},
        )
    },
    "google-research-datasets/nq_open": {
        "nq_open": ("train validation", lambda i: {"question": f"who is {i}", "answer": [f"n{i}", "baker"]})
    },
    "aps/super_glue": {
        "boolq": ("train validation", lambda i: {"question": f"is {i}", "passage": f"{i} is .", "label": i % 2})
    },
    "SaylorTwift/bbh": {
        part.task.removeprefix("bbh_cot_fewshot_"): ("test", BBH) for part in HUB if "bbh" in part.task
    },
    "openai/gsm8k": {
        "main": (
            "train test",
            lambda i: {"question": f"{i + 11} + 4 =", "answer": f"so\n#### {i + 15 if i % 2 or i >= N else 61}"},
        )
    },
    "TIGER-Lab/MMLU-Pro": {
        "default": (
            "test validation",
            lambda i: {
                "question": f"{i} + 1 =",
                "options": list(map(str, range(10))),
                "answer": LETTERS[i + 1],
                "cot_content": f"A: Let's think step by step. The answer is ({LETTERS[i + 1]}).",
                "category": "math",
            },
        )
    },
    "allenai/winogrande": {
        "winogrande_xl": (
            "train validation",
            lambda i: {"sentence": f"A met B and _ ate {i}.", "option1": "A", "option2": "B", "answer": str(1 + i % 2)},
        )
    },
    "allenai/openbookqa": {
        "main": ("train validation test", lambda i: {**SCIENCE(i), "question_stem": f"The {i} is"}),
    },
    "baber/piqa": {
        "plain_text": (
            "train validation",
            lambda i: {"goal": f"open {i}", "sol1": "push", "sol2": "leave it", "label": i % 2},
        )
    },
    "Rowan/hellaswag": {
        "default": (
            "train validation",
            lambda i: {
                "activity_label": "Walk",
                "ctx_a": f"He is at {i}.",
                "ctx_b": "he",
                "endings": choices(i)["text"],
                "label": str(i % 4),
            },
        )
    },
    "allenai/ai2_arc": {name: ("train validation test", SCIENCE) for name in ("ARC-Easy", "ARC-Challenge")},
}
"""A few rows of each data set, with the columns, configurations and splits that lm-eval's tasks name."""


def write(folder: Path, names: list[str]) -> None:
    for name in names:
        card = ["---", "configs:"]
        for config, (splits, row) in DATA[name].items():
            card += [f"- config_name: {config}", "  data_files:"]
            for split in splits.split():
                path = Path(config) / f"{split}.jsonl"
                card += [f"  - split: {split}", f"    path: {path}"]
                (folder / name / config).mkdir(parents=True, exist_ok=True)
                rows = map(row, range(N, 2 * N) if split == "train" else range(N))
                (folder / name / path).write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / name / "README.md").write_text("\n".join([*card, "---", ""]))


def write_arithmetic(folder: Path) -> None:
    for part in HUB:
        if part.task.startswith("arithmetic_"):
            config = hub_tasks.index([part]).task_index[part.task].cfg
            assert config is not None
            address = config["dataset_kwargs"]["data_files"]["validation"].removeprefix("hf://datasets/")
            (folder / address).parent.mkdir(parents=True, exist_ok=True)
            rows = [{"context": f"Q: What is {i + 11} plus 4?\n\nA:", "completion": f" {i + 15}"} for i in range(N)]
            (folder / address).write_text("".join(json.dumps(row) + "\n" for row in rows))
