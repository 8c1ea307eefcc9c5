"""The front door: what ``import memsplit`` offers to a notebook or a script."""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex, overload

import pandas as pd
from rich.console import Console

from ..errors import UserError
from ..results.board import formats, ranking
from ..results.board.table import Board
from ..results.records.record import Record
from ..results.records.schema import Interval
from ..results.records.store import DEFAULT, RecordFilter, Store
from ..results.statistics.compare import Comparison, sides
from ..results.statistics.compare import compare as compare_sides
from ..results.views import frames, terminal
from .common.runtime import quiet
from .evaluation.editing import edited
from .evaluation.request import Request, folder_path
from .evaluation.runner import Report, run

__all__ = ["board", "compare", "edited", "evaluate", "records"]


def evaluate(
    model: str = "olmo-tiny",
    edits: str | Sequence[str] = ("kfac",),
    *,
    suite: str = "memsplit",
    tasks: Sequence[str] = (),
    include_path: Sequence[str | Path] = (),
    split: str = "test",
    limit: int | None = None,
    pack: str | None = None,
    corpus: str | None = None,
    reference: str | None = None,
    attacks: str | Sequence[str] = (),
    factor_tokens: int | None = None,
    batch_size: int | str = 32,
    device: str | None = None,
    dtype: str | None = None,
    parallelize: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dequantize: bool = False,
    chat_template: bool = False,
    seed: int = 0,
    out: str | Path = DEFAULT,
    rescore: bool = False,
    resume: bool = False,
) -> Report:
    """Score a model before and after each edit, on the same items, as ``memsplit-eval`` does.

    Args:
        model: a name of ``memsplit-eval --list-models``, a folder, a GGUF file, or a hub id.
        edits: specs such as ``"kfac-80"``; one alone may be a string.
        suite: the suite of tasks.
        tasks: only these tasks or groups, of the suite or elsewhere; ``*`` in a name stands for any text.
        include_path: folders with tasks and suites of your own, as lm-eval's YAML files.
        split: the part of the items, ``"dev"`` or ``"test"``.
        limit: only the first so many items of each task.
        pack: the probe data: a pack's name, a folder, or several joined by ``+``; by default the model's.
        corpus: calibration data that curvature is collected from; by default the pack's, else the model's.
        reference: a model that never saw the passages, whose code lengths are the floor of memory; by default the model
            table's, and ``"none"`` for none.
        attacks: specs of attacks that each edit is scored after too, such as ``"relearn"``; one alone may be a string.
            ``memsplit.model_edits.registry.DEFAULT_ATTACKS`` are those of the command's ``--attacks``.
        factor_tokens: tokens that curvature is collected from; by default the model's.
        batch_size: sequences in a forward pass; ``"auto"`` for 64, halved wherever the memory does not suffice.
        device: where to compute; CUDA if there is one, else the CPU, by default.
        dtype: the type to compute in; by default the model's, and float32 on a CPU.
        parallelize: spread the model over all devices.
        revision: branch, tag or commit of the model's repository on the hub; its main branch by default.
        trust_remote_code: run Python code that comes with the model or the reference, which nothing checks; a model
            that needs it is refused by default.
        dequantize: make floating weights of quantized ones, of the model and the reference, when they are loaded;
            quantized weights are not edited.
        chat_template: ask by the tokenizer's chat template, as lm-eval's ``apply_chat_template`` does, with examples as
            turns; passages and text whose every token is scored are never put into it.
        seed: of the intervals' resampling.
        out: the folder that records are written to.
        rescore: score again what was scored before with the same weights and items.
        resume: keep the records in ``out`` that an earlier, killed evaluation of the same request wrote.

    Returns:
        A record for each edit; shown as a short table. ``.frame()`` has every metric.

    Raises:
        UserError: the request cannot be met; the message is one line with the remedy.
    """
    request = Request(
        model=model,
        edits=(edits,) if isinstance(edits, str) else edits,
        suite=suite,
        tasks=tasks,
        include_path=include_path,
        split=split,
        limit=limit,
        pack=pack,
        corpus=corpus,
        reference=reference,
        attacks=(attacks,) if isinstance(attacks, str) else attacks,
        factor_tokens=factor_tokens,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        parallelize=parallelize,
        revision=revision,
        trust_remote_code=trust_remote_code,
        dequantize=dequantize,
        chat_template=chat_template,
        seed=seed,
        out=folder_path("out", out),
        rescore=rescore,
        resume=resume,
    )
    with warnings.catch_warnings():
        quiet()
        return run(request)


