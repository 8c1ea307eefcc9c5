"""No edit: the base model itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry import Edit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..factors import Factors


@register_edit("none")
@dataclass(frozen=True, kw_only=True)
class NoEdit(Edit):
    """Returns every weight as it is."""

    summary = "the base model, unchanged"
    touches = False

    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """``weight`` itself."""
        return Outcome(weight=weight, kept=weight.numel(), total=weight.numel())
