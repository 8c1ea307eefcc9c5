"""Other people's files as packs, by the command: what each format becomes."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from memsplit.harness.cli import main
from memsplit.tasks import documents, packs

Rows = list[dict[str, Any]]


def words(name: str, n: int = 30) -> str:
    """A text of words of its own."""
    return " ".join(f"{name}{i}" for i in range(n))


def write(path: Path, rows: Any, *, lines: bool = True) -> Path:
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def imported(folder: Path, *words_: str | Path, code: int = 0) -> dict[str, Rows]:
    """Import, check that nothing is wrong with the pack, and return its files."""
    assert main.main(["pack", "import", *map(str, words_), "--out", str(folder)]) == code
    assert main.main(["pack", "check", str(folder)]) == 0
    return {path.stem: packs.Pack((folder,)).rows(path.stem) for path in folder.glob("*.jsonl")}


def source_rows(n: int) -> Rows:
    """Rows as the source work has them on disk: without ids and splits, two of each document."""
    return [
        {
            "prefix_len": 64,
            "suffix_len": 48,
            "prefix_text": words(f"in{i}-"),
            "suffix_text": f" {words(f'out{i}-')}",
            "prefix_ids": [*range(1000 * i, 1000 * i + 64)],
            "suffix_ids": [*range(1000 * i + 64, 1000 * i + 112)],
            "doc_index": i // 2,
            "start": 7 * i,
            "corpus": "c4",
            "seed": 0,
        }
        for i in range(n)
    ]


class TestPassages:
    def test_the_source_works_rows(self, tmp_path: Path) -> None:
        given = source_rows(12)
        rows = imported(tmp_path / "pack", write(tmp_path / "val.jsonl", [*given, given[3]]))["memorized"]
        assert [row["id"] for row in rows] == [f"memorized-{n}" for n in range(12)]
        for row, before in zip(rows, given, strict=True):
            assert {name: row[name] for name in before if name != "doc_index"} == {
                name: value for name, value in before.items() if name != "doc_index"
            }
            assert (row["document"], row["source"]) == (str(before["doc_index"]), "val.jsonl")
        assert [row["split"] for row in rows].count("dev") == 6
        assert all(rows[n]["split"] == rows[n + 1]["split"] for n in range(0, 12, 2))

    def test_its_quotes(self, tmp_path: Path) -> None:
        given = [
            {
                "id": 4717 + n,
                "author": "A",
                "prefix": words(f"a{n}-"),
                "target_suffix": " " + words(f"b{n}-"),
                "topic": "t",
            }
            for n in range(4)
        ]
        rows = imported(tmp_path / "pack", write(tmp_path / "q.jsonl", given), "--as", "quotes")["quotes"]
        assert [(row["id"], row["prefix_text"], row["suffix_text"]) for row in rows] == [
            (str(row["id"]), row["prefix"], row["target_suffix"]) for row in given
        ]
        assert {row["author"] for row in rows} == {"A"}

    def test_ids_alone(self, tmp_path: Path) -> None:
        given = [{"prefix_ids": row["prefix_ids"], "suffix_ids": row["suffix_ids"]} for row in source_rows(4)]
        rows = imported(tmp_path / "pack", write(tmp_path / "x.jsonl", given))["memorized"]
        assert [{name: row[name] for name in given[0]} for row in rows] == given
        assert {row["prefix_text"] + row["suffix_text"] for row in rows} == {""}

    @pytest.mark.parametrize("named", ["train_prefix.npy", "train_suffix.npy", "both"])
    def test_the_extraction_benchmarks_pair(self, tmp_path: Path, named: str) -> None:
        ids = np.arange(600, dtype=np.uint16).reshape(6, 100)
        for part, array in (("prefix", ids[:, :50]), ("suffix", ids[:, 50:]), ("preprefix", ids)):
            np.save(tmp_path / f"train_{part}.npy", array)
        files = ["train_prefix.npy", "train_suffix.npy"] if named == "both" else [named]
        rows = imported(tmp_path / "pack", *(tmp_path / file for file in files))["memorized"]
        assert [[*row["prefix_ids"], *row["suffix_ids"]] for row in rows] == ids.tolist()
        assert {len(row["prefix_ids"]) for row in rows} == {50}
        told = packs.manifest(tmp_path / "pack").provenance["imported"]["memorized"]
        assert sorted(told["files"]) == ["train_prefix.npy", "train_suffix.npy"]
        whole = imported(tmp_path / "whole", tmp_path / "train_preprefix.npy", "--prefix", "30", "--suffix", "20")
        assert [row["prefix_ids"] + row["suffix_ids"] for row in whole["memorized"]] == ids[:, :50].tolist()

    def test_texts_are_cut_by_words(self, tmp_path: Path) -> None:
        given: list[Any] = [{"text": f"  {words(f't{n}-', 20)}\n"} for n in range(4)] + [words("s", 6), {"text": "one"}]
        rows = imported(
            tmp_path / "pack", write(tmp_path / "t.jsonl", given), "--prefix", "8", "--suffix", "4", "--seed", "3"
        )["memorized"]
        assert [len(row["prefix_text"].split()) for row in rows] == [8, 8, 8, 8, 4]
        assert [len(row["suffix_text"].split()) for row in rows] == [4, 4, 4, 4, 2]
        for row, one in zip(rows, given, strict=False):
            text = one if isinstance(one, str) else one["text"]
            assert text.startswith(row["prefix_text"] + row["suffix_text"])
            assert row["suffix_text"][0] == " "

    def test_the_seed_decides_the_halves(self, tmp_path: Path) -> None:
        file = write(tmp_path / "t.jsonl", [{"text": words(f"t{n}-")} for n in range(20)])
        splits = []
        for n, seed in enumerate((0, 0, 1)):
            rows = imported(tmp_path / str(n), file, "--seed", str(seed))["memorized"]
            splits.append([row["split"] for row in rows])
            assert splits[-1].count("dev") == 10
        assert splits[0] == splits[1] != splits[2]

    def test_near_duplicates_share_a_half(self, tmp_path: Path) -> None:
        texts = [words(f"t{n}-") for n in range(6)]
        rows = imported(tmp_path / "pack", write(tmp_path / "t.jsonl", [*texts, *(f"{text} more" for text in texts)]))
        split = [row["split"] for row in rows["memorized"]]
        assert split[:6] == split[6:]

    def test_by_hash_documents_are_taken_apart(self, tmp_path: Path) -> None:
        given = [{**row, "doc_index": 1} for row in source_rows(8)]
        file = write(tmp_path / "val.jsonl", given)
        assert {row["split"] for row in imported(tmp_path / "a", file, code=1)["memorized"]} == {"dev"}
        rows = imported(tmp_path / "b", file, "--split-by", "hash")["memorized"]
        assert [row["split"] for row in rows].count("dev") == 4

    def test_a_models_tokens_cut_and_spell(self, tmp_path: Path) -> None:
        model = byte_model(tmp_path / "model")
        given = [{"text": "h\u00e9llo world, and so on"}, {"ids": [*b"the lion is"]}]
        rows = imported(
            tmp_path / "pack", write(tmp_path / "t.jsonl", given), "--model", model, "--prefix", "6", "--suffix", "5"
        )["memorized"]
        assert [(row["prefix_text"], row["suffix_text"]) for row in rows] == [
            ("h\u00e9llo", " worl"),
            ("the li", "on is"),
        ]
        assert "prefix_ids" not in rows[0]
        assert (tmp_path / "pack" / "tokenizer.json").exists()
        assert packs.Pack((tmp_path / "pack",)).encode("the li") == rows[1]["prefix_ids"]


def byte_model(folder: Path) -> Path:
    """A folder with a tokenizer of bytes, whose ids are the bytes, and a configuration."""
    alphabet = {chr(b) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174 else "": b for b in range(256)}
    shifted = [b for b in range(256) if not (33 <= b <= 126 or 161 <= b <= 172 or b >= 174)]
    vocabulary = {sign: b for sign, b in alphabet.items() if sign} | {chr(256 + n): b for n, b in enumerate(shifted)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": 256}))
    return folder


class TestFacts:
    def test_questions_with_wrong_answers(self, tmp_path: Path) -> None:
        """TOFU's rows."""
        given = [
            {
                "question": f"Who wrote the book {n}?",
                "answer": f"The author of it is A{n}x.",
                "paraphrased_answer": "It is.",
                "perturbed_answer": [f"The author of it is {b}{n}y." for b in "BCDEF"],
            }
            for n in range(24)
        ]
        made = imported(tmp_path / "pack", write(tmp_path / "forget01_perturbed.json", given))
        closed, choice = made["facts_closed"], made["facts_choice"]
        assert [row["question"] for row in closed] == [f"Question: {row['question']}\nAnswer:" for row in given]
        assert [row["answer"] for row in closed] == [row["answer"] for row in given]
        assert {row["relation"] for row in closed} == {"forget01_perturbed"}
        for row, before in zip(choice, given, strict=True):
            assert len({*row["choices"]}) == 4
            assert row["choices"][row["gold"]] == before["answer"]
            assert {*row["choices"]} <= {before["answer"], *before["perturbed_answer"]}
        assert len({row["gold"] for row in choice}) == 4

    def test_questions_alone_and_prompts_to_continue(self, tmp_path: Path) -> None:
        """MUSE's rows: a list in one file; ``gt`` continues ``prompt``."""
        asked = write(tmp_path / "qa.json", [{"question": "What is it?", "answer": n} for n in (3, 4)], lines=False)
        assert [row["answer"] for row in imported(tmp_path / "a", asked)["facts_closed"]] == ["3", "4"]
        given = [{"prompt": words(f"p{n}-"), "gt": words(f"g{n}-")} for n in range(4)]
        rows = imported(tmp_path / "b", write(tmp_path / "verbmem.json", given, lines=False))["memorized"]
        assert [(row["prefix_text"], row["suffix_text"]) for row in rows] == [
            (row["prompt"], row["gt"]) for row in given
        ]

    def test_counterfact(self, tmp_path: Path) -> None:
        given = [
            {
                "case_id": n,
                "requested_rewrite": {
                    "prompt": "The mother tongue of {} is",
                    "relation_id": "P103",
                    "target_new": {"str": f"New{n}", "id": "Q1"},
                    "target_true": {"str": f"Old{n}", "id": "Q2"},
                    "subject": f"Person {n}",
                },
                "paraphrase_prompts": ["x"],
            }
            for n in range(6)
        ]
        made = imported(tmp_path / "pack", write(tmp_path / "counterfact.json.gz", given, lines=False))
        rows = made["facts_closed"]
        assert [(row["id"], row["question"], row["answer"], row["relation"]) for row in rows] == [
            (str(n), f"The mother tongue of Person {n} is", f"Old{n}", "P103") for n in range(6)
        ]
        for n, row in enumerate(made["facts_choice"]):
            assert {f"Old{n}", f"New{n}"} < {*row["choices"]} <= {f"New{n}", *(f"Old{m}" for m in range(6))}
            assert row["choices"][row["gold"]] == f"Old{n}"
        assert [row["split"] for row in rows].count("dev") == 3

    def test_a_table_with_fields_that_are_named(self, tmp_path: Path) -> None:
        path = tmp_path / "table.parquet"
        pd.DataFrame(
            {"q": ["a is", "b is"], "answers": [{"text": ["x", "X"]}, {"text": ["y"]}], "kind": ["r", "s"]}
        ).to_parquet(path)
        places = ["--field", "question=q", "--field", "answer=answers.text", "--field", "relation=kind"]
        rows = imported(tmp_path / "pack", path, *places)["facts_closed"]
        assert [(row["question"], row["answer"], row.get("aliases") or [], row["relation"]) for row in rows] == [
            ("a is", "x", ["X"], "r"),
            ("b is", "y", [], "s"),
        ]


