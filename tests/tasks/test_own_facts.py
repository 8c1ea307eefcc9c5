"""Facts of a folder of one's own: what is fair, what is refused, and how a broken line is named."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsplit.errors import UserError
from memsplit.harness.cli import main
from memsplit.tasks import packs
from memsplit.tests.support.world_facts import ROWS, Doc, right, says

TOY = {
    "is": {
        "type": "t",
        "wordings": ["one {subject} is", "two {subject} is", "three {subject} is"],
        "context": "{subject} is {answer}.",
    }
}


def toy(folder: Path, facts: Sequence[Doc], relations: object = None) -> packs.Pack:
    lines = [json.dumps({"split": "dev", "relation": "is", **fact}) for fact in facts]
    (folder / "facts.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "relations.json").write_text(json.dumps(TOY if relations is None else relations))
    return packs.Pack((folder,))


def lettered(answers: Sequence[str]) -> list[Doc]:
    return [{"id": f"f{i}", "subject": f"s{i}", "answer": answer} for i, answer in enumerate(answers)]


def mistakable(a: str, b: str) -> bool:
    begins = a.lower().startswith(b.lower()) or b.lower().startswith(a.lower())
    return begins or says(a, b) or says(b, a)


@given(
    st.lists(st.sampled_from(["a", "ab", "b c", "B", "c", "d", "e", "f", "g"]), min_size=3, max_size=12),
    st.lists(st.sampled_from(["a", "b", "d", "x"]), max_size=2),
)
def test_choices_and_contexts_are_fair_or_refused(
    tmp_path_factory: pytest.TempPathFactory, answers: list[str], aliases: list[str]
) -> None:
    first, *others = lettered(answers)
    first["aliases"] = aliases
    others[0]["subject"] += f" with {first['answer']}"
    pack = toy(tmp_path_factory.mktemp("toy"), [first, *others])
    fair = {a for a in answers if not any(mistakable(a, r) for r in right(first))}
    try:
        choice = pack.rows("facts_choice")[0]
        told = pack.rows("facts_counterfactual")[0]
    except UserError as error:
        assert re.search(r"facts\.jsonl, line \d+: expected [23] .*, found [012]$", str(error))
    else:
        assert {*choice["choices"]} - {choice["answer"]} <= fair
        assert told["answer"] in fair
        assert not any(says(told["question"], r) for r in right(first))
        stated = re.findall(r"s\d+(?: with [^.]+)? is ([^.]+)\.", told["question"])
        assert len(stated) == 3
        assert sum(mistakable(a, told["answer"]) for a in stated) == 1


def test_a_kinds_own_file_comes_before_the_facts(tmp_path: Path) -> None:
    pack = toy(tmp_path, lettered("abcdef"))
    assert pack.has("facts_open")
    assert not pack.has("clean")
    assert len(pack.rows("facts_closed")) == 18
    mine = {"id": "x", "split": "dev", "question": "q", "answer": "a", "relation": "r"}
    (tmp_path / "facts_closed.jsonl").write_text(json.dumps(mine) + "\n")
    assert pack.rows("facts_closed") == [mine]
    assert not packs.find("olmo-tiny").has("facts_choice")
    assert packs.find("olmo-tiny+world").rows("facts_choice") == ROWS["facts_choice"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ([], "expected an object, found list"),
        ({"is": []}, "relation 'is': expected an object of 'type', 'wordings' and 'context'"),
        ({"is": {**TOY["is"], "type": 1}}, "expected a str 'type'"),
        ({"is": {**TOY["is"], "wordings": ["{subject} is", "{subject} was"]}}, "expected 3 different wordings, found 2"),
        ({"is": {**TOY["is"], "wordings": ["{subject} is"] * 3}}, "expected 3 different wordings, found 1"),
        ({"is": {**TOY["is"], "wordings": ["{subject} is ", "a {subject}", "b {subject}"]}}, "without a space"),
        ({"is": {**TOY["is"], "wordings": ["{subjct} is", "a {subject}", "b {subject}"]}}, "with {subject}"),
        ({"is": {**TOY["is"], "context": "{answer} it is."}}, "with {subject} and {answer}"),
        ({"has": TOY["is"]}, "facts.jsonl, line 1: unknown relation 'is'"),
    ],
)  # fmt: skip
def test_a_broken_relation_is_named(tmp_path: Path, change: object, words: str) -> None:
    with pytest.raises(UserError) as caught:
        toy(tmp_path, lettered("abcdef"), change).rows("facts_open")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"id": "a"}, "expected a str 'subject'"),
        ({"id": "a", "subject": "s", "answer": "b", "aliases": "c"}, "'aliases' is not a list of texts"),
        ({"id": "a", "subject": "s", "answer": "b", "split": "dve"}, "unknown split 'dve'"),
        ({"id": "a", "subject": "s", "answer": "z", "relation": "iss"}, "did you mean 'is'"),
        ({"id": "a", "subject": "s", "answer": "z", "split": "test"}, "expected 2 facts of its relation and split"),
    ],
)  # fmt: skip
def test_a_broken_fact_is_named(tmp_path: Path, fact: Doc, words: str) -> None:
    with pytest.raises(UserError, match=r"facts\.jsonl, line 7") as caught:
        toy(tmp_path, [*lettered("abcdef"), fact]).rows("facts_open")
    assert words in str(caught.value)


def test_pack_check_names_what_cannot_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy(tmp_path, [*lettered("abcdef"), {"id": "f6", "subject": "s0", "answer": "g"}])
    assert main.main(["pack", "check", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{tmp_path}/facts.jsonl, line 7: asks the same as line 1\n"
    toy(tmp_path, lettered("abc"))
    assert main.main(["pack", "check", str(tmp_path)]) == 1
    few = "line 1: expected 3 other answers of the type 't', found 2"
    assert capsys.readouterr().out == f"{tmp_path}/facts.jsonl: {few}\n"


def test_without_relations_the_facts_are_of_no_use(tmp_path: Path) -> None:
    pack = toy(tmp_path, lettered("abcdef"))
    (tmp_path / "relations.json").unlink()
    with pytest.raises(UserError, match=r"relations\.json cannot be read"):
        pack.rows("facts_closed")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"choices": ["a", "b"], "gold": 2}, "'gold' is not the index"),
        ({"choices": ["a", 2], "gold": 0}, "'choices' is not a list of texts"),
        ({"choices": ["a", "b"]}, "expected a int 'gold'"),
    ],
)
def test_a_broken_choice_is_named(tmp_path: Path, row: Doc, words: str) -> None:
    whole = {"id": "x", "split": "dev", "question": "q", "answer": "a", "relation": "r", **row}
    (tmp_path / "facts_choice.jsonl").write_text(json.dumps(whole) + "\n")
    with pytest.raises(UserError, match=r"facts_choice\.jsonl, line 1") as caught:
        packs.Pack((tmp_path,)).rows("facts_choice")
    assert words in str(caught.value)


# under stock lm-eval