class Records(list[Record]):
    """Records, oldest first; shown as a short table."""

    @overload
    def __getitem__(self, at: SupportsIndex) -> Record: ...

    @overload
    def __getitem__(self, at: slice) -> Records: ...

    def __getitem__(self, at: SupportsIndex | slice) -> Record | Records:
        return Records(super().__getitem__(at)) if isinstance(at, slice) else super().__getitem__(at)

    def frame(self) -> pd.DataFrame:
        """One row for each edit, axis and metric (see ``results.views.frames.tidy``)."""
        return frames.tidy(self)

    def __repr__(self) -> str:
        return frames.as_text(*self._brief())

    def _repr_html_(self) -> str:
        return frames.as_html(*self._brief())

    def _brief(self) -> tuple[str, pd.DataFrame]:
        return f"{len(self)} records", frames.brief((record.spec, record.summary) for record in self)


class Boards(list[Board]):
    """One leaderboard for each model, set of items and set of attacks; shown as tables."""

    def show(self, *, all_columns: bool = False) -> None:
        """Print the tables, in a notebook as well as on a terminal; with ``all_columns`` every column."""
        console = Console()
        console.print(formats.terminal(self, all_columns, console.width))

    def frame(self) -> pd.DataFrame:
        """One row for each method, then one for each strength, with every figure in full."""
        return formats.frame(self)

    def __repr__(self) -> str:
        return "\n".join(frames.as_text(each.title, self._brief(each)) for each in self) or "no records"

    def _repr_html_(self) -> str:
        return "".join(frames.as_html(each.title, self._brief(each)) for each in self) or "<p>no records</p>"

    @staticmethod
    def _brief(one: Board) -> pd.DataFrame:
        shown = [(str(entry.rank or ""), spec, cells) for entry in one.rows for spec, cells in entry.edits()]
        intervals = [{key: cell for key, cell in cells.items() if isinstance(cell, Interval)} for *_, cells in shown]
        table = frames.brief(zip((spec for _, spec, _ in shown), intervals, strict=True))
        table.insert(0, "rank", [rank for rank, *_ in shown])
        return table


class Comparisons(list[Comparison]):
    """Edits against a first one, item by item; shown as the tables of ``memsplit compare``."""

    def frame(self) -> pd.DataFrame:
        """One row for each edit, axis and metric; ``base`` is the first one's value (see ``frames.compared``)."""
        return frames.compared(self)

    def __repr__(self) -> str:
        return "\n".join(terminal.as_text(terminal.against(each)) for each in self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def records(
    store: str | Path = DEFAULT,
    *,
    model: str | None = None,
    edit: str | None = None,
    suite: str | None = None,
    split: str | None = None,
    fingerprint: str | None = None,
) -> Records:
    """The records of a folder, oldest first.

    Args:
        store: the folder.
        model: only those of this model; ``*`` and ``?`` stand for anything.
        edit: only those whose spec begins so; ``*`` and ``?`` stand for anything.
        suite: only those of this suite.
        split: only those of this part of the items, ``"dev"`` or ``"test"``.
        fingerprint: only those whose suite's fingerprint begins so.

    Raises:
        UserError: a record is damaged, or of a newer schema.
    """
    for name, value in {
        "model": model,
        "edit": edit,
        "suite": suite,
        "split": split,
        "fingerprint": fingerprint,
    }.items():
        if not isinstance(value, str | None):
            raise UserError(f"bad {name} {value!r}: expected a text")
    wanted = RecordFilter(model=model, edit=edit, suite=suite, split=split, fingerprint=fingerprint)
    return Records(Store(folder_path("store", store)).records(wanted))


def board(store: str | Path = DEFAULT) -> Boards:
    """The leaderboards of a folder of records: ``.show()`` prints them, ``.frame()`` has every figure.

    Raises:
        UserError: a record is damaged, or of a newer schema.
    """
    return Boards(ranking.boards(Store(folder_path("store", store)).records()))


def compare(first: str, *others: str, store: str | Path = DEFAULT) -> Comparisons:
    """Compare edits with a first one, on the items that both were scored on, as ``memsplit compare`` does.

    Args:
        first: a record's file, its id or the hash in it, how one of these begins, or its spec; or ``"base"``, the
            unedited model.
        others: records to compare with it; one at least.
        store: the folder of the records.

    Raises:
        UserError: there is no such record, or the records are not of the same items and prompts.
    """
    if not others:
        raise UserError(f"one record {first!r}: expected two or more, or 'base' and one")
    for name in (first, *others):
        if not isinstance(name, str):
            raise UserError(f"bad record {name!r}: expected a text")
    return Comparisons(compare_sides(sides(Store(folder_path("store", store)), [first, *others])))
