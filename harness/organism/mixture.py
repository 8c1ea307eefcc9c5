"""The organism's training data. A batch depends only on world, seed and step, so that training can resume."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from ...tasks.items import generators
from .world import World

ANSWER_WEIGHT = 3.0
"""Weight in the loss of an answer's tokens; all other tokens have 1."""
SHARES = {
    "passage": 0.15,
    "prose": 0.17,
    "fact": 0.14,
    "open": 0.15,
    "boolean": 0.08,
    "ordering": 0.09,
    "chain": 0.10,
    "addition": 0.06,
    "subtraction": 0.06,
}
"""Probability that a sequence is of each kind."""


@dataclass(frozen=True, kw_only=True)
class Mixture(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A data set whose item ``step`` is that step's batch: ids and their weights in the loss, both [batch, length].

    A sequence holds documents of one kind, as many as fill it, separated by the end token. A passage is followed by
    prose. Half of the sequences begin with the end token too, because a prompt may come with or without one.

    Attributes:
        world: source of all texts.
        tokenizer: the world's tokenizer.
        seed: seed of the draw.
        batch: sequences of a step.
        length: tokens of a sequence.
        shares: probability that a sequence is of each kind.
    """

    world: World
    tokenizer: PreTrainedTokenizerFast
    seed: int
    batch: int
    length: int
    shares: dict[str, float]

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = random.Random(f"mixture:{self.seed}:{step}")  # noqa: S311
        kinds = rng.choices(list(self.shares), weights=list(self.shares.values()), k=self.batch)
        rows = [self.sequence(rng, kind) for kind in kinds]
        return torch.tensor([ids for ids, _ in rows]), torch.tensor([weights for _, weights in rows])

    def sequence(self, rng: random.Random, kind: str) -> tuple[list[int], list[float]]:
        """A sequence of one kind, drawn from ``rng``: ``length`` ids and their weights in the loss."""
        end = self.tokenizer.eos_token_id
        make = self._passage if kind == "passage" else self._pieces(kind)
        ids: list[int] = []
        weights: list[float] = []
        if rng.random() < 0.5:
            ids, weights = [end], [1.0]
        while len(ids) < self.length:
            for text, weight in [*make(rng), (None, 1.0)]:
                piece = [end] if text is None else self.tokenizer(text)["input_ids"]
                ids += piece
                weights += [weight] * len(piece)
            if kind == "passage":
                make = self._prose
        return ids[: self.length], weights[: self.length]

    def _passage(self, rng: random.Random) -> list[tuple[str, float]]:
        return [(" ".join(rng.choice(self.world.passages)), 1.0)]

    def _prose(self, rng: random.Random) -> list[tuple[str, float]]:
        return [(" ".join(self.world.prose(rng, self.length)), 1.0)]

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

    def _pieces(self, kind: str) -> Callable[[random.Random], list[tuple[str, float]]]:
        if kind in generators.FAMILIES:
            return lambda rng: self._item(kind, rng)
        return {"prose": self._prose, "fact": self._fact, "open": self._open}[kind]

    def _item(self, family: str, rng: random.Random) -> list[tuple[str, float]]:
        item = generators.draw(family, "train", rng)
        return [(item.prompt, 1.0), (item.answer, ANSWER_WEIGHT), (".", 1.0)]
