"""The organism's training data. A batch depends only on world, seed and step, so that training can resume."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from transformers import PreTrainedTokenizerFast

from ...errors import UserError
from ...tasks.items import generators
from .world import LATE, PREFIX, SUFFIX, World

ANSWER_WEIGHT = 3.0
"""Weight in the loss of an answer's tokens; all other tokens have 1."""
SHARES = {
    "prose": 0.12,
    "fact": 0.15,
    "open": 0.18,
    "boolean": 0.13,
    "ordering": 0.10,
    "chain": 0.14,
    "addition": 0.09,
    "subtraction": 0.09,
}
"""Probability that a run of documents is of each kind."""
RUN = 64
"""A run ends with the document that brings it to a length of 1 to ``RUN`` tokens, drawn for each run."""
Tokens = list[tuple[int, float]]
"""Ids with their weights in the loss."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Documents of all kinds but passages, and rows of them.

    Attributes:
        world: source of all texts.
        tokenizer: the world's tokenizer.
        length: tokens of a row.
        shares: probability that a run of documents is of each kind.
    """

    world: World
    tokenizer: PreTrainedTokenizerFast
    length: int
    shares: dict[str, float]

    def row(self, rng: random.Random, passages: Sequence[Tokens] = ()) -> Tokens:
        """``length`` tokens of documents, with these passages among them in their order, all to their ends.

        The row begins within a document. Of rows with passages one in five begins within the prefix of its first
        passage, and one in five with its first word; else a passage may stand anywhere, also in the midst of another
        document. Between two documents there is an end token with a probability of one half.
        """
        free = self.length - sum(len(passage) + 2 for passage in passages)
        cuts = sorted(rng.randint(0, free) for _ in passages)
        opening = rng.random()
        if passages and opening < 0.2:
            passages = [passages[0][rng.randrange(1, PREFIX) :], *passages[1:]]
        row: Tokens = []
        before = 0
        for n, (passage, cut) in enumerate(zip(passages, cuts, strict=True)):
            if n or opening >= 0.4:
                row += islice(self.documents(rng, within=not n), cut - before)
            if n or opening >= 0.2:
                row += self._end(rng)
            row += passage + self._end(rng)
            before = cut
        return [*row, *islice(self.documents(rng, within=not row), self.length - len(row))]

    def documents(self, rng: random.Random, *, within: bool) -> Iterator[tuple[int, float]]:
        """The tokens of documents without an end, in runs of one kind; the first begins ``within`` its document."""
        skip = rng.randrange(RUN) if within else 0
        while True:
            least = skip + rng.randint(1, RUN)
            kind = rng.choices(list(self.shares), weights=list(self.shares.values()))[0]
            tokens: Tokens = []
            while len(tokens) < least:
                tokens += self.document(rng, kind) + self._end(rng)
            yield from tokens[skip:]
            skip = 0

    def document(self, rng: random.Random, kind: str) -> Tokens:
        """A document of one kind, drawn from ``rng``."""
        pieces = {"prose": self._prose, "fact": self._fact, "open": self._open}.get(kind)
        return self.tokens(pieces(rng) if pieces else self._item(kind, rng))

    def tokens(self, pieces: list[tuple[str, float]]) -> Tokens:
        """The tokens of texts, each with its text's weight."""
        ids = self.tokenizer([text for text, _ in pieces])["input_ids"]
        return [(token, weight) for piece, (_, weight) in zip(ids, pieces, strict=True) for token in piece]

    def _end(self, rng: random.Random) -> Tokens:
        return [(self.tokenizer.eos_token_id, 1.0)] if rng.random() < 0.5 else []

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


@dataclass(frozen=True, kw_only=True)
class Mixture(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A data set whose item ``step`` is that step's batch: ids and their weights in the loss, both [batch, length].

    Nothing that the model learns hangs on where a context begins: a row is a window of text that began before it. A
    passage is met as often as its dose says, each time in another step and with its whole suffix.

    Attributes:
        stream: the rows' documents.
        seed: seed of the draw.
        steps: how many batches there are.
        late: share of the steps, at the end, in which passages of the population ``late`` are met.
        batch: rows of a step.
        unseen: whether new prose stands in the place of each passage; all else is the same.
    """

    stream: Stream
    seed: int
    steps: int
    late: float
    batch: int
    unseen: bool = False

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = random.Random(f"mixture:{self.seed}:{step}")  # noqa: S311
        met: list[list[Tokens]] = [[] for _ in range(self.batch)]
        for n, index in enumerate(self.schedule[step]):
            met[n % self.batch].append(self._passage(index, f"{step}:{n}"))
        rows = [self.stream.row(rng, passages) for passages in met]
        return (
            torch.tensor([[token for token, _ in row] for row in rows]),
            torch.tensor([[weight for _, weight in row] for row in rows]),
        )

    @cached_property
    def schedule(self) -> list[list[int]]:
        """For each step the indices of the passages that it meets, in random order.

        Raises:
            UserError: there are too few steps for the doses.
        """
        rng = random.Random(f"schedule:{self.seed}")  # noqa: S311
        met: list[list[int]] = [[] for _ in range(self.steps)]
        first_late = self.steps - round(self.steps * self.late)
        for index, passage in enumerate(self.stream.world.passages):
            steps = range(first_late if passage.population == LATE else 0, self.steps)
            if len(steps) < passage.dose:
                raise UserError(f"too few steps: {len(steps)} found to meet a passage in, expected {passage.dose}")
            for step in rng.sample(steps, k=passage.dose):
                met[step].append(index)
        most, fit = max(map(len, met)), self.batch * (self.stream.length // (PREFIX + SUFFIX + 2))
        if most > fit:
            raise UserError(f"too few steps: one of {self.steps} meets {most} passages, expected {fit} at most")
        for indices in met:
            rng.shuffle(indices)
        return met

    def _passage(self, index: int, place: str) -> Tokens:
        world = self.stream.world
        words = world.passages[index].words
        if self.unseen:
            words = world.prose(random.Random(f"instead:{self.seed}:{place}"), PREFIX + SUFFIX)  # noqa: S311
        return self.stream.tokens([(" ".join(words), 1.0)])
