"""The training data: sequences of the corpus, and the same with passages at random places in them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from ...errors import UserError


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is trained on.

    Attributes:
        steps: updates.
        batch: sequences of an update.
        length: tokens of a sequence.
        start: how many of these every sequence begins with (see ``token_ids.start_ids``); no passage covers them.
    """

    steps: int
    batch: int
    length: int
    start: int

    @property
    def sequences(self) -> int:
        """Sequences of the whole training."""
        return self.steps * self.batch

    @property
    def tokens(self) -> int:
        """Tokens of the whole training."""
        return self.sequences * self.length


def size(
    passages: Sequence[Sequence[int]],
    doses: Sequence[int],
    *,
    steps: int | None,
    share: float,
    batch: int,
    length: int,
    start: int,
) -> Size:
    """The size of a training in which every passage is met as often as its dose, once a step at most.

    Args:
        passages: their ids.
        doses: of each.
        steps: as given; by default as many as make ``share`` of the tokens passages, or more if the doses need more.
        share: of the tokens.
        batch: sequences of a step.
        length: tokens of a sequence.
        start: tokens that a sequence begins with.

    Raises:
        UserError: a passage does not fit into a sequence, or the doses into the steps.
    """
    longest = max(map(len, passages))
    if longest > length - start:
        raise UserError(
            f"--length {length}: expected {longest + start} at least, the longest passage"
            + (" and what a text begins with" if start else "")
        )
    fit = (length - start) // longest * batch
    by_room = math.ceil(sum(doses) / fit)
    least = max(*doses, by_room)
    tokens = sum(dose * len(passage) for dose, passage in zip(doses, passages, strict=True))
    chosen = steps or max(least, math.ceil(tokens / share / (batch * length)))
    if chosen < least:
        reason = f"a step holds {fit} passages, and {sum(doses)} are met" if by_room == least else "the highest dose"
        raise UserError(f"--steps {steps}: expected {least} at least: {reason}")
    return Size(steps=chosen, batch=batch, length=length, start=start)


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The batches of a training, with the passages and without them. A batch depends on its step and the seed alone.

    Where a passage is planted, it covers as many tokens of the corpus; all else is the same.

    Attributes:
        sequences: of the corpus, [steps · batch, length].
        passages: ids of each passage.
        doses: how often each is met.
        size: of the training.
        seed: of the places.
    """

    sequences: torch.Tensor
    passages: Sequence[Sequence[int]]
    doses: Sequence[int]
    size: Size
    seed: int

    def batch(self, step: int, *, planted: bool) -> torch.Tensor:
        """The ids [batch, length] of a step."""
        ids = self.sequences[step * self.size.batch : (step + 1) * self.size.batch].clone()
        for row, place, index in self.places(step) if planted else ():
            passage = self.passages[index]
            ids[row, place : place + len(passage)] = torch.tensor(passage, dtype=ids.dtype)
        return ids

    def places(self, step: int) -> list[tuple[int, int, int]]:
        """The passages of a step: (sequence of the batch, first token, passage) of each.

        The passages of a step are shared out evenly among its sequences. Those of one sequence stand in it in random
        order, at places drawn from all that leave room for the others.
        """
        rng = random.Random(f"places:{self.seed}:{step}")  # noqa: S311
        met = self.schedule[step]
        rows = rng.sample(range(self.size.batch), self.size.batch)
        found = []
        for n, row in enumerate(rows):
            indices = met[n :: self.size.batch]
            free = self.size.length - self.size.start - sum(len(self.passages[i]) for i in indices)
            place = self.size.start
            for cut, index in zip(sorted(rng.randint(0, free) for _ in indices), indices, strict=True):
                found.append((row, place + cut, index))
                place += len(self.passages[index])
        return found

    @cached_property
    def schedule(self) -> list[list[int]]:
        """For each step the indices of the passages that it meets, in random order.

        Each passage takes random ones of the steps that have the fewest, the highest dose first; so that every step
        has as many passages as any other, to within one.
        """
        rng = random.Random(f"schedule:{self.seed}")  # noqa: S311
        met: list[list[int]] = [[] for _ in range(self.size.steps)]
        order = rng.sample(range(len(self.passages)), len(self.passages))
        for index in sorted(order, key=lambda i: -self.doses[i]):
            steps = rng.sample(range(self.size.steps), self.size.steps)
            for step in sorted(steps, key=lambda s: len(met[s]))[: self.doses[index]]:
                met[step].append(index)
        for indices in met:
            rng.shuffle(indices)
        return met
