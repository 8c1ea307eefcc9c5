"""Learn which weights to zero from a forget set and a retain set.

Source: "Mitigating Memorization in Language Models", arXiv 2410.02159 (BalancedSubnet); the mask is that of "What's
Hidden in a Randomly Weighted Neural Network?", arXiv 1911.13299 (edge-popup).
Shapes: o = out features, i = in features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import UserError
from ..edit import TrainingCost
from ..inputs import EditInputs
from ..lazy import torch
from ..registry import Edit, EditedWeight, register_edit
from ..selection import keep_count
from ..training import TeacherForced, TokenSequence, batches, count_tokens, forward, gradients, insert_matrices

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


@register_edit("bsn")
@dataclass(frozen=True, kw_only=True)
class BalancedSubnet(Edit):
    """Keeps ``percent`` of the weights of each matrix by number, those of the largest scores |S_oi|, which are learned.

    Scores begin uniform in ±1/√i. SGD (momentum 0.9, weight decay 5e-4) trains them on shuffled batches of both sets,
    whole sequences, to raise the cross-entropy of the forget set and to lower that of the retain set. The gradient
    passes the ablation mask M straight through: ∂L/∂|S_oi| = W_oi ∂L/∂(W∘M)_oi, for weights kept and removed alike.

    Attributes:
        epochs: passes over both sets.
        lr: learning rate of the scores.
        batch: sequences a step, of both sets together.
        balance: the loss is ``balance`` times the mean cross-entropy of the batch's sequences to retain, less
            ``1 - balance`` times that of its sequences to forget (``loss_weighting`` in the authors' code; they try
            0.05 and 0.5 to 0.9; at first they took the sum over the batch, some ``batch`` times as much as 0.5 is
            here).
        seed: seed of the initial scores and of the batches.
    """

    summary = "keep PERCENT of the weights by a mask that is trained on a forget set and a retain set"
    source = "arXiv 2410.02159"
    budget = "number of weights"
    needs_forget_set = True

    epochs: int = 1
    lr: float = 0.1
    batch: int = 16
    balance: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 < self.lr <= 1e6 or not 0 <= self.balance <= 1:
            raise UserError(
                f"bad edit '{self.spec}': expected a batch above 0, an lr from 0 to a million, a balance from 0 to 1"
            )

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """``W ∘ M`` with M the learned mask."""
        if not inputs.forget or not inputs.retain:
            raise UserError(f"{self.name!r} needs passages to forget and texts to retain")
        scores = self.learn_scores(model, inputs)
        for target in inputs.targets:
            weight, mask_oi = target.matrix(model), self.mask(scores[target.name])
            yield target.name, EditedWeight.of_mask(weight, weight * mask_oi, int(mask_oi.sum()))

    def training_cost(self, inputs: EditInputs) -> TrainingCost:
        """Both sets, in each epoch."""
        return TrainingCost(trained=self.epochs * count_tokens(sequence for sequence, _ in self.sequences(inputs)))

    def sequences(self, inputs: EditInputs) -> list[tuple[TokenSequence, bool]]:
        """Both sets, each sequence with whether it is to be forgotten."""
        forget = [(TokenSequence(each.prefix + each.suffix), True) for each in inputs.forget]
        return forget + [(TokenSequence(ids), False) for ids in inputs.retain if len(ids) > 1]

    def mask(self, score_oi: torch.Tensor) -> torch.Tensor:
        """The ablation mask: true for the weights of the largest |S_oi|."""
        return keep_count(score_oi.abs().flatten(), self.share).reshape(score_oi.shape)

    def learn_scores(self, model: torch.nn.Module, inputs: EditInputs) -> dict[str, torch.Tensor]:
        """The trained scores [out, in] by target name."""
        weights = {target.name: target.matrix(model) for target in inputs.targets}
        generator = torch.Generator().manual_seed(self.seed)
        scores = {name: _initial_scores(W_oi, generator) for name, W_oi in weights.items()}
        optimizer = torch.optim.SGD(list(scores.values()), self.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        sequences = self.sequences(inputs)
        steps = (batch for _ in range(self.epochs) for batch in batches(sequences, self.batch, generator))
        for batch in inputs.track(steps, self.name, self.epochs * math.ceil(len(sequences) / self.batch)):
            masked = {name: W_oi * self.mask(scores[name]) for name, W_oi in weights.items()}
            inserted = insert_matrices(model, inputs.targets, masked)
            with torch.enable_grad():
                scored = forward(model, inserted, [sequence for sequence, _ in batch])
                loss = self.loss(scored, torch.tensor([forget for _, forget in batch]))
            for name, grad_oi in gradients(loss, inserted, inputs.targets).items():
                scores[name].grad = grad_oi * weights[name] * scores[name].sign()
            optimizer.step()
        if not all(bool(score_oi.isfinite().all()) for score_oi in scores.values()):
            raise UserError(f"'{self.spec}' diverged: expected a smaller lr than {self.lr:g}")
        return scores

    def loss(self, scored: TeacherForced, forget_b: torch.Tensor) -> torch.Tensor:
        """The loss of one batch; a set with no sequence in the batch adds nothing."""
        loss_b, forget_b = scored.loss_b, forget_b.to(scored.loss_b.device)
        share_b = forget_b * -(1 - self.balance) / forget_b.sum().clamp(min=1)
        share_b = share_b + ~forget_b * self.balance / (~forget_b).sum().clamp(min=1)
        return (share_b * loss_b).sum()


def _initial_scores(W_oi: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    bound = 1 / math.sqrt(W_oi.shape[1])
    score_oi = torch.empty(W_oi.shape, dtype=W_oi.dtype)
    return score_oi.uniform_(-bound, bound, generator=generator).to(W_oi.device)
