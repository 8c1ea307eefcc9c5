"""Compute an edit's new weights, put them into the model, and restore the base bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from .material import Material
from .registry import Edit


@dataclass(frozen=True, kw_only=True)
class MatrixChange:
    """What an edit did to one matrix.

    Attributes:
        name: its weight's.
        kept: components kept.
        total: components there were.
        removed_norm: ‖W - W'‖ / ‖W‖ (Frobenius).
    """

    name: str
    kept: int
    total: int
    removed_norm: float


@torch.no_grad()
def compute(
    model: torch.nn.Module, edit: Edit, material: Material
) -> tuple[dict[str, torch.Tensor], list[MatrixChange]]:
    """The edit's new weights by parameter name, in the parameters' own type and layout; the model is not changed.

    Args:
        model: whose weights to edit.
        edit: what to do.
        material: what it needs.

    Returns:
        New weights of those parameters that change, computed in float32 and cast once, and the account of all that
        the edit looked at.

    Raises:
        UserError: the edit cannot be made.
    """
    weights: dict[str, torch.Tensor] = {}
    changes = []
    targets = {target.name: target for target in material.targets}
    for name, outcome in edit.new_weights(model, material):
        target = targets.get(name)
        parameter = target.parameter if target else name
        stored = weights.get(parameter, model.get_parameter(parameter).detach())
        before = target.view(stored) if target else stored
        wide = before.to(torch.promote_types(before.dtype, torch.float32))
        new = outcome.weight if edit.dial == 0 else outcome.weight + edit.dial * (wide - outcome.weight)
        unchanged = edit.dial == 1 or torch.equal(new.to(before.dtype), before)
        norm = 0.0 if unchanged else float((wide - new).norm() / wide.norm().clamp(min=1e-30))
        label = f"{name}.weight" if target else name
        changes.append(MatrixChange(name=label, kept=outcome.kept, total=outcome.total, removed_norm=norm))
        if not unchanged:
            if parameter not in weights:
                weights[parameter] = stored.clone(memory_format=torch.contiguous_format)
            whole = weights[parameter]
            (target.view(whole) if target else whole).copy_(new)
    return weights, changes


@contextmanager
def applied(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """The model with these weights; on leaving, the very tensors that were there before, yielded, are back."""
    before = {name: model.get_parameter(name).data for name in weights}
    try:
        for name, weight in weights.items():
            model.get_parameter(name).data = weight
        yield before
    finally:
        for name, tensor in before.items():
            model.get_parameter(name).data = tensor