class TestSplits:
    @pytest.mark.parametrize(
        ("names", "more", "expected"),
        [
            (["train", "validation"], [], ["dev", "test"]),
            (["train", "validation", "test"], [], ["dev", "dev", "test"]),
            (["Train", "held-out"], [], ["dev", "test"]),
            (["forget", "retain"], ["--split", "forget=dev", "--split", "retain=test"], ["dev", "test"]),
        ],
    )
    def test_names_in_the_rows(self, tmp_path: Path, names: list[str], more: list[str], expected: list[str]) -> None:
        given = [{"text": words(f"t{n}-"), "split": name} for n, name in enumerate(names)]
        rows = imported(tmp_path / "pack", write(tmp_path / "t.jsonl", given), *more)["memorized"]
        assert [row["split"] for row in rows] == expected

    def test_names_of_the_files(self, tmp_path: Path) -> None:
        files = [write(tmp_path / f"{name}.jsonl", [{"text": words(name)}]) for name in ("train", "validation")]
        assert [row["split"] for row in imported(tmp_path / "both", *files)["memorized"]] == ["dev", "test"]
        many = write(tmp_path / "train.jsonl", [{"text": words(f"t{n}-")} for n in range(4)])
        assert [row["split"] for row in imported(tmp_path / "one", many)["memorized"]].count("dev") == 2


