"""Safetensors files with text metadata and a hash of their tensors, which is checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import UserError
from .hashing import tensors_sha256
from .lazy import safetensors_torch, torch


def write(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
    """Write tensors, with ``header`` as metadata.

    Raises:
        OSError: the file cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        safetensors_torch.save_file(plain, path, metadata={**header, "sha256": tensors_sha256(plain)})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def check(path: Path, what: str, remedy: str = "") -> None:
    """Check that a file is a safetensors file and not cut short, without reading its tensors.

    Raises:
        UserError: the file is cut short, or of another format.
    """
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(f"the {what} {path} is damaged ({error}); {remedy}") from error


def read(path: Path, what: str, remedy: str = "") -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the header of a file.

    Args:
        path: of the file.
        what: a word for the contents, for errors.
        remedy: what the user can do about a damaged file, for errors.

    Raises:
        UserError: the file is missing, damaged, or not of this kind.
    """
    after = f"; {remedy}" if remedy else ""
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"the {what} {path} is damaged ({error}){after}") from error
    if header.get("sha256") != tensors_sha256(tensors):
        raise UserError(f"the {what} {path} is damaged (its hash differs, or it has none){after}")
    return tensors, header
