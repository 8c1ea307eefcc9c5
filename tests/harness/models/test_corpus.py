"""The text that curvature is collected from: its order, its name, and what is refused."""

import csv
import gzip
import json
import logging
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from memsplit.errors import UserError
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.models import corpus, documents, loading, model_table
from memsplit.harness.models.loading import LoadedModel
from memsplit.model_edits.curvature.store import FactorStore

BROKEN = [
    ("a.jsonl", b'{"text": "x"}\n\n{no json', "a.jsonl, line 3: not JSON"),
    ("a.json", b'[{"text": "x"},\n{"text": }]', "a.json, line 2: not JSON"),
    ("b.parquet", b"PAR1", "b.parquet cannot be read"),
    ("c.jsonl", b'{"body": "x"}\n', "line 1: unknown column 'text': expected one of body"),
    ("d.jsonl", b'{"text": "x"}\n{"text": 3}\n', "line 2: expected text in 'text', found int"),
    ("e.json", b"[3]", "row 1: expected an object with 'text', found int"),
    ("f.jsonl", b'{"text": "\\ud800"}\n', "line 1: not Unicode"),
    ("g.jsonl", b'{"text": "\xff"}\n', "line 1: not Unicode"),
    ("h.jsonl.gz", b"no gzip", "h.jsonl.gz cannot be read"),
    ("i.json.gz", gzip.compress(b"[" + b" " * 99999)[:40], "i.json.gz cannot be read"),
    ("j.csv", b"text,n\nx\n", r"line 2: expected 2 columns \(text, n\), found 1"),
    ("k.csv", b"text,text\nx,y\n", "line 1: expected different names of columns"),
    ("l.json", b"[" * 99999, "l.json, line 1: not JSON"),
]
TEXTS = ["the first document " * 40, "and another one " * 40, "a third of them " * 60]


