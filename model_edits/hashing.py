"""Hashes of tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from .lazy import torch


def tensors_sha256(tensors: Mapping[str, torch.Tensor], base: str = "") -> str:
    """The sha256 of the tensors' names, types, shapes and bytes, in the order of the names.

    Args:
        tensors: by name.
        base: a hash that the sum starts with; it is returned as it is if there are no tensors.
    """
    if not tensors and base:
        return base
    sha = hashlib.sha256(base.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
