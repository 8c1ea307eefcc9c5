"""Finetune against a forget set, with a term for a retain set and early stopping.

Sources: gradient ascent and gradient difference as in "TOFU", arXiv 2401.06121; "Negative Preference Optimization",
arXiv 2404.05868.
Shapes: b = sequences of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ...errors import UserError
from ..edit import TrainingCost
from ..inputs import EditInputs
from ..lazy import torch
from ..registry import Edit, EditedWeight, register_edit
from ..training import (
    TeacherForced,
    TokenSequence,
    count_tokens,
    cycle,
    forward,
    forward_all,
    gradients,
    insert_matrices,
)

CHECK_STEPS = 5
"""Steps between two checks whether to stop."""
HELD_OUT = 4
"""One sequence of the retain set in so many is held out."""
RECITED = 0.75
"""A suffix counts as recited if this share of its tokens is the likeliest."""


@register_edit("finetune")
@dataclass(frozen=True, kw_only=True)
class Finetune(Edit):
    """Trains the targets alone, by AdamW without weight decay, on ``batch`` sequences of each set a step.

    With p(s|x) the probability of a suffix s after its prefix x, and p_0 that of the model before, the loss is

    - ``ga`` (gradient ascent): the mean log p(s|x) per token of the suffixes to forget; the retain set is not used.
    - ``graddiff``: the same, plus ``alpha`` times the mean cross-entropy per token of the retain set.
    - ``npo``: 2/β times the mean of softplus(β log(p(s|x) / p_0(s|x))) over the forget set, plus the same term.

    One sequence of the retain set in four, chosen at random, is held out of training. Before the first step, after
    every fifth and after the last, two things are checked. Training stops

    - if the perplexity of the held-out sequences is above 1 + ``tolerance`` times that of the model before, or not a
      number: the result is then the weights of the check before, or the model's own at the first check; or
    - if no sequence of the whole forget set is recited, not even loosely: of none are three quarters of the suffix's
      tokens the model's likeliest, each after the true tokens before it. (If all of them were, greedy decoding would
      recite the suffix; at three quarters recitation counts as loose.)

    Attributes:
        loss: the loss, see above.
        lr: learning rate of AdamW; the default suits ``olmo-tiny``, models of billions of parameters take about 1e-5.
        steps: the largest number of steps.
        batch: sequences to forget a step, and as many to retain.
        alpha: weight of the retain set's term.
        beta: β of ``npo``; towards 0 its gradient becomes that of ``graddiff`` with suffixes summed, not averaged.
        tolerance: by how much the held-out perplexity may rise, as a share of that before.
        seed: seed of what is held out and of the batches.
    """

    summary = "finetune against a forget set, with a term for a retain set and early stopping"
    source = "arXiv 2404.05868, arXiv 2401.06121"
    version = 2
    needs_forget_set = True

    loss: Literal["npo", "graddiff", "ga"] = "npo"
    lr: float = 0.001
    steps: int = 100
    batch: int = 16
    alpha: float = 1.0
    beta: float = 0.1
    tolerance: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        above_0 = all(0 < value <= 1e6 for value in (self.batch, self.lr, self.beta))
        if not (above_0 and 0 <= self.alpha < math.inf and 0 <= self.tolerance < math.inf):
            raise UserError(
                f"bad edit '{self.spec}': expected batch, lr and beta above 0, alpha and tolerance not below"
            )

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """The trained targets; the weights that training did not change count as kept."""
        if not inputs.forget or len(inputs.retain) < 2:
            raise UserError(f"{self.name!r} needs passages to forget and texts to retain, two at least")
        new = self.train(model, inputs)
        for target in inputs.targets:
            weight = new[target.name]
            kept = int((weight == target.matrix(model)).sum())
            yield target.name, EditedWeight(weight=weight, kept=kept, total=weight.numel())

    def training_cost(self, inputs: EditInputs) -> TrainingCost:
        """All steps, of sequences of the mean length, and all checks."""
        forget, retain = _forget(inputs), _retain(inputs)
        held_out = math.ceil(len(retain) / HELD_OUT)
        means = [count_tokens(sequences) / max(len(sequences), 1) for sequences in (forget, retain)]
        a_step = means[0] * min(self.batch, len(forget)) + means[1] * min(self.batch, len(retain) - held_out)
        a_check = count_tokens(forget) + means[1] * held_out
        checks = 2 + math.ceil(self.steps / CHECK_STEPS)
        return TrainingCost(trained=round(self.steps * a_step), scored=round(checks * a_check))

    def train(self, model: torch.nn.Module, inputs: EditInputs) -> dict[str, torch.Tensor]:
        """The trained matrices [out, in] by target name."""
        generator = torch.Generator().manual_seed(self.seed)
        forget, usable = _forget(inputs), _retain(inputs)
        shuffled = [usable[n] for n in torch.randperm(len(usable), generator=generator)]
        held_out, retain = shuffled[::HELD_OUT], [each for n, each in enumerate(shuffled) if n % HELD_OUT]
        before = forward_all(model, {}, forget, self.batch).log_p_b.tolist()
        limit = float(forward_all(model, {}, held_out, self.batch).loss) + math.log1p(self.tolerance)
        forget_batches = cycle(list(zip(forget, before, strict=True)), self.batch, generator)
        retain_batches = cycle(retain, self.batch, generator)

        matrices = {target.name: target.matrix(model).clone() for target in inputs.targets}
        good = matrices
        optimizer = torch.optim.AdamW(list(matrices.values()), self.lr, weight_decay=0)
        for step in inputs.track(range(self.steps + 1), self.name, self.steps + 1):
            weights = insert_matrices(model, inputs.targets, matrices)
            if step % CHECK_STEPS == 0 or step == self.steps:
                if not float(forward_all(model, weights, held_out, self.batch).loss) <= limit:
                    break
                good = {name: W_oi.clone() for name, W_oi in matrices.items()}
                if step == self.steps or not self.recited(forward_all(model, weights, forget, self.batch)):
                    break
            sequences, before_b = zip(*next(forget_batches), strict=True)
            with torch.enable_grad():
                forgotten, retained = (forward(model, weights, each) for each in (sequences, next(retain_batches)))
                loss = self.objective(forgotten, torch.tensor(before_b), retained)
            for name, grad_oi in gradients(loss, weights, inputs.targets).items():
                matrices[name].grad = grad_oi
            optimizer.step()
        return good

    def recited(self, forget: TeacherForced) -> bool:
        """Whether any sequence is still recited, at least loosely."""
        return bool((forget.correct_b >= RECITED * forget.tokens_b).any())

    def objective(self, forget: TeacherForced, before_b: torch.Tensor, retain: TeacherForced) -> torch.Tensor:
        """The loss of a batch of both sets.

        Args:
            forget: scores of the suffixes to forget.
            before_b: their log-probabilities under the model before.
            retain: scores of the sequences to retain.
        """
        if self.loss == "ga":
            return -forget.loss
        if self.loss == "graddiff":
            return -forget.loss + self.alpha * retain.loss
        ratio_b = forget.log_p_b - before_b.to(forget.log_p_b.device)
        npo = 2 / self.beta * torch.nn.functional.softplus(self.beta * ratio_b).mean()
        return npo + self.alpha * retain.loss


def _forget(inputs: EditInputs) -> list[TokenSequence]:
    return [TokenSequence(each.prefix + each.suffix, len(each.prefix)) for each in inputs.forget]


def _retain(inputs: EditInputs) -> list[TokenSequence]:
    return [TokenSequence(ids) for ids in inputs.retain if len(ids) > 1]
