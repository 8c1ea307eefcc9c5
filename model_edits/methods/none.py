"""No edit: the base model itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry import Edit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..material import Material


@register_edit("none")
@dataclass(frozen=True, kw_only=True)
class NoEdit(Edit):
    """Changes nothing."""

    summary = "the base model, unchanged"
    targeted = False

    def new_weights(self, model: torch.nn.Module, material: Material) -> Iterator[tuple[str, Outcome]]:
        """None."""
        return iter(())
