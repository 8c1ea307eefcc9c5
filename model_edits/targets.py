"""Which matrices an edit touches: layers and projections by name, in any decoder-only transformer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UserError, unknown

if TYPE_CHECKING:
    import torch

PROJECTIONS: dict[str, tuple[str, ...]] = {
    "gate": ("mlp.gate_proj",),
    "up": ("mlp.up_proj", "mlp.c_fc", "mlp.dense_h_to_4h"),
    "down": ("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h"),
    "q": ("self_attn.q_proj",),
    "k": ("self_attn.k_proj",),
    "v": ("self_attn.v_proj",),
    "o": ("self_attn.o_proj", "attn.c_proj", "attention.dense"),
}
"""Short name -> the modules of that role in a layer (Llama-like, GPT-2, GPT-NeoX)."""
MLP = ("gate", "up", "down")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One weight matrix.

    Attributes:
        module: the module's full name in the model.
        layer: its layer, from 0.
        proj: its role, a key of :data:`PROJECTIONS`.
        transposed: the stored weight is [in, out] (GPT-2's ``Conv1D``) instead of [out, in].
    """

    module: str
    layer: int
    proj: str
    transposed: bool

    @property
    def parameter(self) -> str:
        """The weight's full name in the model."""
        return f"{self.module}.weight"


def parse_layers(text: str) -> tuple[int, ...]:
    """``2``, ``0-3`` or ``0+2-3`` -> the layers, sorted.

    Raises:
        UserError: the text is not of that form, or a range is empty.
    """
    layers: set[int] = set()
    for part in text.split("+"):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise UserError(f"bad layers {text!r}: {part!r} found, expected layers or ranges below 10000, as in 0+2-3")
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


def format_layers(layers: Iterable[int]) -> str:
    """The shortest text that :func:`parse_layers` reads back."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return "+".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def parse_proj(text: str) -> tuple[str, ...]:
    """``gate+up`` or ``all`` (the three of the MLP) -> roles, in the order of :data:`PROJECTIONS`.

    Raises:
        UserError: a role does not exist.
    """
    asked = MLP if text == "all" else text.split("+")
    for proj in asked:
        if proj not in PROJECTIONS:
            raise unknown("projection", proj, [*PROJECTIONS, "all"])
    return tuple(proj for proj in PROJECTIONS if proj in asked)


def check_layers(layers: Iterable[int], n_layers: int) -> None:
    """Raise ``UserError`` where a layer is not one of the model's ``n_layers``."""
    for layer in layers:
        if layer >= n_layers:
            raise UserError(f"layer {layer} is out of range: the model has layers 0-{n_layers - 1}")


def find(model: torch.nn.Module, layers: Iterable[int], proj: Iterable[str]) -> tuple[Target, ...]:
    """The model's matrices of these layers and roles, in the model's order.

    Raises:
        UserError: a layer is out of range, or the architecture has no module of a role.
    """
    layers, proj = set(layers), list(proj)
    blocks, n_layers = _blocks(model)
    check_layers(layers, n_layers)
    roles = {suffix: role for role in proj for suffix in PROJECTIONS[role]}
    found = []
    for name, module in model.named_modules():
        prefix, _, rest = name.removeprefix(f"{blocks}.").partition(".")
        if not (name.startswith(f"{blocks}.") and prefix.isdigit() and int(prefix) in layers and rest in roles):
            continue
        transposed = type(module).__name__ == "Conv1D"
        found.append(Target(module=name, layer=int(prefix), proj=roles[rest], transposed=transposed))
    for role in proj:
        if all(target.proj != role for target in found):
            has = sorted({r for r, s in PROJECTIONS.items() for n, _ in model.named_modules() if n.endswith(s)})
            raise UserError(f"{type(model).__name__} has no projection {role!r}: expected some of {', '.join(has)}")
    return tuple(found)


def default_proj(model: torch.nn.Module) -> tuple[str, ...]:
    """``gate`` and ``up``, or ``up`` alone where the MLP has no gate.

    Raises:
        UserError: the model has neither.
    """
    modules = [name for name, _ in model.named_modules()]
    found = tuple(p for p in ("gate", "up") if any(name.endswith(PROJECTIONS[p]) for name in modules))
    if not found:
        raise UserError(f"{type(model).__name__} has no projection gate or up: expected a dense MLP")
    return found


def _blocks(model: Any) -> tuple[str, int]:
    """The name of the list of layers (the longest ``ModuleList`` that is not inside another), and its length."""
    lists = {name: len(m) for name, m in model.named_modules() if type(m).__name__ == "ModuleList"}
    outer = {n: size for n, size in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    if not outer:
        raise UserError(f"{type(model).__name__} has no list of layers: expected a decoder-only transformer")
    name = max(outer, key=lambda n: outer[n])
    return name, outer[name]