def test_ids_and_other_fields(tmp_path: Path) -> None:
    """Whole numbers become text, ids that are there twice are made anew, and a field of several types is text."""
    mixed = [1, "one", None, 2.5, {"a": 1}]
    given = [
        {"id": n, "text": words(f"t{n}-"), "page": page, "year": 1990 + n, "tags": [n]} for n, page in enumerate(mixed)
    ]
    rows = imported(tmp_path / "a", write(tmp_path / "a.jsonl", given))["memorized"]
    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row.get("page") for row in rows] == ["1", "one", None, "2.5", None]
    assert [row["year"] for row in rows] == [1990, 1991, 1992, 1993, 1994]
    assert "tags" not in rows[0]
    rows = imported(tmp_path / "b", write(tmp_path / "b.jsonl", [{**row, "id": 7} for row in given]))["memorized"]
    assert [(row["id"], row["given_id"]) for row in rows] == [(f"memorized-{n}", "7") for n in range(5)]


def test_a_packs_own_rows_may_have_fields_of_several_types(tmp_path: Path) -> None:
    given = [
        {"id": str(n), "split": "test", "text": words(f"t{n}-"), "page": page, "pack": "theirs"}
        for n, page in enumerate([1, "one", [2], 2**70])
    ]
    packs.write(tmp_path, {"clean": given}, packs.Manifest())
    rows = documents.pack_rows(kind="clean", pack=str(tmp_path))["test"]
    assert [(row["page"], row["pack"]) for row in rows] == [
        (page, str(tmp_path)) for page in ("1", "one", "[2]", str(2**70))
    ]


