"""Perplexity as a pooled mean, packs that name a broken line."""

import json
import math
import re
from pathlib import Path

import pytest

from memsplit.errors import UserError
from memsplit.tasks import packs, scoring, suite


def test_perplexity_weighs_tokens_not_items() -> None:
    items = [(2.0, 1), (3.0, 9)]
    assert scoring.exp_mean(items) == pytest.approx(math.exp(0.5))


def test_the_shipped_pack_is_whole() -> None:
    pack = packs.find("olmo-tiny")
    for kind in ("memorized", "twins", "clean", "facts_closed", "facts_open", "corpus"):
        rows = pack.rows(kind)
        assert rows
        texts = [json.dumps({k: v for k, v in row.items() if k not in ("id", "split")}) for row in rows]
        assert len(set(texts)) == len(texts)
    for kind in ("memorized", "twins"):
        rows = pack.rows(kind)
        assert len(rows) >= 200
        assert all((len(r["prefix_ids"]), len(r["suffix_ids"])) == (64, 48) for r in rows)
        assert {r["split"] for r in rows} == {"dev", "test"}


def test_no_memorized_passage_stands_in_the_corpus_or_the_clean_text() -> None:
    pack = packs.find("olmo-tiny")
    text = "\n".join(row["text"] for kind in ("corpus", "clean") for row in pack.rows(kind))
    for row in pack.rows("memorized"):
        assert row["suffix_text"] not in text
        assert " ".join(row["prefix_text"].split()[:16]) not in text


def test_packs_make_up_for_what_the_first_has_not(tmp_path: Path) -> None:
    (tmp_path / "clean.jsonl").write_text(json.dumps({"id": "mine", "split": "dev", "text": "t"}) + "\n")
    both = packs.find(f"{tmp_path}+olmo-tiny")
    assert both.name == f"{tmp_path.name}+olmo-tiny"
    assert [row["id"] for row in both.rows("clean")] == ["mine"]
    assert both.rows("memorized") == packs.find("olmo-tiny").rows("memorized")
    assert both.families == {"boolean", "ordering", "chain", "addition", "subtraction"}
    with pytest.raises(UserError, match=r"unknown pack 'olmo-tny'.*did you mean 'olmo-tiny'"):
        packs.find(f"{tmp_path}+olmo-tny")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "Expected `object`, got `array`"),
        ('{"families": [1]}', "Expected `str`, got `int` - at `$.families[0]`"),
        ('{"famillies": []}', "did you mean 'families'"),
        ('{"version": 1}', "Expected `str`, got `int` - at `$.version`"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "pack.json").write_text(text)
    with pytest.raises(UserError, match=r"pack\.json") as caught:
        packs.manifest(tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object, found list"),
        ('{"id": "a"}', "expected a str 'split'"),
        (json.dumps({"id": "a", "split": "dev", "ids": ["x"], "text": "t"}), "not a list of token ids"),
        (json.dumps({"id": "a", "split": "dve", "ids": [1], "text": "t"}), "unknown split 'dve'"),
        (
            json.dumps({"id": "a", "split": "dev", "prefix_ids": [1], "text": "t"}),
            "'prefix_ids' and 'suffix_ids', or neither",
        ),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    good = json.dumps({"id": "a", "split": "dev", "ids": [1], "text": "t"})
    (tmp_path / "clean.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(UserError, match=r"clean\.jsonl, line 2") as caught:
        packs.Pack((tmp_path,)).rows("clean")
    assert words in str(caught.value)


@pytest.mark.parametrize(("group", "pack"), [("memsplit", "olmo-tiny"), ("memsplit_world", "world")])
def test_a_group_is_the_tasks_that_its_pack_has(root: Path, group: str, pack: str) -> None:
    """Those of passages and prose only where the pack has a tokenizer, for stock lm-eval hands out text alone."""
    text = (root / f"tasks/suites/memsplit/{group}.yaml").read_text()
    listed = re.findall(r"^  - (?:{task: )?(\w+)", text, re.MULTILINE)
    found = packs.find(pack)
    spelled = (packs.SHIPPED / pack / "tokenizer.json").exists()
    has = [p for p in suite.own().expand("memsplit") if (found.has(p.kind) if p.kind else p.family in found.families)]
    assert listed == [p.task for p in has if spelled or p.kind not in (*packs.PASSAGES, "clean")]


def test_every_task_of_the_suite_has_its_yaml(root: Path) -> None:
    texts = [path.read_text() for path in (root / "tasks/suites/memsplit").glob("*.yaml")]
    named = {found[1] for text in texts if (found := re.search(r"^task: (\w+)$", text, re.MULTILINE))}
    assert named == {part.task for part in suite.own().expand("memsplit")}
