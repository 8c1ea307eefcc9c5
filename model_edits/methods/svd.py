"""Truncate a matrix's singular values: the baseline that needs no data.

Source: Eckart and Young, "The approximation of one matrix by another of lower rank", Psychometrika 1 (1936).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..lazy import torch
from ..registry import EditedWeight, MatrixEdit, register_edit
from ..selection import keep_share


@register_edit("svd")
@dataclass(frozen=True, kw_only=True)
class SVD(MatrixEdit):
    """Keeps the fewest singular values that hold ``percent`` of the spectral energy Σ σ² of each matrix."""

    summary = "keep PERCENT of the spectral energy Σσ², zero the smaller singular values"
    source = "Eckart & Young 1936"
    budget = "spectral energy"

    def new_weight(self, weight: torch.Tensor, name: str) -> EditedWeight:
        """``Σ_k σ_k u_k v_kᵀ`` over the singular values kept."""
        U_ok, sigma_k, Vh_ki = torch.linalg.svd(weight, full_matrices=False)
        kept, total = int(keep_share(sigma_k.square(), self.share).sum()), len(sigma_k)
        new = weight if kept == total else U_ok[:, :kept] * sigma_k[:kept] @ Vh_ki[:kept]
        return EditedWeight(weight=new, kept=kept, total=total)