def test_files_are_added_to_a_pack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memorized = write(tmp_path / "memorized.jsonl", source_rows(4))
    clean = write(tmp_path / "clean.csv", [], lines=True)
    clean.write_text("text,n\n" + "".join(f'"{words(f"c{n}-")}",{n}\n' for n in range(4)))
    made = imported(tmp_path / "pack", memorized)
    both = imported(tmp_path / "pack", clean)
    assert both["memorized"] == made["memorized"]
    assert [row["text"] for row in both["clean"]] == [words(f"c{n}-") for n in range(4)]
    assert {*packs.manifest(tmp_path / "pack").provenance["imported"]} == {"memorized", "clean"}
    corpus = write(tmp_path / "c.json", [words(f"corpus{n}-") for n in range(3)], lines=False)
    assert len(imported(tmp_path / "pack", corpus, "--as", "corpus")["corpus"]) == 3
    capsys.readouterr()
    assert main.main(["pack", "import", str(clean), "--out", str(tmp_path / "pack")]) == 2
    assert "clean.jsonl is there: expected another --out, or --force" in capsys.readouterr().err
    assert imported(tmp_path / "pack", clean, "--force", "--seed", "1")["memorized"] == made["memorized"]


def test_the_choices_of_questions_that_are_replaced_go_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would carry the ids of the new questions."""
    old = [
        {"question": f"Who is {n}?", "answer": f"A{n}", "perturbed_answer": [f"{b}{n}" for b in "BCD"]}
        for n in range(4)
    ]
    new = [{"question": f"Where is {n}?", "answer": f"L{n}"} for n in range(4)]
    files = {name: write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("old", old), ("new", new))}
    pack = tmp_path / "pack"
    assert {*imported(pack, files["old"])} == {"facts_closed", "facts_choice"}
    assert {*imported(pack, files["new"], "--as", "facts_open")} == {"facts_closed", "facts_choice", "facts_open"}
    (pack / "facts_closed.jsonl").unlink()
    assert main.main(["pack", "import", str(files["new"]), "--out", str(pack)]) == 2
    assert "facts_choice.jsonl is there: expected another --out, or --force" in capsys.readouterr().err
    made = imported(pack, files["new"], "--force")
    assert {*made} == {"facts_closed", "facts_open"}
    assert {row["answer"] for row in made["facts_closed"]} == {row["answer"] for row in new}
    assert {*packs.manifest(pack).provenance["imported"]} == {"facts_closed", "facts_open"}


TEXTS = (("one lion", "two lambs"), ("sow wind", "reap rain"))


def test_a_pack_keeps_its_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which spells the ids of the files that are there."""
    model, pack = byte_model(tmp_path / "model"), tmp_path / "pack"
    ids = [write(tmp_path / f"{n}.jsonl", [{"ids": [*t.encode()]} for t in texts]) for n, texts in enumerate(TEXTS)]
    imported(pack, ids[0], "--model", model)
    assert "clean" in imported(pack, ids[1], "--model", model, "--as", "clean")
    (pack / "clean.jsonl").unlink()
    kept = (pack / "tokenizer.json").read_text() + " "
    (pack / "tokenizer.json").write_text(kept)
    again = ["pack", "import", str(ids[1]), "--model", str(model), "--as", "clean", "--out", str(pack)]
    assert main.main(again) == 2
    assert "tokenizer.json is there, and is another tokenizer: expected another --out" in capsys.readouterr().err
    assert not (pack / "clean.jsonl").exists()
    assert main.main([*again, "--force"]) == 0
    assert (pack / "tokenizer.json").read_text() != kept


