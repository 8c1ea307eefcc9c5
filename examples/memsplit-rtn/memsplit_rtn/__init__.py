"""Round every weight to few levels: does coarse arithmetic forget?"""

from __future__ import annotations

from dataclasses import dataclass

from memsplit.errors import UserError
from memsplit.model_edits.lazy import torch  # imported at its first use: listings stay fast
from memsplit.model_edits.registry import EditedWeight, MatrixEdit


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

    def new_weight(self, weight: torch.Tensor, name: str) -> EditedWeight:
        """The nearest levels; weights that lie on one already count as kept."""
        step_o1 = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / (2 ** (self.bits - 1) - 1)
        rounded = (weight / step_o1).round() * step_o1
        return EditedWeight(weight=rounded, kept=int((rounded == weight).sum()), total=weight.numel())
