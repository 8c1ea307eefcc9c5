"""No edit: the base model itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..inputs import EditInputs
from ..lazy import torch
from ..registry import Edit, EditedWeight, register_edit


@register_edit("none")
@dataclass(frozen=True, kw_only=True)
class NoEdit(Edit):
    """Changes nothing."""

    summary = "the base model, unchanged"
    idempotent = True
    targeted = False

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """No weights."""
        return iter(())