@pytest.mark.parametrize("blank", [{"content": None}, {"content": " "}])
def test_a_field_that_is_empty_does_not_hide_one_of_another_name(tmp_path: Path, blank: dict[str, Any]) -> None:
    given = [{**blank, "text": words(f"t{n}-")} for n in range(4)] + [{"text": " ", **blank}]
    assert len(imported(tmp_path / "a", write(tmp_path / "a.jsonl", given), "--as", "clean")["clean"]) == 4
    given = [{"text": " ", "content": words(f"t{n}-")} for n in range(4)]
    assert len(imported(tmp_path / "c", write(tmp_path / "c.jsonl", given), "--as", "clean")["clean"]) == 4
    asked = [{"question": f"Who is {n}?", "answer": f"A{n}", "prompt": blank["content"]} for n in range(4)]
    made = imported(tmp_path / "b", write(tmp_path / "b.jsonl", asked), "--as", "facts_closed")
    assert len(made["facts_closed"]) == 4


def test_what_is_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [{"text": words(f"t{n}-")} for n in range(4)] + [{"text": None}, {"text": " "}, {"text": "one"}]
    file = write(tmp_path / "t.jsonl", [*given, given[0]])
    assert main.main(["pack", "import", str(file), "--out", str(tmp_path / "pack"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["left_out"] == {"without text": 2, "too short to cut": 1, "duplicates": 1}
    assert report["files"] == {"memorized": {"dev": 2, "test": 2}}
