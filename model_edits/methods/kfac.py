"""Zero the components of low loss curvature in the K-FAC eigenbasis.

Source: "From Memorization to Reasoning in the Spectrum of Loss Curvature", arXiv 2510.24256.
Shapes: o = out features, i = in features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..registry import Edit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..factors import Factors

Labels = Literal["sampled", "gold"]


def keep_mass(lam_o: torch.Tensor, mu_i: torch.Tensor, mass: float) -> torch.Tensor:
    """Which components to keep: the smallest set, largest ``lam_o * mu_i`` first, that holds ``mass`` of their sum.

    Equal products are taken in the order of their flat index.

    Args:
        lam_o: eigenvalues of the output gradients' second moment [o], not negative.
        mu_i: eigenvalues of the inputs' second moment [i], not negative.
        mass: share of the total to reach, 0 to 1; 1 keeps every component, those of no curvature too.

    Returns:
        Boolean [o, i].
    """
    product = (lam_o.double()[:, None] * mu_i.double()).flatten()
    keep = product.new_ones(product.shape).bool()
    if mass < 1:
        largest, order = product.sort(descending=True, stable=True)
        total = largest.cumsum(0)
        count = int((total < mass * total[-1]).sum()) + 1 if mass > 0 else 0
        keep[order[count:]] = False
    return keep.reshape(len(lam_o), len(mu_i))


@register_edit("kfac")
@dataclass(frozen=True, kw_only=True)
class KFAC(Edit):
    """Keeps the components that carry ``percent`` of the curvature mass Σ λ_i·μ_j of each matrix.

    Attributes:
        labels: of the loss whose gradients are collected: ``sampled`` from the model (the true Fisher) or the text's
            own, ``gold`` (the empirical one).
    """

    summary = "keep PERCENT of the curvature mass in the K-FAC eigenbasis, zero the rest"
    source = "arXiv 2510.24256"
    budget = "curvature mass"
    needs_factors = True

    labels: Labels = "sampled"

    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """``U (C ∘ M) Vᵀ`` with ``C = Uᵀ W V`` and M the components kept."""
        assert factors is not None
        assert self.percent is not None
        basis = factors.eigenbasis()
        keep_oi = keep_mass(basis.lam_o, basis.mu_i, self.percent / 100)
        if bool(keep_oi.all()):
            return Outcome(weight=weight, kept=weight.numel(), total=weight.numel())
        C_oi = basis.coordinates(weight)
        return Outcome(weight=basis.matrix(C_oi * keep_oi), kept=int(keep_oi.sum()), total=keep_oi.numel())

    def factor_options(self) -> dict[str, str]:
        """The labels."""
        return {"labels": self.labels}
