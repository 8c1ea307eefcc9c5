"""Compute an edit's new weights, put them into the model, and restore the base bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..errors import UserError
from .edit import Edit, EditedWeight
from .inputs import EditInputs


@dataclass(frozen=True, kw_only=True)
class MatrixChange:
    """What an edit did to one matrix.

    Attributes:
        name: name of its weight.
        kept: number of components kept.
        total: number of components before the edit.
        removed_norm: ‖W - W'‖ / ‖W‖ (Frobenius), W before and W' after the edit.
    """

    name: str
    kept: int
    total: int
    removed_norm: float


@torch.no_grad()
def compute(
    model: torch.nn.Module, edit: Edit, inputs: EditInputs
) -> tuple[dict[str, torch.Tensor], list[MatrixChange]]:
    """The edit's new weights by parameter name, in the parameters' own type and layout. The model is not changed.

    Args:
        model: the model with the weights to edit.
        edit: the edit.
        inputs: what the edit needs.

    Returns:
        New weights of the parameters that change, computed in float32 or wider and cast once; and what the edit did to
        each weight that it looked at. Under a further name of a parameter there is a weight where it becomes another
        than the parameter.

    Raises:
        UserError: the edit cannot be made.
    """
    weights: dict[str, torch.Tensor] = {}
    changes = []
    targets = {target.name: target for target in inputs.targets}
    shared = other_names(model)
    for name, edited in _new_weights(model, edit, inputs):
        target = targets.get(name)
        parameter = target.parameter if target else name
        stored = weights.get(parameter, model.get_parameter(parameter).detach())
        before = target.view(stored) if target else stored
        wide = before.to(torch.promote_types(before.dtype, torch.float32))
        new = edited.weight if edit.dial == 0 else edited.weight + edit.dial * (wide - edited.weight)
        unchanged = edit.dial == 1 or torch.equal(new.to(before.dtype), before)
        norm = 0.0 if unchanged else float((wide - new).norm() / wide.norm().clamp(min=1e-30))
        label = f"{name}.weight" if target else name
        changes.append(MatrixChange(name=label, kept=edited.kept, total=edited.total, removed_norm=norm))
        if not unchanged or (name in shared and edit.dial != 1):
            if parameter not in weights:
                weights[parameter] = stored.clone(memory_format=torch.contiguous_format)
            whole = weights[parameter]
            target.put(whole, new) if target else whole.copy_(new)
    for name, first in shared.items():
        if name in weights and torch.equal(weights[name], weights.get(first, model.get_parameter(first))):
            del weights[name]
    return weights, changes


def _new_weights(model: torch.nn.Module, edit: Edit, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
    """The edit's ``new_weights``.

    Raises:
        UserError: the edit cannot be made; or a matrix cannot be decomposed, as one that is not finite.
    """
    try:
        yield from edit.new_weights(model, inputs)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # it has no __all__ that names it
        reason = str(error).splitlines()[0]
        raise UserError(
            f"'{edit.spec}' cannot be made: a matrix that it is given has no decomposition ({reason})"
        ) from error


def other_names(model: torch.nn.Module) -> dict[str, str]:
    """The further names of parameters that have several, such as an output head that is the embeddings.

    Returns:
        By each of these names, the parameter's first name, which is the one that ``named_parameters`` has.
    """
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every if first[id(parameter)] != name}


def put(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Put these weights into the model. A further name of a parameter becomes a parameter of its own."""
    shared = other_names(model)
    for name, weight in weights.items():
        if name in shared:
            _replace(model, name, torch.nn.Parameter(weight, requires_grad=False))
        else:
            model.get_parameter(name).data = weight


def _replace(model: torch.nn.Module, name: str, parameter: torch.nn.Parameter) -> None:
    owner, _, last = name.rpartition(".")
    setattr(model.get_submodule(owner), last, parameter)


@contextmanager
def applied(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    """Put these weights into the model, and put the same tensors as before, which are yielded, back on leaving.

    Raises:
        RuntimeError: on leaving, the model holds other weights than these: what was entered later was not left first.
    """
    parameters = {name: model.get_parameter(name) for name in weights}
    before = {name: parameter.data for name, parameter in parameters.items()}
    places: dict[str, int] = {}
    try:
        put(model, weights)
        places = {name: model.get_parameter(name).data_ptr() for name in weights}
        yield before
    finally:
        held = all(model.get_parameter(name).data_ptr() == place for name, place in places.items())
        for name, parameter in parameters.items():
            parameter.data = before[name]
            if model.get_parameter(name) is not parameter:
                _replace(model, name, parameter)
    if not held:
        raise RuntimeError("two edits of one model were left in the order in which they were entered: load it again")
