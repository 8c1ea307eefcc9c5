"""Truncate a matrix's singular values: the baseline that knows no data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry import MatrixEdit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..curvature.factors import Factors


@register_edit("svd")
@dataclass(frozen=True, kw_only=True)
class SVD(MatrixEdit):
    """Keeps the fewest singular values that hold ``percent`` of the spectral energy Σ σ² of each matrix."""

    summary = "keep PERCENT of the spectral energy Σσ², zero the smaller singular values"
    source = "Eckart & Young 1936"
    budget = "spectral energy"

    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """``Σ_k σ_k u_k v_kᵀ`` over the singular values kept."""
        import torch

        from ..selection import keep_share

        assert self.percent is not None
        U_ok, sigma_k, Vh_ki = torch.linalg.svd(weight, full_matrices=False)
        kept = int(keep_share(sigma_k.square(), self.percent / 100).sum())
        total = len(sigma_k)
        new = weight if kept == total else U_ok[:, :kept] * sigma_k[:kept] @ Vh_ki[:kept]
        return Outcome(weight=new, kept=kept, total=total)
