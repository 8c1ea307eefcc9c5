"""The documents of a corpus, and their token ids in sequences of one length."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import numpy as np
import torch
from pyarrow import ArrowException

from ...errors import UserError, unknown
from ...tasks import packs
from . import local_files
from .corpus import COLUMN, Corpus
from .token_ids import start_ids

log = logging.getLogger("memsplit")
_TOKENIZED_AT_ONCE = 256


def documents(corpus: Corpus) -> Iterator[str]:
    """The documents in order; a text file is one document, rows without text are left out and counted.

    Raises:
        UserError: the corpus cannot be read or fetched, or has no such column.
    """
    return (text for _, text in located(corpus))


def located(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """The documents, each after its place: ``FILE:NUMBER``, or ``NUMBER`` of a data set or of texts.

    The number is that of the line in JSON lines and CSV, else that of the row, from 1 on. How many rows had no text,
    because it was null, missing or white space, is logged.

    Raises:
        UserError: as for :func:`documents`.
    """
    column, empty = corpus.parts()[4] if corpus.address else corpus.column, 0
    try:
        for file, rows in _files(corpus):
            inside = f"{file}, " if corpus.path and corpus.path.name != file else ""
            for at, (unit, number, row) in enumerate(rows):
                text = _text(row, column, f"{corpus}, {inside}{unit} {number}", first=not at)
                if text.strip():
                    yield f"{file}:{number}" if file else str(number), text
                else:
                    empty += 1
    finally:
        if empty:
            _tell(str(corpus), empty)


def _text(row: Any, column: str, where: str, *, first: bool) -> str:
    """The text of a row, ``""`` for null; only the first row must have the column.

    Raises:
        UserError: the row has something else in the column, or is no object and no text.
    """
    if isinstance(row, str) and column == COLUMN:
        return row
    if not isinstance(row, dict):
        raise UserError(f"the corpus {where}: expected an object with {column!r}, found {type(row).__name__}")
    if column not in row and first:
        raise UserError(f"the corpus {where}: {unknown('column', column, map(str, row))}")
    text = row.get(column)
    if not isinstance(text, str | None):
        raise UserError(f"the corpus {where}: expected text in {column!r}, found {type(text).__name__}")
    return text or ""


@functools.cache
def _tell(corpus: str, empty: int) -> None:
    """Log how many rows of a corpus had no text; once, however often it is read."""
    log.info("the corpus %s: %d rows without text are left out", corpus, empty)


def _files(corpus: Corpus) -> Iterator[tuple[str, Iterable[local_files.Located]]]:
    """Each file's name in its folder, and its rows; a data set and texts are one file without a name."""
    if corpus.texts is not None:
        yield "", _numbered({COLUMN: text} for text in corpus.texts)
    elif corpus.pack is not None:
        yield "corpus.jsonl", _numbered(packs.find(corpus.pack).rows("corpus"))
    elif corpus.address:
        yield "", _numbered(_data_set(corpus))
    elif corpus.path is not None:
        for path in corpus.files():
            name = path.name if path == corpus.path else path.relative_to(corpus.path).as_posix()
            yield name, local_files.read(path)


def _numbered(rows: Iterable[Any]) -> Iterator[local_files.Located]:
    return (local_files.Located("row", number, row) for number, row in enumerate(rows, 1))


def _data_set(corpus: Corpus) -> Iterator[dict[str, Any]]:
    """The rows of a data set of the hub.

    Raises:
        UserError: it cannot be fetched or read.
    """
    name, revision, config, split, _ = corpus.parts()
    try:
        yield from datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
    except StopIteration:  # the library raises it for an empty file
        return
    except (OSError, ValueError, ArrowException, datasets.exceptions.DatasetsError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = "; without a network, --corpus takes local files"
        raise UserError(f"the corpus {corpus} cannot be read: {reason}{hint}") from error


def blocks(
    texts: Iterable[str], tokenizer: Any, tokens: int, length: int, *, must_have_all: bool = True
) -> torch.Tensor:
    """``tokens // length`` full sequences [n, length]: the texts one after the other, an end token after each.

    Each sequence begins as every text does (see ``token_ids.start_ids``), and its start counts as its tokens.

    Args:
        texts: documents; those that hold fewer tokens give as many sequences as they fill, unless all are a must.
        tokenizer: turns them into ids.
        tokens: how many are wanted.
        length: of a sequence, in tokens.
        must_have_all: refuse documents that hold fewer tokens.

    Raises:
        UserError: the documents hold fewer tokens than they must, or do not fill one sequence.
    """
    rows = sequences(tokenized(texts, tokenizer), tokenizer, tokens // length, length)
    if len(rows) < tokens // length and must_have_all:
        raise UserError(f"--factor-tokens {tokens}: expected {length} to {rows.numel()}, what the corpus holds")
    return rows


def tokenized(texts: Iterable[str], tokenizer: Any) -> Iterator[np.ndarray]:
    """The token ids of each text, with an end token after them if the tokenizer has one."""
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    rest = iter(texts)
    while some := list(itertools.islice(rest, _TOKENIZED_AT_ONCE)):
        for ids in tokenizer(some, add_special_tokens=False)["input_ids"]:
            yield np.asarray(ids + end, dtype=np.int64)


def sequences(texts: Iterator[np.ndarray], tokenizer: Any, n: int, length: int) -> torch.Tensor:
    """The first ``n`` sequences of :func:`blocks`, or fewer where texts are too short.

    Args:
        texts: ids of each; no more are taken than fill the sequences.
        tokenizer: says what a sequence begins with.
        n: how many are wanted.
        length: of a sequence, in tokens.

    Raises:
        UserError: the texts do not fill one sequence.
    """
    start = start_ids(tokenizer)
    body = length - len(start)
    need = n * body
    found: list[np.ndarray] = []
    held = 0
    while held < need and (ids := next(texts, None)) is not None:
        found.append(ids)
        held += len(ids)
    held = min(held, need)
    if body < 1 or held < body or not need:
        raise UserError(f"the corpus holds {held} tokens: expected {max(body, 1)} at least, one sequence")
    rows = held // body
    stream = torch.from_numpy(np.concatenate(found)[: rows * body]).view(rows, body)
    return torch.cat([torch.tensor(start, dtype=stream.dtype).expand(rows, -1), stream], dim=1)
