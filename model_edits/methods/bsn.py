"""Learn which weights to zero from passages to forget and text to retain.

Source: "Mitigating Memorization in Language Models", arXiv 2410.02159 (BalancedSubnet); the mask is that of "What's
Hidden in a Randomly Weighted Neural Network?", arXiv 1911.13299 (edge-popup).
Shapes: o = out features, i = in features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import UserError
from ..registry import Edit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..material import Material
    from ..training import Reading

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


@register_edit("bsn")
@dataclass(frozen=True, kw_only=True)
class BalancedSubnet(Edit):
    """Keeps ``percent`` of the weights of each matrix by number, those of the largest scores |S_oi|, which are learned.

    Scores begin uniform in ±1/√i and are trained by SGD (momentum 0.9, weight decay 5e-4) on whole passages and texts
    in mixed, shuffled batches, to raise the cross-entropy of what is to be forgotten and to lower that of what is to be
    retained. The gradient passes the selection straight through: ∂L/∂|S_oi| = W_oi ∂L/∂(W∘M)_oi, for weights kept and
    removed alike.

    Attributes:
        epochs: passes over both sets.
        lr: of the scores.
        batch: passages and texts a step, both counted.
        balance: the loss is ``balance`` times the mean cross-entropy of the batch's texts to retain, less
            ``1 - balance`` times that of its passages to forget (``loss_weighting`` in the authors' code; they try 0.05
            and 0.5 to 0.9; at first they took the sum over the batch, some ``batch`` times as much as 0.5 is here).
        seed: of the scores' beginning and of the batches.
    """

    summary = "told what to forget: keep PERCENT of the weights, those of a learned mask"
    source = "arXiv 2410.02159"
    budget = "number of weights"
    needs_passages = True

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

    def new_weights(self, model: torch.nn.Module, material: Material) -> Iterator[tuple[str, Outcome]]:
        """``W ∘ M`` with M the weights kept."""
        if not material.forget or not material.retain:
            raise UserError(f"{self.name!r} needs passages to forget and texts to retain")
        scores = self.learn_scores(model, material)
        for target in material.targets:
            weight, keep_oi = target.matrix(model), self.mask(scores[target.name])
            yield target.name, Outcome.of(weight, weight * keep_oi, int(keep_oi.sum()))

    def mask(self, score_oi: torch.Tensor) -> torch.Tensor:
        """The weights to keep, boolean."""
        from ..selection import keep_count

        assert self.percent is not None
        return keep_count(score_oi.abs().flatten(), self.percent / 100).reshape(score_oi.shape)

    def learn_scores(self, model: torch.nn.Module, material: Material) -> dict[str, torch.Tensor]:
        """The scores [out, in] by target name, after training."""
        import torch

        from ..training import Text, batches, gradients, place, read

        weights = {target.name: target.matrix(model) for target in material.targets}
        generator = torch.Generator().manual_seed(self.seed)
        scores = {}
        for name, W_oi in weights.items():
            bound = 1 / math.sqrt(W_oi.shape[1])
            scores[name] = torch.empty(W_oi.shape).uniform_(-bound, bound, generator=generator).to(W_oi.device)
        optimizer = torch.optim.SGD(list(scores.values()), self.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        texts = [(Text(passage.prefix + passage.suffix), True) for passage in material.forget]
        texts += [(Text(ids), False) for ids in material.retain if len(ids) > 1]
        for _ in range(self.epochs):
            for batch in batches(texts, self.batch, generator):
                masked = {name: W_oi * self.mask(scores[name]) for name, W_oi in weights.items()}
                placed = place(model, material.targets, masked)
                with torch.enable_grad():
                    reading = read(model, placed, [text for text, _ in batch])
                    loss = self.loss(reading, torch.tensor([forget for _, forget in batch]))
                for name, grad_oi in gradients(loss, placed, material.targets).items():
                    scores[name].grad = grad_oi * weights[name] * scores[name].sign()
                optimizer.step()
        if not all(bool(score_oi.isfinite().all()) for score_oi in scores.values()):
            raise UserError(f"'{self.spec}' diverged: expected a smaller lr than {self.lr:g}")
        return scores

    def loss(self, reading: Reading, forget_b: torch.Tensor) -> torch.Tensor:
        """Of one batch; a set of which the batch has nothing counts nothing."""
        loss_b, forget_b = reading.loss_b, forget_b.to(reading.loss_b.device)
        share_b = forget_b * -(1 - self.balance) / forget_b.sum().clamp(min=1)
        share_b = share_b + ~forget_b * self.balance / (~forget_b).sum().clamp(min=1)
        return (share_b * loss_b).sum()
