"""The text of the corpus: sequences to train on, clean text that is not trained on, and text for curvature."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...errors import UserError
from ...tasks import packs
from ...tasks.dedup import NEAR, RUN, Overlap, asked
from ..models import documents
from ..models.corpus import Corpus
from .passages import Row

CLEAN = 128
"""Sequences after those of the training from each of which a clean text is taken."""
LEAST = 16
"""The fewest tokens of a clean text."""
CALIBRATION = 1_000_000
"""The most tokens of the pack's corpus."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """Text of a corpus in which no passage stands.

    Attributes:
        sequences: [n, length] to train on, in random order.
        clean: rows of ``clean.jsonl``.
        corpus: rows of ``corpus.jsonl``: of the text that is trained on, as it is without passages.
        passed_over: how many documents a passage stands in.
    """

    sequences: torch.Tensor
    clean: list[Row]
    corpus: list[Row]
    passed_over: int


def read(
    corpus: Corpus, passages: Sequence[Row], tokenizer: Any, *, n: int, length: int, start: int, seed: int
) -> Text:
    """The first ``n`` sequences of a corpus, and clean text of those after them.

    Documents that hold a passage, of whatever dose, are passed over (see ``dedup.Overlap``).

    Args:
        corpus: the documents.
        passages: rows of a pack.
        tokenizer: the model's.
        n: sequences to train on.
        length: tokens of each.
        start: how many of these are not of the corpus.
        seed: of their order.

    Raises:
        UserError: the corpus holds too little text, or cannot be read.
    """
    without = _Without(corpus, passages)
    rows = documents.blocks(without, tokenizer, (n + CLEAN) * length, length, must_have_all=False)
    told = f", without {without.passed_over} documents that a passage stands in" if without.passed_over else ""
    if len(rows) < n + len(packs.SPLITS):
        raise UserError(
            f"the corpus {corpus} is too short: {len(rows)} sequences of {length} tokens{told}, expected "
            f"{n + len(packs.SPLITS)} at least, {n} of them to train on: fewer --steps, or a larger --corpus"
        )
    pieces = [list(_pieces(row[start:].tolist(), tokenizer)) for row in rows]
    clean = _clean(pieces[n:], pieces[:n], tokenizer)
    if len(clean) < len(packs.SPLITS):
        raise UserError(f"the corpus {corpus} is too short: no clean text is left after {n} sequences{told}")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    enough = pieces[: min(n, CALIBRATION // length + 1)]
    calibration = [{"text": text} for row in enough for ids in row if (text := tokenizer.decode(ids)).strip()]
    return Text(sequences=rows[:n][order], clean=clean, corpus=calibration, passed_over=without.passed_over)


class _Without:
    """The documents of a corpus that hold no passage; counts the others."""

    def __init__(self, corpus: Corpus, passages: Sequence[Row]) -> None:
        self._corpus = corpus
        self._overlap = Overlap(passages)
        self.passed_over = 0

    def __iter__(self) -> Iterator[str]:
        for text in documents.documents(self._corpus):
            if any(share >= NEAR for share in self._overlap.shares({"text": text}).values()):
                self.passed_over += 1
            else:
                yield text


def _pieces(ids: list[int], tokenizer: Any) -> Iterator[list[int]]:
    """The parts of documents in a sequence, without the end tokens between them."""
    for is_end, piece in itertools.groupby(ids, lambda i: i == tokenizer.eos_token_id):
        if not is_end:
            yield list(piece)


def _clean(spare: Iterable[list[list[int]]], trained: Iterable[list[list[int]]], tokenizer: Any) -> list[Row]:
    """The longest piece of each spare sequence; none twice, and none of whose runs of tokens half are trained on.

    The first half is of the dev split, the second of test.
    """
    longest = (max(pieces, key=len, default=[]) for pieces in spare)
    rows = {asked(row): row for ids in longest if len(ids) >= LEAST for row in [_clean_row(ids, tokenizer)]}
    found = list(rows.values())
    runs = [_runs(row["ids"]) for row in found]
    wanted = set().union(*runs)
    met = {run for pieces in trained for ids in pieces for run in _runs(ids) & wanted}
    kept = [row for row, of_row in zip(found, runs, strict=True) if len(of_row & met) < NEAR * len(of_row)]
    return [{"id": f"clean-{n}", "split": packs.SPLITS[2 * n // len(kept)], **row} for n, row in enumerate(kept)]


def _runs(ids: list[int]) -> set[tuple[int, ...]]:
    return set(zip(*(ids[k:] for k in range(RUN)), strict=False))


def _clean_row(ids: list[int], tokenizer: Any) -> Row:
    return {"ids": ids, "text": tokenizer.decode(ids)}
