"""Prune the smallest weights of each matrix.

Source: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", arXiv 1506.02626.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..lazy import torch
from ..registry import EditedWeight, MatrixEdit, register_edit
from ..selection import keep_count


@register_edit("magnitude")
@dataclass(frozen=True, kw_only=True)
class Magnitude(MatrixEdit):
    """Keeps ``percent`` of the weights of each matrix by number, largest |W_oi| first (unstructured)."""

    summary = "keep PERCENT of the weights, largest |W| first"
    source = "Han et al., arXiv 1506.02626"
    budget = "number of weights"
    idempotent = True

    def new_weight(self, weight: torch.Tensor, name: str) -> EditedWeight:
        """``W ∘ M`` with M the mask of the weights kept."""
        mask_oi = keep_count(weight.abs().flatten(), self.share).reshape(weight.shape)
        return EditedWeight.of_mask(weight, weight * mask_oi, int(mask_oi.sum()))
