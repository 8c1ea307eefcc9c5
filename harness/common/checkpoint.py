"""Checkpoints of a training: weights and optimizer states in one file, from which it goes on bit for bit."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...errors import UserError
from ...files import replacing


def save(
    path: Path, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer], about: Mapping[str, str]
) -> None:
    """Write what is trained and the states of its optimizers in place of the last checkpoint.

    Args:
        path: the file.
        model: of its parameters, those that require gradients are written.
        optimizers: of these parameters.
        about: what the checkpoint is of, and its ``step``, a number; read back by :func:`load`.
    """
    tensors = {f"model.{name}": p.detach() for name, p in model.named_parameters() if p.requires_grad}
    for i, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{index}.{key}": value for key, value in state.items()}
    with replacing(path) as partial:
        save_file({name: t.contiguous() for name, t in tensors.items()}, partial, metadata=dict(about))


def load(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """What a checkpoint is of, and its tensors; both empty where there is none.

    Raises:
        UserError: the checkpoint is damaged.
    """
    if not path.exists():
        return {}, {}
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if not re.fullmatch("[0-9]{1,18}", about.get("step", "")):
        raise _damaged(path, "it does not say of which step it is")
    return about, tensors


def restore(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """Put the tensors of a checkpoint into a model and its optimizers.

    Raises:
        UserError: a tensor is missing, is of another shape, or belongs to nothing; nothing is changed then.
    """
    trained = {f"model.{name}": p for name, p in model.named_parameters() if p.requires_grad}
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith("model.")}
    for name in sorted({*trained, *tensors} - {*rest}):
        if name not in tensors or name not in trained or tensors[name].shape != trained[name].shape:
            raise _damaged(path, f"{name} is not the model's")
    states = [_state(path, rest, f"optimizer.{i}.", optimizer) for i, optimizer in enumerate(optimizers)]
    if sum(len(of_one) for state in states for of_one in state.values()) != len(rest):
        raise _damaged(path, "a state is of no optimizer")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[name])
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _state(
    path: Path, tensors: Mapping[str, torch.Tensor], start: str, optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, torch.Tensor]]:
    """The states of an optimizer's parameters, by the parameter's number.

    A parameter that had no gradient yet has none. All others have the same tensors, each a number or of its
    parameter's shape.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        if not name.startswith(start):
            continue
        index, _, key = name.removeprefix(start).partition(".")
        number = int(index) if re.fullmatch("[0-9]{1,9}", index) else len(parameters)
        if number >= len(parameters) or tensor.shape not in (torch.Size([]), parameters[number].shape):
            raise _damaged(path, f"{name} is not the optimizer's")
        state[number][key] = tensor
    if len({frozenset(of_one) for of_one in state.values()}) != 1:
        raise _damaged(path, f"a state of {start.removesuffix('.')} is missing")
    return dict(state)


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"{path} is damaged ({reason}); delete it to start again")
