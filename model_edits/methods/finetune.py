"""Train against passages to forget, with a term for text to retain, and stop early.

Sources: gradient ascent and gradient difference as in "TOFU", arXiv 2401.06121; "Negative Preference Optimization",
arXiv 2404.05868.
Shapes: b = passages of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...errors import UserError
from ..registry import Edit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..material import Material
    from ..training import Reading

CHECK_STEPS = 5
"""Steps between two measurements."""
HELD_OUT = 4
"""One text in so many is held out."""
RECITED = 0.75
"""The share of a suffix's tokens from which it counts as recited."""


@register_edit("finetune")
@dataclass(frozen=True, kw_only=True)
class Finetune(Edit):
    """Trains the targets alone, by AdamW without weight decay, on ``batch`` passages and ``batch`` texts a step.

    With p(s|x) the probability of a passage's suffix s after its prefix x, and p_0 that of the model before:

    - ``ga``: mean log p(s|x) per token of the suffixes; the texts to retain play no part in it.
    - ``graddiff``: the same, plus ``alpha`` times the mean cross-entropy per token of the texts to retain.
    - ``npo``: 2/β times the mean of softplus(β log(p(s|x) / p_0(s|x))) over passages, plus the same term.

    One text to retain in four, chosen at random, is held out of training. Before the first step, after every fifth and
    after the last, two things are measured, and training ends

    - when the perplexity of the texts held out is more than 1 + ``tolerance`` times the model's before, or no number:
      the weights are then those of the measurement before, the model's own where that was the first; or
    - when no passage of the whole set to forget is recited any more, not even loosely: when of none three quarters of
      the suffix's tokens are the likeliest, each after the passage itself up to there. (Were all, greedy decoding would
      recite it; three quarters is where recitation counts as loose.)

    Attributes:
        loss: see above.
        lr: of AdamW; the default suits ``olmo-tiny``, models of billions of parameters take about 1e-5.
        steps: at most.
        batch: passages a step, and as many texts to retain.
        alpha: of the texts to retain.
        beta: of ``npo``; towards 0 its gradient becomes that of ``graddiff`` with suffixes summed, not averaged.
        tolerance: by how much the held-out perplexity may rise, as a share.
        seed: of what is held out and of the batches.
    """

    summary = "told what to forget: finetune against the passages, with a term for text to retain"
    source = "arXiv 2404.05868, arXiv 2401.06121"
    needs_passages = True

    loss: Literal["npo", "graddiff", "ga"] = "npo"
    lr: float = 0.01
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

    def new_weights(self, model: torch.nn.Module, material: Material) -> Iterator[tuple[str, Outcome]]:
        """The targets after training; ``kept`` are the weights that it left as they were."""
        if not material.forget or len(material.retain) < 2:
            raise UserError(f"{self.name!r} needs passages to forget and texts to retain, two at least")
        new = self.train(model, material)
        for target in material.targets:
            weight = new[target.name]
            kept = int((weight == target.matrix(model)).sum())
            yield target.name, Outcome(weight=weight, kept=kept, total=weight.numel())

    def train(self, model: torch.nn.Module, material: Material) -> dict[str, torch.Tensor]:
        """The matrices [out, in] by target name that training ends with."""
        import torch

        from ..training import Text, cycle, gradients, place, read, read_all

        generator = torch.Generator().manual_seed(self.seed)
        forget = [Text(passage.prefix + passage.suffix, len(passage.prefix)) for passage in material.forget]
        asked = [ids for ids in material.retain if len(ids) > 1]
        texts = [Text(asked[n]) for n in torch.randperm(len(asked), generator=generator)]
        held_out, retain = texts[::HELD_OUT], [text for n, text in enumerate(texts) if n % HELD_OUT]
        before = read_all(model, {}, forget, self.batch).log_p_b.tolist()
        limit = float(read_all(model, {}, held_out, self.batch).loss) + math.log1p(self.tolerance)
        forget_batches = cycle(list(zip(forget, before, strict=True)), self.batch, generator)
        retain_batches = cycle(retain, self.batch, generator)

        matrices = {target.name: target.matrix(model).clone() for target in material.targets}
        good = matrices
        optimizer = torch.optim.AdamW(list(matrices.values()), self.lr, weight_decay=0)
        for step in range(self.steps + 1):
            weights = place(model, material.targets, matrices)
            if step % CHECK_STEPS == 0 or step == self.steps:
                if not float(read_all(model, weights, held_out, self.batch).loss) <= limit:
                    break
                good = {name: W_oi.clone() for name, W_oi in matrices.items()}
                if step == self.steps or not self.recited(read_all(model, weights, forget, self.batch)):
                    break
            passages, before_b = zip(*next(forget_batches), strict=True)
            with torch.enable_grad():
                reading, retained = read(model, weights, passages), read(model, weights, next(retain_batches))
                loss = self.objective(reading, torch.tensor(before_b), retained)
            for name, grad_oi in gradients(loss, weights, material.targets).items():
                matrices[name].grad = grad_oi
            optimizer.step()
        return good

    def recited(self, forget: Reading) -> bool:
        """Whether any passage is recited still, if only loosely."""
        return bool((forget.right_b >= RECITED * forget.tokens_b).any())

    def objective(self, forget: Reading, before_b: torch.Tensor, retain: Reading) -> torch.Tensor:
        """The loss of a batch of passages, of log-probabilities ``before_b``, and one of texts to retain."""
        from torch.nn.functional import softplus

        if self.loss == "ga":
            return -forget.loss
        if self.loss == "graddiff":
            return -forget.loss + self.alpha * retain.loss
        ratio_b = forget.log_p_b - before_b.to(forget.log_p_b.device)
        return 2 / self.beta * softplus(self.beta * ratio_b).mean() + self.alpha * retain.loss
