"""K-FAC's eigenbasis with each component's own curvature in place of the product of eigenvalues.

Source: George et al., "Fast Approximate Natural Gradient Descent in a Kronecker-factored Eigenbasis", arXiv 1806.03884.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry import MatrixEdit, Outcome, register_edit
from .kfac import Labels, Rank, Select, keep_components

if TYPE_CHECKING:
    import torch

    from ..curvature.factors import Factors


@register_edit("ekfac")
@dataclass(frozen=True, kw_only=True)
class EKFAC(MatrixEdit):
    """Keeps the components that carry ``percent`` of the mass of E[(Uᵀ g aᵀ V)²], measured in a second pass.

    Attributes:
        labels: as in ``kfac``.
        select: as in ``kfac``.
        rank: as in ``kfac``.
    """

    summary = "as kfac, with the curvature of each component measured instead of λ_i·μ_j"
    source = "arXiv 1806.03884"
    budget = "curvature mass"
    needs_factors = True

    labels: Labels = "sampled"
    select: Select = "top"
    rank: Rank = "mass"

    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """``U (C ∘ M) Vᵀ`` with M the components kept."""
        assert factors is not None
        assert factors.fisher_oi is not None
        assert self.percent is not None
        return keep_components(weight, factors.eigenbasis, factors.fisher_oi, self.percent, self.select, self.rank)

    def factor_options(self) -> dict[str, str]:
        """The labels, and the second pass."""
        return {"labels": self.labels, "statistic": "ekfac"}
