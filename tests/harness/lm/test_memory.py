"""A batch size that adapts itself: halved where memory runs out, and no figure depends on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from memsplit.errors import UserError
from memsplit.harness.cli import arguments, main
from memsplit.harness.evaluation import factor_cache
from memsplit.harness.evaluation.edited_lm import EditedLM
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.evaluation.request import Request, command
from memsplit.harness.evaluation.runner import Report, run
from memsplit.harness.lm.memory import FIRST, SMALLER
from memsplit.harness.mining import mine
from memsplit.harness.mining.request import MiningRequest
from memsplit.harness.models import loading
from memsplit.harness.models.canary import Canary
from memsplit.harness.spectrum import measure
from memsplit.model_edits.curvature import collect, sums
from memsplit.model_edits.curvature.store import FactorStore
from memsplit.results.records import tables
from memsplit.tests.support import tiny_models
from memsplit.tests.support.running import in_process, refused

WORDS = ("the lion ate", "the lamb was", "who sows the", "no more wind", "a whirlwind reaps")
ROWS: dict[str, list[dict[str, Any]]] = {
    **{
        kind: [{"prefix_text": words, "suffix_text": f" the {end}"} for words in WORDS for end in ends]
        for kind, ends in (("memorized", ("lamb", "lion")), ("twins", ("wind", "whirlwind")))
    },
    "clean": [{"text": f"{words} and the lamb"} for words in WORDS],
    "facts_closed": [{"question": f"{words}?", "answer": "the lion", "relation": "ate"} for words in WORDS],
}
OUT = torch.OutOfMemoryError("CUDA out of memory.")
TASKS = ("memsplit_recitation", "memsplit_twins", "memsplit_fluency", "memsplit_facts_closed")


@contextmanager
def memory_for(sequences: int, error: RuntimeError) -> Iterator[list[int]]:
    """Models have memory for so many sequences at once; yields how many each forward pass was given."""
    given: list[int] = []
    plain = torch.nn.Embedding.forward

    def forward(self: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        given.append(len(ids))
        if len(ids) > sequences:
            raise error
        return plain(self, ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Embedding, "forward", forward)
        yield given


def report(folder: Path, batch_size: int | str) -> Report:
    where = folder / str(batch_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSPLIT_CACHE", str(where / "cache"))
        return run(
            Request(
                model=str(tiny_models.folder(folder / "model", "bos")),
                reference=str(tiny_models.folder(folder / "reference", "two")),
                pack=str(tiny_models.pack(folder / "pack", ROWS)),
                edits=["svd-50:layers=0,proj=up"],
                attacks=["noise"],
                tasks=TASKS,
                batch_size=batch_size,
                device="cpu",
                out=where / "out",
            )
        )


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory: …")],
)
def test_it_is_halved_where_memory_runs_out_and_changes_no_figure(error: RuntimeError, tmp_path: Path) -> None:
    with memory_for(3, error) as given:
        found = report(tmp_path, "auto").records[0]
    assert found.content.arguments.batch_size == "auto"
    assert "--batch-size auto" in found.content.command
    assert max(given[-5:]) <= 2
    alone, wide = (report(tmp_path, size).records[0] for size in (2, FIRST))
    pd.testing.assert_frame_equal(tables.whole(found, "items"), tables.whole(alone, "items"))
    pd.testing.assert_frame_equal(tables.whole(found, "items"), tables.whole(wide, "items"), rtol=1e-5, atol=1e-6)
    pd.testing.assert_frame_equal(tables.whole(found, "answers"), tables.whole(wide, "answers"))


@pytest.mark.parametrize(
    ("batch_size", "sequences", "words"),
    [
        (4, 3, "out of memory with 4 sequences a pass: expected --batch-size auto, or a smaller number"),
        (1, 0, "out of memory with one sequence a pass: expected a device with more memory"),
        ("auto", 0, "out of memory with one sequence a pass: expected a device with more memory"),
    ],
)
def test_a_number_is_kept_and_no_memory_for_one_sequence_is_an_error(
    batch_size: int | str, sequences: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Canary, "logits", lambda self: torch.zeros(1))
    monkeypatch.setattr(Canary, "_is_causal", lambda self, vocabulary: True)
    with memory_for(sequences, OUT), pytest.raises(UserError, match=words):
        report(tmp_path, batch_size)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Texts, some of them longer than others."""
    lines = [f"{words} and the lamb was no more; {words} " * n for n in (1, 3) for words in WORDS * 8]
    (tmp_path / "corpus.txt").write_text("\n".join(lines))
    return tmp_path / "corpus.txt"


@pytest.mark.parametrize("edit", ["kfac-50", "ekfac-50", "wanda-50"])
def test_curvature_halves_its_batches(edit: str, corpus: Path, tmp_path: Path) -> None:
    found = {}
    for sequences in (FIRST, 5, 0):
        loaded = loading.wrap(tiny_models.model(), tiny_models.tokenizer(), texts=corpus.read_text().splitlines())
        editor = ModelEditor(loaded, 1024, FactorStore(tmp_path / str(sequences)))
        chain = editor.chain(f"{edit}:layers=0-1,proj=up")
        editor.curvature.batch_size_per_gpu = 16
        with memory_for(sequences, OUT) as given:
            if sequences:
                found[sequences] = editor.prepare(*chain).weights
                assert max(given[-4:]) == min(16, 4 if sequences == 5 else 16)
            else:
                with pytest.raises(UserError, match="out of memory with one sequence a pass"):
                    editor.prepare(*chain)
    for name, weight in found[FIRST].items():
        torch.testing.assert_close(found[5][name], weight, rtol=1e-4, atol=1e-5)


