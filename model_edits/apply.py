"""Compute an edit's new weights, put them into the model, and restore the base bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from .factors import Factors
from .registry import Edit
from .targets import Target


@dataclass(frozen=True, kw_only=True)
class MatrixChange:
    """What an edit did to one matrix.

    Attributes:
        name: the parameter's.
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
    model: torch.nn.Module, edit: Edit, targets: Iterable[Target], factors: Mapping[str, Factors]
) -> tuple[dict[str, torch.Tensor], list[MatrixChange]]:
    """The edit's new weights by parameter name, in the parameters' own type and layout; the model is not changed.

    Args:
        model: whose weights to edit.
        edit: what to do.
        targets: the matrices.
        factors: curvature by module name, for an edit that needs it.

    Returns:
        New weights of those parameters that change, computed in float32 and cast once, and the account of all targets.
    """
    weights: dict[str, torch.Tensor] = {}
    changes = []
    for target in targets:
        stored = model.get_parameter(target.parameter)
        W_oi = stored.detach().T if target.transposed else stored.detach()
        W_oi = W_oi.to(torch.promote_types(W_oi.dtype, torch.float32))
        outcome = edit.new_weight(W_oi, factors.get(target.module), target.module)
        new_oi = outcome.weight if edit.dial == 0 else outcome.weight + edit.dial * (W_oi - outcome.weight)
        unchanged = outcome.weight is W_oi or edit.dial == 1
        norm = 0.0 if unchanged else float((W_oi - new_oi).norm() / W_oi.norm().clamp(min=1e-30))
        changes.append(MatrixChange(name=target.parameter, kept=outcome.kept, total=outcome.total, removed_norm=norm))
        if not unchanged:
            stored_layout = new_oi.T if target.transposed else new_oi
            weights[target.parameter] = stored_layout.to(stored.dtype).contiguous()
    return weights, changes


@contextmanager
def applied(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The model with these weights; on leaving, the very tensors that were there before are back."""
    before = {name: model.get_parameter(name).data for name in weights}
    try:
        for name, weight in weights.items():
            model.get_parameter(name).data = weight
        yield
    finally:
        for name, tensor in before.items():
            model.get_parameter(name).data = tensor
