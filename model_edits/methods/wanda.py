"""Prune, in each output row, the weights that matter least on the calibration data.

Source: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", arXiv 2306.11695.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..curvature.factors import Factors
from ..lazy import torch
from ..registry import CurvatureEdit, EditedWeight, register_edit


@register_edit("wanda")
@dataclass(frozen=True, kw_only=True)
class Wanda(CurvatureEdit):
    """Keeps ``percent`` of the weights of every output row by number, largest |W_oi|·‖x_i‖ first.

    ‖x_i‖ is the norm of input i over the calibration data, up to a constant: the root of E[a_i²]. As in the authors'
    code, the number of weights *removed* from a row is rounded down, and of equal ones the first is removed. Unlike
    there, all matrices see the base model's inputs: no layer is pruned before those above it are measured.
    """

    summary = "keep PERCENT of the weights of each output row, largest |W|·‖x‖ first"
    source = "arXiv 2306.11695"
    budget = "number of weights"
    statistic = "aaT_diag"
    idempotent = True
    version = 2

    def new_weight(self, weight: torch.Tensor, factors: Factors, name: str) -> EditedWeight:
        """``W ∘ M`` with M the mask of the weights kept."""
        norm_i = factors.aaT_diag.clamp(min=0).sqrt()
        order_oi = (weight.abs() * norm_i).argsort(dim=-1, stable=True)
        removed = int(weight.shape[1] * round(1 - self.share, 12))  # 0.9 for a share of 0.1, as their option says
        mask_oi = torch.ones_like(weight, dtype=torch.bool).scatter_(-1, order_oi[:, :removed], False)
        return EditedWeight.of_mask(weight, weight * mask_oi, int(mask_oi.sum()))
