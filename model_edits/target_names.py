"""The text of ``layers=…`` and ``proj=…`` in a spec: which words there are, and their canonical form."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import UserError, unknown

MLP_ROLES = ("gate", "up", "down")
ROLES = (*MLP_ROLES, *(f"shared_{role}" for role in MLP_ROLES), "q", "k", "v", "o")
"""What a matrix does in its layer: in the MLP or in each expert of a mixture, in an expert that all positions share, in
attention."""
SETS = ("mlp", "attn")
"""All matrices of the MLP, shared experts included, and all of attention, also those that have no role."""
ALL = "all"
EVERY = -10_000
"""Stands for all layers (``layers=all``) in a tuple of layers, of which the model's number is not known yet."""
_GLOB = re.compile(r"[A-Za-z0-9_.*?\[\]!-]*[.*?\[][A-Za-z0-9_.*?\[\]!-]*")


def parse_layers(text: str) -> tuple[int, ...]:
    """``2``, ``0-3``, ``0+2-3``, ``-1`` (the last), ``-3--1`` or ``all`` -> the layers, sorted.

    Negative layers are counted from the end. ``all`` is ``(EVERY,)``.

    Raises:
        UserError: the text is not of that form, or a range is empty or has ends of both kinds.
    """
    if text == ALL:
        return (EVERY,)
    layers: set[int] = set()
    for part in text.split("+"):
        match = re.fullmatch(r"(-?[0-9]{1,4})(?:-(-?[0-9]{1,4}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or (first < 0 <= last):
            raise UserError(
                f"bad layers {text!r}: {part!r} found, expected layers or ranges below 10000, as in 0+2-3, -1 for the "
                "last, or all"
            )
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


def format_layers(layers: Iterable[int]) -> str:
    """The shortest text that :func:`parse_layers` reads back."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if layer == EVERY:
            return ALL
        if runs and layer == runs[-1][1] + 1 != 0:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return "+".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def resolve_layers(layers: Iterable[int], n_layers: int) -> tuple[int, ...]:
    """The layers as numbers from 0, sorted.

    Raises:
        UserError: a layer is not below ``n_layers``, or is counted from further than the first.
    """
    found: set[int] = set()
    for layer in layers:
        if layer == EVERY:
            return tuple(range(n_layers))
        if not -n_layers <= layer < n_layers:
            raise UserError(f"layer {layer} is out of range: the model has layers 0-{n_layers - 1}")
        found.add(layer % n_layers)
    return tuple(sorted(found))


def parse_proj(text: str) -> tuple[str, ...]:
    """``gate+up``, ``mlp``, ``all`` (gate, up and down) or ``*.fc1`` -> roles, sets of them, and globs, in this order.

    A glob fits the full name of a linear map's module or its name within the layer; a word with a ``.`` is one too.

    Raises:
        UserError: an item is neither a role, nor a set, nor a glob.
    """
    named = [word for item in text.split("+") for word in (MLP_ROLES if item == ALL else (item,))]
    known = (*ROLES, *SETS)
    for item in named:
        if item not in known and not _GLOB.fullmatch(item):
            raise unknown("projection", item, [*known, ALL, "a glob of module names"])
    return (*(item for item in known if item in named), *sorted({item for item in named if item not in known}))
