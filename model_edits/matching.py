"""Functions of controls: the edit that a control is as large as, and random numbers of a matrix's own."""

from __future__ import annotations

import dataclasses
import hashlib

from ..errors import UserError
from . import spec as grammar
from .curvature.factors import Factors
from .edit import CurvatureEdit, MatrixEdit
from .lazy import torch
from .registry import build


def matched_edit(match: str, control: str, **options: str) -> MatrixEdit | CurvatureEdit:
    """The edit that a control removes as much as.

    Args:
        match: its spec, ``NAME-PERCENT``.
        control: the name of the control, which cannot match itself.
        options: values of keys that the edit is given if it has them.

    Raises:
        UserError: the text is no such spec, or the edit does not compute one matrix at a time.
    """
    spec = grammar.parse(match)
    if spec.options or spec.dial or spec.percent is None or spec.name in (control, "none"):
        raise UserError(f"bad match {match!r}: expected NAME-PERCENT of another edit, as in match=kfac-50")
    try:
        matched = build(spec)
    except UserError as error:
        raise UserError(f"bad match {match!r}: {error}") from error
    keys = {field.name for field in matched.option_fields()}
    given = tuple(sorted((key, value) for key, value in options.items() if key in keys))
    matched = build(dataclasses.replace(spec, options=given))
    if not isinstance(matched, MatrixEdit | CurvatureEdit):
        raise UserError(f"bad match {match!r}: expected an edit of one matrix at a time, as in match=kfac-50")
    return matched


def removed_by(
    edit: MatrixEdit | CurvatureEdit, weight: torch.Tensor, factors: Factors | None, name: str
) -> torch.Tensor:
    """What an edit removes from a matrix [out, in].

    Args:
        edit: the edit.
        weight: the matrix, float32 or wider.
        factors: its curvature, for an edit that needs it.
        name: its name.
    """
    if isinstance(edit, MatrixEdit):
        return weight - edit.new_weight(weight, name).weight
    assert factors is not None
    return weight - edit.new_weight(weight, factors, name).weight


def generator(seed: int, name: str) -> torch.Generator:
    """Random numbers of one matrix, on the CPU: those of another seed or name are independent of them."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
