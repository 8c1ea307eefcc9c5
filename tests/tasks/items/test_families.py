"""Items for any model: parts that never overlap, nothing that the surface tells, prompts that decide."""

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from lm_eval.tasks import TaskManager
from tokenizers import Regex, pre_tokenizers

from memsplit.errors import UserError
from memsplit.tasks import documents, packs, suite
from memsplit.tasks.items import arithmetic, families, generators, logic
from memsplit.tasks.items.generators import Item

WORLD = [part for part in suite.own().expand("memsplit_world") if part.family]
CHANCE = {part.family: part.chance for part in WORLD}


@pytest.mark.parametrize("family", CHANCE)
def test_items_are_distinct_seeded_balanced_and_in_their_split(family: str) -> None:
    levels = list(families.FAMILIES[family])
    assert len(levels) >= 2
    n = 50 * len(levels)
    found = {split: list(families.distinct(family, split, n)) for split in ("train", "dev", "test")}
    assert found["test"] == list(families.distinct(family, "test", n))
    assert found["train"] != list(families.distinct(family, "train", n, seed=1))
    for split, items in found.items():
        assert {generators.split_of(item.prompt) for item in items} == {split}
        assert Counter(item.level for item in items) == dict.fromkeys(levels, 50)
    prompts = [item.prompt for items in found.values() for item in items]
    assert len(set(prompts)) == 3 * n
    assert all(re.fullmatch(r"(?!.*  )[A-Z0-9][ -~]*[.?]", prompt) for prompt in prompts)


def surface(items: Sequence[Item], learnt: Sequence[Item]) -> Iterator[tuple[str, list[int]]]:
    """What rules that do not read would choose."""
    often = Counter(item.answer for item in learnt)
    yield "first", [0 for _ in items]
    yield "most frequent answer", [max(range(len(i.choices)), key=lambda k: often[i.choices[k]]) for i in items]
    yield "longest", [max(range(len(i.choices)), key=lambda k: len(i.choices[k])) for i in items]
    yield "last mentioned", [max(range(len(i.choices)), key=lambda k: i.prompt.rfind(i.choices[k])) for i in items]
    yield "first mentioned", [min(range(len(i.choices)), key=lambda k: i.prompt.find(i.choices[k])) for i in items]
    yield "most mentioned", [max(range(len(i.choices)), key=lambda k: i.prompt.count(i.choices[k])) for i in items]
    yield "bag of words", bag_of_words(items, learnt)


def bag_of_words(items: Sequence[Item], learnt: Sequence[Item]) -> list[int]:
    """Naive Bayes over the words of the prompt, numbers included, for the right answer's place."""
    places = range(len(items[0].choices))
    counts = {k: Counter(w for i in learnt if i.gold == k for w in words(i)) for k in places}
    known = set().union(*counts.values())
    logs = {k: {w: math.log((c[w] + 1) / (c.total() + len(known))) for w in known} for k, c in counts.items()}
    return [max(places, key=lambda k: sum(logs[k].get(w, 0.0) for w in words(i))) for i in items]


def words(item: Item) -> list[str]:
    return re.findall(r"\w+", item.prompt)


@pytest.mark.parametrize("family", logic.FAMILIES)
def test_the_surface_does_not_tell(family: str) -> None:
    items, learnt = [list(families.distinct(family, "train", 2000, seed)) for seed in (0, 1)]
    chance = CHANCE[family]
    assert {len(item.choices) for item in items} == {round(1 / chance)}
    noise = math.sqrt(chance * (1 - chance) / 2000)
    for place in range(round(1 / chance)):
        assert np.mean([item.gold == place for item in items]) == pytest.approx(chance, abs=4 * noise), place
    for rule, chosen in surface(items, learnt):
        right = [item.gold == k for item, k in zip(items, chosen, strict=True)]
        assert np.mean(right) == pytest.approx(chance, abs=4 * noise), rule
        for level in families.FAMILIES[family]:
            of_level = [r for item, r in zip(items, right, strict=True) if item.level == level]
            assert np.mean(of_level) == pytest.approx(chance, abs=8 * noise), (rule, level)


