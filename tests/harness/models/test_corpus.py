"""The text that curvature is collected from: its order, its name, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from memsplit.errors import UserError
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.models import corpus, documents, loading, model_table
from memsplit.harness.models.loading import LoadedModel
from memsplit.model_edits.curvature.store import FactorStore

TEXTS = ["the first document " * 40, "and another one " * 40, "a third of them " * 60]


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
        places = [place for place, _ in documents.located(corpus.find(str(folder), "world"))]
        assert places == ["a.txt:1", "b.jsonl:1", "deep/c.parquet:1"]
        assert next(documents.located(corpus.find("pack", "olmo-tiny")))[0] == "corpus.jsonl:1"

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
        import datasets

        calls: list[Any] = []

        def load(*args: Any, **kwargs: Any) -> list[dict[str, str]]:
            calls.append((args, kwargs))
            return [{"body": "x"}, {"body": ""}]

        monkeypatch.setattr(datasets, "load_dataset", load)
        assert list(documents.documents(corpus.find("o/n@r1:c:s:body", "world"))) == ["x"]
        assert calls == [(("o/n", "c"), {"split": "s", "revision": "r1", "streaming": True})]
        with pytest.raises(UserError, match="has no text in 'text': its columns are body"):
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
        for name, content in (("a.jsonl", b"{no json"), ("b.parquet", b"PAR1"), ("c.jsonl", b'{"body": "x"}\n')):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(UserError, match=r"cannot be read|no text in"):
                list(documents.documents(corpus.find(str(tmp_path / name), "world")))

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
