"""Prune the smallest weights of each matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry import MatrixEdit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..curvature.factors import Factors


@register_edit("magnitude")
@dataclass(frozen=True, kw_only=True)
class Magnitude(MatrixEdit):
    """Keeps ``percent`` of the weights of each matrix by number, largest |W_oi| first (unstructured)."""

    summary = "keep PERCENT of the weights, largest |W| first"
    source = "Han et al., arXiv 1506.02626"
    budget = "number of weights"

    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """``W ∘ M`` with M the weights kept."""
        from ..selection import keep_count

        assert self.percent is not None
        keep_oi = keep_count(weight.abs().flatten(), self.percent / 100).reshape(weight.shape)
        return Outcome.of(weight, weight * keep_oi, int(keep_oi.sum()))
