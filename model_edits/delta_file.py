"""Delta files: the weights that an edit changed, and hashes of the base weights that they replace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError
from . import tensor_file
from .hashing import tensors_sha256
from .lazy import torch

NAME = "delta.safetensors"
FORMAT = "memsplit-delta-1"


def write(path: Path, model: torch.nn.Module, weights: Mapping[str, torch.Tensor], spec: str) -> None:
    """Write the weights that an edit changed.

    Args:
        path: of the file.
        model: with the weights before the edit.
        weights: the new ones, by parameter name.
        spec: the edit's canonical text.

    Raises:
        OSError: the file cannot be written.
    """
    base = {name: _hash(model, name) for name in weights}
    tensor_file.write(path, weights, {"format": FORMAT, "spec": spec, "base": json.dumps(base)})


def read(path: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a file, by parameter name.

    Raises:
        UserError: the file is missing, damaged, or of an edit of other weights than the model's.
    """
    tensors, header = tensor_file.read(path, "delta")
    base = json.loads(header.get("base", "{}"))
    if header.get("format") != FORMAT or base.keys() != tensors.keys():
        raise UserError(f"{str(path)!r} is of the format {header.get('format')!r}, expected {FORMAT!r}")
    own = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in tensors.items():
        if name in own and own[name].dtype != tensor.dtype:
            types = [str(t.dtype).removeprefix("torch.") for t in (tensor, own[name])]
            raise UserError(
                f"the delta {str(path)!r} is in {types[0]}, the model in {types[1]}: expected --dtype {types[0]}"
            )
        if name not in own or _hash(model, name) != base[name]:
            raise UserError(
                f"the delta {str(path)!r} is of another model, or follows a step: its {name} was made from others"
            )
    return tensors


def _hash(model: torch.nn.Module, name: str) -> str:
    return tensors_sha256({name: model.get_parameter(name).detach()})
