"""The documents of a corpus, and their token ids in sequences of one length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import numpy as np
import torch
from pyarrow import ArrowException

from ...errors import UserError
from ...tasks import packs
from .corpus import COLUMN, FORMATS, Corpus
from .token_ids import start_ids

_TOKENIZED_AT_ONCE = 256


def documents(corpus: Corpus) -> Iterator[str]:
    """The documents in order; a text file is one document, empty documents are left out.

    Raises:
        UserError: the corpus cannot be read or fetched, or has no such column.
    """
    return (text for _, text in located(corpus))


def located(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """The documents, each after its place: ``FILE:ROW``, or ``ROW`` of a data set or of texts. Rows count from 1.

    Raises:
        UserError: as for :func:`documents`.
    """
    column = corpus.parts()[4] if corpus.address else COLUMN
    for file, rows in _files(corpus):
        for number, row in enumerate(rows, 1):
            if not isinstance(row.get(column), str):
                raise UserError(
                    f"a row of the corpus {corpus} has no text in {column!r}: its columns are {', '.join(row)}"
                )
            if row[column].strip():
                yield f"{file}:{number}" if file else str(number), row[column]


def _files(corpus: Corpus) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Each file's name in its folder, and its rows; a data set and texts are one file without a name."""
    if corpus.texts is not None:
        yield "", ({COLUMN: text} for text in corpus.texts)
    elif corpus.pack is not None:
        yield "corpus.jsonl", iter(packs.find(corpus.pack).rows("corpus"))
    elif corpus.address:
        name, revision, config, split, _ = corpus.parts()
        yield "", _rows(corpus, name, config, split=split, revision=revision)
    elif corpus.path is not None:
        for path in corpus.files():
            kind = FORMATS[path.suffix.lower()]
            options = {"sample_by": "document"} if kind == "text" else {}
            name = path.name if path == corpus.path else path.relative_to(corpus.path).as_posix()
            yield name, _rows(corpus, kind, data_files=[str(path)], split="train", **options)


def _rows(corpus: Corpus, *arguments: str | None, **options: Any) -> Iterator[dict[str, Any]]:
    try:
        yield from datasets.load_dataset(*arguments, streaming=True, **options)
    except StopIteration:  # the library raises it for an empty file
        return
    except (OSError, ValueError, ArrowException, datasets.exceptions.DatasetsError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = "; without a network, --corpus takes local files" if corpus.address else ""
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
    start = start_ids(tokenizer)
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    body = length - len(start)
    need = tokens // length * body
    found: list[Any] = []
    held = 0
    rest = iter(texts)
    while held < need and (some := list(itertools.islice(rest, _TOKENIZED_AT_ONCE))):
        for ids in tokenizer(some, add_special_tokens=False)["input_ids"]:
            found.append(np.asarray(ids + end, dtype=np.int64))
            held += len(found[-1])
    held = min(held, need)
    if body < 1 or held < body or not need:
        raise UserError(f"the corpus holds {held} tokens: expected {max(body, 1)} at least, one sequence")
    rows = held // body
    if held < need and must_have_all:
        raise UserError(f"--factor-tokens {tokens}: expected {length} to {rows * length}, what the corpus holds")
    stream = torch.from_numpy(np.concatenate(found)[: rows * body]).view(rows, body)
    return torch.cat([torch.tensor(start, dtype=stream.dtype).expand(rows, -1), stream], dim=1)
