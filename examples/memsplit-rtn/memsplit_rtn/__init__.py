"""Round every weight to few levels: does coarse arithmetic forget?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from memsplit.errors import UserError
from memsplit.model_edits.registry import MatrixEdit, Outcome

if TYPE_CHECKING:
    import torch

    from memsplit.model_edits.curvature.factors import Factors


@dataclass(frozen=True, kw_only=True)
class RoundToNearest(MatrixEdit):
    """Rounds each weight to the nearest of ``2**bits - 1`` levels, evenly spaced between ±max|W| of its row.

    Attributes:
        bits: 2 to 8.
    """

    summary = "round every weight to the nearest of 2^bits - 1 levels of its row"
    source = "Nagel et al., arXiv 2106.08295"

    bits: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise UserError(f"bad edit '{self.spec}': {self.bits} found, expected bits from 2 to 8")

    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """The nearest levels; kept are the weights that are one already."""
        step_o1 = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / (2 ** (self.bits - 1) - 1)
        rounded = (weight / step_o1).round() * step_o1
        return Outcome(weight=rounded, kept=int((rounded == weight).sum()), total=weight.numel())