def test_quantifiers_do_not_tell_what_follows() -> None:
    items, learnt = [list(families.distinct("syllogism", "train", 2000, seed)) for seed in (0, 1)]
    yes: Counter[str] = Counter()

    def quantifiers(item: Item) -> str:
        return " ".join(sorted(re.findall(r"All|No\b|Some|not", item.prompt)) + re.findall(r"that (\w+)", item.prompt))

    for item in learnt:
        yes[quantifiers(item)] += 1 - 2 * item.gold
    right = [(yes[quantifiers(item)] > 0) == (item.answer == "Yes") for item in items]
    assert np.mean(right) == pytest.approx(0.5, abs=0.045)


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    manager = TaskManager(include_path=str(suite.FOLDER), include_defaults=False)
    loaded: dict[str, Any] = manager.load(["memsplit_world"])["tasks"]
    for task in loaded.values():
        task.build_all_requests(limit=8)
    return loaded


def test_every_prompt_shows_the_form_and_ends_where_the_answer_begins(tasks: dict[str, Any]) -> None:
    for part in WORLD:
        task = tasks[part.task]
        assert len(task.eval_docs) % len(families.FAMILIES[part.family]) == 0
        shown = task.dataset["train"]
        assert {generators.split_of(prompt) for prompt in shown["prompt"]} == {"train"}
        assert set(shown["level"]) == set(families.FAMILIES[part.family])
        assert len(set(shown["gold"])) >= min(3, len(shown[0]["choices"]))
        examples = "".join(f"Question: {s['prompt']}\nAnswer: {s['answer']}\n" for s in shown)
        for request in task.instances:
            context, continuation = request.args
            assert context == f"{examples}Question: {request.doc['prompt']}\nAnswer:"
            line_end = "\n" if part.axis == "arithmetic" else ""
            assert continuation == f" {request.doc['choices'][request.idx]}{line_end}"


GPT_2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
CL100K = pre_tokenizers.Split(
    Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    behavior="isolated",
)


@pytest.mark.parametrize("split", [GPT_2, CL100K], ids=["gpt-2", "cl100k"])
def test_a_line_end_decides_an_answer_under_any_tokenizer(split: Any) -> None:
    """Tokens never cross these pieces: the answer is in the same pieces as sent and as shown in an example."""

    def pieces(text: str) -> list[str]:
        return [piece.replace("Ċ", "\n").replace("Ġ", " ") for piece, _ in split.pre_tokenize_str(text)]

    asked = documents.question({"prompt": "What is 3 + 9?"})
    for answer in ("7", "12", "1234", "98765"):
        line = documents.answer_line({"answer": answer})
        as_sent = pieces(asked + line)[len(pieces(asked)) :]
        as_shown = pieces(asked + line + asked)[len(pieces(asked)) :][: len(as_sent)]
        assert as_sent == as_shown
        assert as_sent[-1] == "\n"
    assert not documents.answer_line({"answer": "123"}).startswith(documents.answer_line({"answer": "12"}))


def test_cl100k_has_one_piece_for_a_full_stop_and_a_line_end() -> None:
    assert [piece for piece, _ in CL100K.pre_tokenize_str("12.\nQ")] == ["12", ".\n", "Q"]


def test_the_world_packs_families_are_the_suites() -> None:
    listed = [family for axis in (arithmetic, logic) for family in axis.FAMILIES]
    assert list(packs.manifest(packs.SHIPPED / "world").families) == listed == [p.family for p in WORLD]
    assert not {*generators.FAMILIES} & {*listed}


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UserError, match="unknown split 'tset'"):
        documents.generated(family="add", n=4, split="tset")
