"""The text of the corpus: sequences to train on, clean text that is not trained on, and text for curvature."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...errors import UserError
from ...tasks import packs
from ...tasks.dedup import NEAR, RUN, Overlap, asked
from ..models import documents
from ..models.corpus import Corpus
from .passages import Row

CLEAN = 128
"""The most clean texts, and as many sequences of text after the training's are searched for them."""
LEAST = 16
"""The fewest tokens of a clean text; the most are those of a sequence."""
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
    """The first ``n`` sequences of a corpus, and clean text of the documents that begin after them.

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
    places, texts = itertools.tee(without)
    located = zip(
        (place for place, _ in places), documents.tokenized((text for _, text in texts), tokenizer), strict=True
    )
    rows = documents.sequences((ids for _, ids in located), tokenizer, n, length)
    told = f", without {without.passed_over} documents that a passage stands in" if without.passed_over else ""
    if len(rows) < n:
        raise UserError(
            f"the corpus {corpus} is too short: {len(rows)} sequences of {length} tokens{told}, expected {n} to train "
            "on, and further documents: fewer --steps, or a larger --corpus"
        )
    pieces = [list(_pieces(row[start:].tolist(), tokenizer)) for row in rows]
    clean = _clean(_spare(located, tokenizer, length - start), pieces)
    if len(clean) < len(packs.SPLITS):
        raise UserError(
            f"the corpus {corpus} is too short: {len(clean)} documents after the {n} sequences to train on give a "
            f"clean text{told}, expected {len(packs.SPLITS)} at least"
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    enough = pieces[: CALIBRATION // length + 1]
    calibration = [{"text": text} for row in enough for ids in row if (text := tokenizer.decode(ids)).strip()]
    return Text(sequences=rows[order], clean=clean, corpus=calibration, passed_over=without.passed_over)


class _Without:
    """The documents of a corpus that hold no passage, each after its place; counts the others."""

    def __init__(self, corpus: Corpus, passages: Sequence[Row]) -> None:
        self._corpus = corpus
        self._overlap = Overlap(passages)
        self.passed_over = 0

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for place, text in documents.located(self._corpus):
            if any(share >= NEAR for share in self._overlap.shares({"text": text}).values()):
                self.passed_over += 1
            else:
                yield place, text


def _pieces(ids: list[int], tokenizer: Any) -> Iterator[list[int]]:
    """The parts of documents in a sequence, without the end tokens between them."""
    for is_end, piece in itertools.groupby(ids, lambda i: i == tokenizer.eos_token_id):
        if not is_end:
            yield list(piece)


def _spare(located: Iterator[tuple[str, np.ndarray]], tokenizer: Any, length: int) -> Iterator[Row]:
    """The beginnings of the documents that are left, of ``length`` tokens at most, and no end token."""
    left = CLEAN * length
    while left > 0 and (one := next(located, None)):
        place, ids = one[0], one[1][:length]
        left -= len(ids)
        piece = next(_pieces(ids.tolist(), tokenizer), [])
        if len(piece) >= LEAST:
            yield {"document": place, "ids": piece, "text": tokenizer.decode(piece)}


def _clean(spare: Iterator[Row], trained: Iterable[list[list[int]]]) -> list[Row]:
    """Rows of spare documents; none twice, and none of whose runs of tokens half are trained on.

    The first half is of the dev split, the second of test.
    """
    found = list({asked(row): row for row in itertools.islice(spare, CLEAN)}.values())
    runs = [_runs(row["ids"]) for row in found]
    wanted = set().union(*runs)
    met = {run for pieces in trained for ids in pieces for run in _runs(ids) & wanted}
    kept = [row for row, of_row in zip(found, runs, strict=True) if len(of_row & met) < NEAR * len(of_row)]
    return [{"id": f"clean-{n}", "split": packs.SPLITS[2 * n // len(kept)], **row} for n, row in enumerate(kept)]


def _runs(ids: list[int]) -> set[tuple[int, ...]]:
    return set(zip(*(ids[k:] for k in range(RUN)), strict=False))
