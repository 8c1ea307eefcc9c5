"""Factors in the file format of the reference implementation (``kfac_factors_blk_….pt``).

Source: goodfire-ai/memorization_kfac: ``{"blk14.gate": {"A": [i, i], "G": [o, o], "n_tokens": n}, …}``, means over
positions.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...errors import UserError
from ...files import sha256
from ..targets import Target
from .factors import Factors


def read(path: Path, targets: Mapping[Target, torch.Size]) -> dict[Target, Factors]:
    """The factors of these matrices. Only tensors and plain values are unpickled.

    Args:
        path: path of the file.
        targets: the matrices, each with its shape [out, in].

    Raises:
        UserError: the file is missing, not of this format, or lacks a matrix.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        of_file = sha256(path)
    except pickle.UnpicklingError as error:
        raise UserError(f"the factors {str(path)!r} are no file of tensors and plain values alone") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"the factors {str(path)!r} cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise UserError(f"the factors {str(path)!r} are no dictionary: expected blk14.gate and the like")
    return {target: _factors(path, content, target, shape, of_file) for target, shape in targets.items()}


def _factors(path: Path, content: dict[str, Any], target: Target, shape: torch.Size, of_file: str) -> Factors:
    key = f"blk{target.layer}.{target.proj}"
    if key not in content:
        raise UserError(f"the factors {str(path)!r} have no {key!r}: expected some of {', '.join(map(str, content))}")
    try:
        A, G, n = content[key]["A"].float(), content[key]["G"].float(), int(content[key]["n_tokens"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{key!r} of {str(path)!r} is broken: expected A, G and n_tokens") from error
    for name, S in (("A", A), ("G", G)):
        if S.ndim != 2 or not bool(((S - S.T).abs() <= 1e-3 * S.abs().max()).all()):
            raise UserError(f"{key!r} of {str(path)!r} is broken: {name} is not symmetric and finite")
    if (len(G), len(A)) != shape:
        raise UserError(f"{key!r} of {str(path)!r} is {len(G)} x {len(A)}, expected {shape[0]} x {shape[1]}")
    return Factors({"aaT": A, "ggT": G}, n, imported=of_file)