def found(name: str | Path) -> list[str]:
    return list(documents.documents(corpus.find(str(name), "world")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text(TEXTS[0])
    (tmp_path / "b.jsonl").write_text(
        json.dumps({"id": 1, "text": TEXTS[1]}) + "\n" + json.dumps({"id": 2, "text": " "})
    )
    pd.DataFrame({"text": [TEXTS[2]]}).to_parquet(tmp_path / "deep" / "c.parquet")
    (tmp_path / "README.md").write_text("no corpus")
    return tmp_path


class TestCorpus:
    def test_documents_of_a_folder_in_order(self, folder: Path) -> None:
        assert list(documents.documents(corpus.find(str(folder), "world"))) == TEXTS
        assert list(documents.documents(corpus.find(str(folder / "b.jsonl"), "world"))) == [TEXTS[1]]

    def test_documents_say_where_they_stand(self, folder: Path) -> None:
        (folder / ".b.jsonl.partial.jsonl").write_text('{"te')
        (folder / ".git").mkdir()
        (folder / ".git" / "d.txt").write_text("a copy")
        places = [place for place, _ in documents.located(corpus.find(str(folder), "world"))]
        assert places == ["a.txt:1", "b.jsonl:1", "deep/c.parquet:1"]
        assert next(documents.located(corpus.find("pack", "olmo-tiny")))[0] == "corpus.jsonl:1"

    @pytest.mark.parametrize(
        "name", ["a.txt", "a[1].jsonl", "x::y.json", "*?.csv", "b:c.parquet", "d.json.gz", "saved"]
    )
    def test_every_format_gives_the_texts_that_were_written(self, tmp_path: Path, name: str) -> None:
        """Dates stay text, ``NA`` is a text, and the file that is read is the one of that name alone."""
        rows: list[dict[str, Any]] = [
            {"n": n, "text": text} for n, text in enumerate(["2020-01-01", "NA", "a\r\n\x85 \u2028b", 'say "x"'])
        ]
        texts, path = [row["text"] for row in rows], tmp_path / "in::[a-z]" / name
        path.parent.mkdir()
        if name == "saved":
            datasets.Dataset.from_list(rows[2:]).save_to_disk(tmp_path / "saved")
            datasets.DatasetDict(train=datasets.Dataset.from_list(rows)).save_to_disk(tmp_path / "parts")
            assert found(tmp_path / "saved") == texts[2:]
            (tmp_path / "parts").rename(path)
        elif path.suffix == ".txt":
            path.write_bytes("\n".join(texts).encode())
            texts = ["\n".join(texts).replace("\r\n", "\n")]
        elif path.suffix == ".parquet":
            pd.DataFrame(rows).to_parquet(path)
        elif path.suffix == ".csv":
            with path.open("w", encoding="utf-8-sig", newline="") as file:
                csv.writer(file).writerows([["text", "n"], *([row["text"], row["n"]] for row in rows)])
        else:
            lines = "\n\n".join(map(json.dumps, rows)) if ".jsonl" in name else json.dumps(rows, indent=1)
            path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
        for other in ("a1.jsonl", "ab.csv"):
            (path.parent / other).write_text("not this one")
        assert found(path) == texts
        assert corpus.find(str(path), "world").name() != corpus.find(f"{path}:n", "world").name()

    def test_a_folder_of_every_format(self, tmp_path: Path) -> None:
        for name in ("a.jsonl", "b.json", "c.JSONL"):
            (tmp_path / name).write_text(json.dumps({"text": name}))
        (tmp_path / "d.csv").write_text("n,text\n1,d\n")
        datasets.Dataset.from_list([{"text": "e"}]).save_to_disk(tmp_path / "e")
        (tmp_path / "e" / "cache-1.arrow").write_text("what map leaves there")
        (tmp_path / "pack.json").write_text("{}")
        (tmp_path / "loop").symlink_to(tmp_path)
        assert found(tmp_path) == ["a.jsonl", "b.json", "c.JSONL", "d", "e"]

    def test_a_column_of_a_local_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a:b.jsonl"
        path.write_text('{"text": "t", "body": "x"}\n{"body": "y", "text": "t"}\n')
        assert found(f"{path}:body") == ["x", "y"]
        assert found(path) == ["t", "t"]
        assert len({corpus.find(f"{path}{column}", "world").name() for column in ("", ":body", ":other")}) == 3
        assert corpus.find(f"{path}:text", "world").name() == corpus.find(str(path), "world").name()
        with pytest.raises(UserError, match=r"unknown column 'bdy': expected one of body, text; did you mean 'body'"):
            found(f"{path}:bdy")
        with pytest.raises(UserError, match="expected the name of a column"):
            found(f"{path}:")

    def test_rows_without_text_are_counted(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "a.json").write_text(json.dumps([{"text": None}, {"text": "x"}, {"n": 1}, "y", {"text": " "}]))
        with caplog.at_level(logging.INFO, logger="memsplit"):
            assert found(tmp_path / "a.json") == found(tmp_path / "a.json") == ["x", "y"]
        assert [record.getMessage() for record in caplog.records] == [
            f"the corpus '{tmp_path / 'a.json'}': 3 rows without text are left out"
        ]

    @pytest.mark.parametrize("saved", [{"_data_files": [{"filename": "../a.arrow"}]}, {"_data_files": 3}, {}, []])
    def test_a_saved_data_set_names_files_of_its_folder(self, tmp_path: Path, saved: object) -> None:
        (tmp_path / "state.json").write_text(json.dumps(saved))
        with pytest.raises(UserError, match=r"state\.json: expected"):
            found(tmp_path)

    def test_one_part_of_a_saved_data_set_is_named(self, tmp_path: Path) -> None:
        part = datasets.Dataset.from_list([{"text": "x"}])
        datasets.DatasetDict(a=part, b=part).save_to_disk(tmp_path)
        with pytest.raises(UserError, match="has the parts a, b: expected the folder of one"):
            found(tmp_path)
        assert found(tmp_path / "b") == ["x"]

    def test_is_named_by_contents(self, folder: Path) -> None:
        names = [corpus.find(str(folder), "world").name()]
        (folder / "a.txt").write_text("other")
        names.append(corpus.find(str(folder), "world").name())
        (folder / "README.md").write_text("still no corpus")
        assert corpus.find(str(folder), "world").name() == names[1] != names[0]
        (folder / "a.txt").rename(folder / "a.jsonl")
        assert corpus.find(str(folder), "world").name() not in names
        assert corpus.find("o/n", "world").name() == corpus.find("o/n::train:text", "world").name()

    def test_a_data_set_is_loaded_by_its_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[Any] = []

        def load(*args: Any, **kwargs: Any) -> list[dict[str, str]]:
            calls.append((args, kwargs))
            return [{"body": "x"}, {"body": ""}]

        monkeypatch.setattr(datasets, "load_dataset", load)
        assert list(documents.documents(corpus.find("o/n@r1:c:s:body", "world"))) == ["x"]
        assert calls == [(("o/n", "c"), {"split": "s", "revision": "r1", "streaming": True})]
        with pytest.raises(UserError, match=r"'o/n', row 1: unknown column 'text': expected one of body"):
            list(documents.documents(corpus.find("o/n", "world")))
        assert calls[1] == (("o/n", None), {"split": "train", "revision": None, "streaming": True})

    @pytest.mark.parametrize("text", ["", "nothing-here", "a/b/c", "a/b:c:d:e:f", "/no/such/folder"])
    def test_another_name_is_refused(self, text: str) -> None:
        with pytest.raises(UserError, match="unknown corpus"):
            corpus.find(text, "world")

    def test_a_file_that_is_misspelt_is_no_data_set(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        with pytest.raises(UserError, match=r"unknown corpus 'deep/d.parquet' \(did you mean 'c.parquet'\?\)"):
            corpus.find("deep/d.parquet", "world")
        with pytest.raises(UserError, match=r"is no file that ends in"):
            corpus.find("README.md", "world")

    def test_broken_files_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no file that ends in"):
            corpus.find(str(tmp_path), "world")
        for name, content, said in BROKEN:
            (tmp_path / name).write_bytes(content)
            with pytest.raises(UserError, match=said) as raised:
                found(tmp_path / name)
            assert str(tmp_path / name) in str(raised.value)

    def test_blocks_hold_the_documents_one_after_the_other(self, organism: LoadedModel) -> None:
        ids = documents.blocks(TEXTS, organism.tokenizer, 100, 10)
        end = organism.tokenizer.eos_token_id
        expected = [i for text in TEXTS for i in [*organism.tokenizer(text)["input_ids"], end]]
        assert ids.flatten().tolist() == expected[:100]
        assert ids.shape == (10, 10)
        with pytest.raises(UserError, match="what the corpus holds"):
            documents.blocks(TEXTS[:1], organism.tokenizer, 10**6, 10)
        with pytest.raises(UserError, match="the corpus holds 2 tokens: expected 10 at least"):
            documents.blocks(["the"], organism.tokenizer, 100, 10)
        short = documents.blocks(TEXTS[:1], organism.tokenizer, 10**6, 10, must_have_all=False)
        assert 0 < short.numel() < 10**6

    def test_another_corpus_gives_other_factors(self, organism: LoadedModel, folder: Path, tmp_path: Path) -> None:
        store, found = FactorStore(tmp_path / "store"), []
        for name in (None, str(folder)):
            entry = model_table.resolve("olmo-tiny", None, name)
            loaded = loading.LoadedModel(
                entry=entry, model=organism.model, tokenizer=organism.tokenizer, weights=organism.weights
            )
            editor = ModelEditor(loaded, 256, store)
            found.append(editor.prepare(*editor.chain("kfac-80")).weights_hash)
        assert found[0] != found[1]
        assert len(store.entries()) == 2