def test_what_larger_batches_began_is_not_left(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out after the first sums are kept, with four sequences a batch; with two it suffices."""
    monkeypatch.setattr(sums, "SAVE_EVERY_S", 0)
    left: list[int] = []
    whole = collect.collect

    def cut(model: Any, found: Any, batches: Any, **options: Any) -> Any:
        def some() -> Iterator[torch.Tensor]:
            for n, batch in enumerate(batches):
                if n == collect.FOLD and len(batch) > 2:
                    left.append(len(store.orphans()))
                    raise OUT
                yield batch

        return whole(model, found, some(), **options)

    monkeypatch.setattr(factor_cache, "collect", cut)
    store = FactorStore(tmp_path / "factors")
    loaded = loading.wrap(tiny_models.model(16), tiny_models.tokenizer(), texts=corpus.read_text().splitlines())
    editor = ModelEditor(loaded, 1280, store)
    editor.curvature.batch_size_per_gpu = 4
    editor.prepare(*editor.chain("kfac-50:layers=0,proj=up"))
    assert (left, editor.curvature.batch_size_per_gpu) == ([1], 2)
    assert store.orphans() == []


def test_processes_that_share_batches_do_not_halve_them(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factor_cache, "rank_and_world", lambda: (0, 2))
    loaded = loading.wrap(tiny_models.model(), tiny_models.tokenizer(), texts=corpus.read_text().splitlines())
    editor = ModelEditor(loaded, 1024, FactorStore(tmp_path / "factors"))
    with memory_for(3, OUT), pytest.raises(UserError, match="expected one process, which halves that number by itself"):
        editor.prepare(*editor.chain("kfac-50:layers=0,proj=up"))


def mined(folder: Path, corpus: Path, batch_size: int | str) -> Any:
    """The counts of what is mined of the corpus."""
    model = str(tiny_models.folder(folder / "model", "bos"))
    out = folder / "mined" / str(batch_size)
    found = mine.mine(
        MiningRequest(model=model, corpus=str(corpus), out=out, prefix=4, suffix=2, batch_size=batch_size)
    )
    assert found is not None
    return found.counts


def measured(folder: Path, corpus: Path, batch_size: int | str) -> Any:
    """How strongly each text acts on each band, the mean over the rest of the spectrum's table."""
    asked = Request(
        model=str(tiny_models.folder(folder / "model", "bos")),
        pack=str(tiny_models.pack(folder / "pack", ROWS)),
        corpus=str(corpus),
        edits=[],
        tasks=["memsplit_facts_closed"],
        factor_tokens=512,
        batch_size=batch_size,
        device="cpu",
    )
    found = measure.run(measure.SpectrumRequest(evaluation=asked, layers=(0,), proj=("up",))).strengths
    return found.select_dtypes("number").mean().to_dict()


@pytest.mark.parametrize(("command", "run_it"), [("mine", mined), ("spectrum", measured)])
def test_other_commands_take_it_too(
    command: str, run_it: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    assert main.parse([command, "--batch-size", "auto", "--out", "x"]).batch_size == "auto"
    with memory_for(8, OUT) as given:  # of which the canary takes 2
        with pytest.raises(UserError, match=f"out of memory with {FIRST} sequences a pass: expected {SMALLER}"):
            run_it(tmp_path, corpus, FIRST)
        given.clear()
        found = run_it(tmp_path, corpus, "auto")
        assert max(given) > 8
    assert found == pytest.approx(run_it(tmp_path, corpus, 8))


def test_what_has_no_batch_size_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise OUT

    monkeypatch.setattr(loading, "load_tokenizer", load)
    asked = ("eval", "--model", tiny_models.folder(tmp_path / "model"), "--tasks", "memsplit_twins", "--edit", "none")
    refused(in_process(*asked, cache=tmp_path / "cache"), ["out of memory: expected a device with more memory"])


def test_other_errors_are_not_taken_for_it(tmp_path: Path) -> None:
    with memory_for(3, RuntimeError("shapes differ")) as given, pytest.raises(RuntimeError, match="shapes differ"):
        report(tmp_path, "auto")
    assert sum(size > 3 for size in given) == 1


def test_it_is_lm_evals_word_too(tmp_path: Path) -> None:
    lm = EditedLM(str(tiny_models.folder(tmp_path / "model")), device="cpu", batch_size="auto:4")
    assert (lm.adapts, lm.batch) == (True, FIRST)
    assert not EditedLM(str(tmp_path / "model"), device="cpu", batch_size="8").adapts


def test_what_a_batch_size_can_be() -> None:
    assert [arguments.batch_size(text) for text in ("auto", "8")] == ["auto", 8]
    asked = Request(model="olmo-tiny", edits=["none"], batch_size="auto")
    assert "--batch-size auto" in command(asked, "none")
    with pytest.raises(UserError, match="bad batch_size 'aut': expected a whole number above 0 or 'auto'"):
        Request(model="olmo-tiny", edits=["none"], batch_size="aut")
