"""Checkpoints of a training: weights and optimizer states in one file, from which it goes on bit for bit."""

from __future__ import annotations

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
        about: what the checkpoint is of; read back by :func:`load`.
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
            return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to start again") from error


def restore(
    tensors: Mapping[str, torch.Tensor], model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Put the tensors of a checkpoint into a model and its optimizers."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(tensors[f"model.{name}"])
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith(f"optimizer.{i}."):
                index, key = name.split(".")[2:]
                state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
