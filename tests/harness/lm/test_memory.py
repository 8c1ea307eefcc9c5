"""A batch size that adapts itself: halved where memory runs out, and no figure depends on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from memsplit.errors import UserError
from memsplit.harness.cli import arguments
from memsplit.harness.evaluation.edited_lm import EditedLM
from memsplit.harness.evaluation.request import Request, command
from memsplit.harness.evaluation.runner import Report, run
from memsplit.harness.lm.memory import FIRST
from memsplit.results.records import tables
from memsplit.tests.support import tiny_models

WORDS = ("the lion ate", "the lamb was", "who sows the", "no more wind", "a whirlwind reaps")
ROWS: dict[str, list[dict[str, Any]]] = {
    **{
        kind: [{"prefix_text": words, "suffix_text": f" the {end}"} for words in WORDS for end in ends]
        for kind, ends in (("memorized", ("lamb", "lion")), ("twins", ("wind", "whirlwind")))
    },
    "clean": [{"text": f"{words} and the lamb"} for words in WORDS],
    "facts_closed": [{"question": f"{words}?", "answer": "the lion", "relation": "ate"} for words in WORDS],
}
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


@pytest.mark.parametrize(("batch_size", "sequences"), [(4, 3), ("auto", 0)])
def test_a_number_is_kept_and_no_memory_for_one_sequence_is_an_error(
    batch_size: int | str, sequences: int, tmp_path: Path
) -> None:
    with memory_for(sequences, torch.OutOfMemoryError("CUDA out of memory.")), pytest.raises(torch.OutOfMemoryError):
        report(tmp_path, batch_size)


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
