"""The optimizer Muon, in float32 and batched over matrices of one shape.

``torch.optim.Muon`` orthogonalizes in bfloat16, one matrix at a time. On a CPU without bfloat16 units that took longer
than the model's forward and backward pass together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(stack: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Push the singular values of each matrix of ``stack`` [n, rows, cols] towards 1 (quintic Newton-Schulz).

    Source: Keller Jordan, "Muon: an optimizer for hidden layers", 2024.
    """
    a, b, c = COEFFICIENTS
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if tall else stack
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """An optimizer for matrices whose updates are the orthogonalized momentum of the gradient.

    Args:
        params: matrices.
        lr: the singular values of an update are about ``lr * sqrt(max(1, rows / cols))``.
        momentum: decay of the gradient's running mean; the update looks ahead by Nesterov's rule.
        weight_decay: decoupled; each step multiplies a matrix by ``1 - lr * weight_decay``.
    """

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is ever evaluated here
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for (rows, cols), params in shapes.items():
                updates = []
                for p in params:
                    assert p.grad is not None
                    buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                scale = group["lr"] * max(1.0, rows / cols) ** 0.5
                for p, update in zip(params, orthogonalize(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=scale)
