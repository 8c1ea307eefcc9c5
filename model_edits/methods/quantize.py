"""Round weights to few levels: does an edit outlast quantization?

Sources: rounding to nearest as in Nagel et al., "A White Paper on Neural Network Quantization", arXiv 2106.08295; as an
attack "Catastrophic Failure of LLM Unlearning via Quantization", arXiv 2410.16454.
Shapes: o = out features, i = in features.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UserError
from ..lazy import torch
from ..registry import EditedWeight, MatrixEdit, register_edit


@register_edit("quantize")
@dataclass(frozen=True, kw_only=True)
class Quantize(MatrixEdit):
    """Rounds each weight to the nearest of the ``2**bits - 1`` levels of its output row (symmetric, simulated).

    The levels of row o lie evenly between ±max_i |W_oi|, both included, so that zero is one and nothing is cut off.

    Attributes:
        bits: 2 to 8.
    """

    summary = "round every weight to the nearest of 2^bits - 1 levels of its output row"
    source = "arXiv 2106.08295, arXiv 2410.16454"
    attack = True
    idempotent = True
    everywhere = True

    bits: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise UserError(f"bad edit '{self.spec}': {self.bits} found, expected bits from 2 to 8")

    def new_weight(self, weight: torch.Tensor, name: str) -> EditedWeight:
        """The nearest levels.

        A level is the row's largest |W| times a ratio, which is 1 for the outermost: so quantized rows have the levels
        that they had, to the bit, also after they were cast to a narrower type.
        """
        most = 2 ** (self.bits - 1) - 1
        largest_o1 = weight.abs().amax(dim=1, keepdim=True)
        divisor_o1 = torch.where(largest_o1 > 0, largest_o1, 1)
        new = (weight / divisor_o1 * most).round() / most * largest_o1
        return EditedWeight(weight=new, kept=0, total=0)
