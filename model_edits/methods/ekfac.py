"""K-FAC's eigenbasis with each component's own curvature in place of the product of eigenvalues.

Source: George et al., "Fast Approximate Natural Gradient Descent in a Kronecker-factored Eigenbasis", arXiv 1806.03884.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..curvature.factors import Factors
from ..lazy import torch
from ..registry import EditedWeight, register_edit
from .kfac import FisherEdit, Rank, Select, mask_components


@register_edit("ekfac")
@dataclass(frozen=True, kw_only=True)
class EKFAC(FisherEdit):
    """Keeps the components that carry ``percent`` of the mass of E[(Uᵀ g aᵀ V)²], measured in a second pass.

    Attributes:
        select: as in ``kfac``.
        rank: as in ``kfac``.
    """

    summary = "as kfac, with the curvature of each component measured instead of λ_i·μ_j"
    source = "arXiv 1806.03884"
    budget = "curvature mass"
    statistic = "ekfac"
    idempotent = True

    select: Select = "top"
    rank: Rank = "mass"

    def new_weight(self, weight: torch.Tensor, factors: Factors, name: str) -> EditedWeight:
        """``U (C ∘ M) Vᵀ`` with ``C = Uᵀ W V`` and M the ablation mask, 1 for the components kept."""
        return mask_components(weight, factors.eigenbasis, factors.fisher_oi, self.share, self.select, self.rank)
