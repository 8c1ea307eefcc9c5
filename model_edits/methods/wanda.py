"""Prune, in each output row, the weights that matter least on the data.

Source: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", arXiv 2306.11695.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry import MatrixEdit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..curvature.factors import Factors


@register_edit("wanda")
@dataclass(frozen=True, kw_only=True)
class Wanda(MatrixEdit):
    """Keeps ``percent`` of the weights of every output row by number, largest |W_oi|·‖x_i‖ first.

    ‖x_i‖ is the root of E[a_i²], the diagonal of K-FAC's input moments: the norm over the corpus up to a constant.
    """

    summary = "keep PERCENT of the weights of each output row, largest |W|·‖x‖ first"
    source = "arXiv 2306.11695"
    budget = "number of weights"
    needs_factors = True

    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """``W ∘ M`` with M the weights kept."""
        from ..selection import keep_count

        assert factors is not None
        assert self.percent is not None
        norm_i = factors.aaT.diagonal().clamp(min=0).sqrt()
        keep_oi = keep_count(weight.abs() * norm_i, self.percent / 100)
        return Outcome.of(weight, weight * keep_oi, int(keep_oi.sum()))
