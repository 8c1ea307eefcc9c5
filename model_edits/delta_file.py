"""An edit as a file: the weights that it changed, and hashes of those that they take the place of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import UserError
from .hashing import tensors_sha256

NAME = "delta.safetensors"
FORMAT = "memsplit-delta-1"


def write(path: Path, model: torch.nn.Module, weights: Mapping[str, torch.Tensor], spec: str) -> None:
    """Write the weights that an edit changed.

    Args:
        path: of the file.
        model: with the weights before the edit.
        weights: the new ones, by parameter name.
        spec: the edit's.
    """
    tensors = {name: weight.cpu().contiguous() for name, weight in weights.items()}
    base = {name: _hash(model, name) for name in weights}
    metadata = {"format": FORMAT, "spec": spec, "base": json.dumps(base), "sha256": tensors_sha256(tensors)}
    save_file(tensors, path, metadata=metadata)


def read(path: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a file, by parameter name.

    Raises:
        UserError: the file is missing, damaged, or of an edit of other weights than the model's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"the delta {str(path)!r} cannot be read: {error}") from error
    if meta.get("format") != FORMAT:
        raise UserError(f"{str(path)!r} is of the format {meta.get('format')!r}, expected {FORMAT!r}")
    if meta.get("sha256") != tensors_sha256(tensors):
        raise UserError(f"the delta {str(path)!r} is damaged (hash differs)")
    own = dict(model.named_parameters())
    for name, sha256 in json.loads(meta["base"]).items():
        if name not in own or _hash(model, name) != sha256:
            raise UserError(f"the delta {str(path)!r} is of another model: its {name} was edited from other weights")
    return tensors


def _hash(model: torch.nn.Module, name: str) -> str:
    return tensors_sha256({name: model.get_parameter(name).detach()})
