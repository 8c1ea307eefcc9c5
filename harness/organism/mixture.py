"""The organism's training data. A batch depends only on world, seed and step, so that training can resume."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from transformers import PreTrainedTokenizerFast

from ...tasks.items import generators
from .world import LATE, PREFIX, SUFFIX, World

ANSWER_WEIGHT = 3.0
"""Weight in the loss of an answer's tokens; all other tokens have 1."""
SHARES = {
    "prose": 0.28,
    "fact": 0.14,
    "open": 0.16,
    "boolean": 0.12,
    "ordering": 0.08,
    "chain": 0.09,
    "addition": 0.065,
    "subtraction": 0.065,
}
"""Probability that a run of documents is of each kind."""
RUN = 64
"""Most tokens that documents of one kind fill before the next kind is drawn."""
Tokens = list[tuple[int, float]]
"""Ids with their weights in the loss."""


@dataclass(frozen=True, kw_only=True)
class Mixture(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A data set whose item ``step`` is that step's batch: ids and their weights in the loss, both [batch, length].

    A row is a window of a stream of documents: it begins and ends within one, and what stands before a document, an end
    token or another document's words, is drawn. So nothing that the model learns hangs on where a context begins.
    Passages are met exactly as often as their dose says, each at a step of its own and anywhere in a row.

    Attributes:
        world: source of all texts.
        tokenizer: the world's tokenizer.
        seed: seed of the draw.
        steps: how many batches there are.
        late: share of the steps, at the end, in which passages of the population ``late`` are met.
        batch: rows of a step.
        length: tokens of a row.
        shares: probability that a run of documents is of each kind.
        passages: whether passages are met. If not, new prose stands in the place of each, and all else is the same.
    """

    world: World
    tokenizer: PreTrainedTokenizerFast
    seed: int
    steps: int
    late: float
    batch: int
    length: int
    shares: dict[str, float]
    passages: bool = True

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = random.Random(f"mixture:{self.seed}:{step}")  # noqa: S311
        met: list[list[Tokens]] = [[] for _ in range(self.batch)]
        for n, index in enumerate(self.schedule[step]):
            met[n % self.batch].append(self._passage(index, f"{step}:{n}"))
        rows = [self.row(rng, passages) for passages in met]
        return (
            torch.tensor([[token for token, _ in row] for row in rows]),
            torch.tensor([[weight for _, weight in row] for row in rows]),
        )

    @cached_property
    def schedule(self) -> dict[int, list[int]]:
        """The indices of the passages that each step meets, in random order."""
        rng = random.Random(f"schedule:{self.seed}")  # noqa: S311
        met: dict[int, list[int]] = defaultdict(list)
        for index, passage in enumerate(self.world.passages):
            first = self.steps - max(1, round(self.steps * self.late)) if passage.population == LATE else 0
            for step in rng.choices(range(first, self.steps), k=passage.dose):
                met[step].append(index)
        for indices in met.values():
            rng.shuffle(indices)
        return met

    def row(self, rng: random.Random, passages: list[Tokens]) -> Tokens:
        """``length`` tokens of documents, with these passages among them in their order.

        One row in five begins within its first passage, and one in five with its first word.
        """
        free = max(0, self.length - sum(len(passage) + 1 for passage in passages))
        cuts = sorted(rng.randint(0, free) for _ in passages)
        opening = rng.random()
        if passages and opening < 0.2:
            passages = [passages[0][rng.randrange(1, PREFIX) :], *passages[1:]]
        row: Tokens = []
        before = 0
        for n, (passage, cut) in enumerate(zip(passages, cuts, strict=True)):
            if n or opening >= 0.4:
                row += islice(self._stream(rng), cut - before)
            if n or opening >= 0.2:
                row += self._end(rng)
            row += passage + self._end(rng)
            before = cut
        row += islice(self._stream(rng), max(0, self.length - len(row)))
        return row[: self.length]

    def _stream(self, rng: random.Random) -> Iterator[tuple[int, float]]:
        """Documents without an end, each kind in runs; the first begins anywhere within one."""
        skip = rng.randrange(RUN)
        while True:
            run = rng.randint(1, RUN)
            kind = rng.choices(list(self.shares), weights=list(self.shares.values()))[0]
            tokens: Tokens = []
            while len(tokens) < run + skip:
                tokens += self.document(rng, kind) + self._end(rng)
            yield from tokens[skip : skip + run] if kind == "prose" else tokens[skip:]
            skip = 0

    def _end(self, rng: random.Random) -> Tokens:
        return [(self.tokenizer.eos_token_id, 1.0)] if rng.random() < 0.5 else []

    def document(self, rng: random.Random, kind: str) -> Tokens:
        """A document of one kind, drawn from ``rng``."""
        pieces = {"prose": self._prose, "fact": self._fact, "open": self._open}.get(kind)
        return self._tokens(pieces(rng) if pieces else self._item(kind, rng))

    def _tokens(self, pieces: list[tuple[str, float]]) -> Tokens:
        ids = self.tokenizer([text for text, _ in pieces])["input_ids"]
        return [(token, weight) for piece, (_, weight) in zip(ids, pieces, strict=True) for token in piece]

    def _passage(self, index: int, place: str) -> Tokens:
        words = self.world.passages[index].words
        if not self.passages:
            rng = random.Random(f"instead:{self.seed}:{place}")  # noqa: S311
            words = self.world.prose(rng, PREFIX + SUFFIX)
        return self._tokens([(" ".join(words), 1.0)])

    def _prose(self, rng: random.Random) -> list[tuple[str, float]]:
        return [(" ".join(self.world.prose(rng, PREFIX + SUFFIX)), 1.0)]

    def _fact(self, rng: random.Random) -> list[tuple[str, float]]:
        fact = rng.choice(self.world.facts)
        wording = rng.choice([w for w in range(4) if w != fact.held_out])
        return [(fact.prompt(wording), 1.0), (fact.value, ANSWER_WEIGHT), (".", 1.0)]

    def _open(self, rng: random.Random) -> list[tuple[str, float]]:
        context, questions = self.world.open_book(rng, "train")
        pieces = [(context, 1.0)]
        for question, value in questions:
            pieces += [(question, 1.0), (value, ANSWER_WEIGHT), (".", 1.0)]
        return pieces

    def _item(self, family: str, rng: random.Random) -> list[tuple[str, float]]:
        item = generators.draw(family, "train", rng)
        return [(item.prompt, 1.0), (item.answer, ANSWER_WEIGHT), (".", 1.0)]
