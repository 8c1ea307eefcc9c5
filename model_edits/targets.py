"""The matrices that an edit changes, by layer and projection, in any decoder-only transformer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import UserError, unknown
from .lazy import torch

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
EXPERTS = "mlp.experts"
FUSED: dict[str, tuple[str, int | None]] = {
    "gate": ("gate_up_proj", 0),
    "up": ("gate_up_proj", 1),
    "down": ("down_proj", None),
}
"""Short name -> the weight of a mixture of experts that holds it, and which half of its rows."""


class Slice(NamedTuple):
    """One expert's matrix inside a weight [experts, out, in] that holds all of them, gate above up.

    Attributes:
        parameter: the full name of the weight that holds it.
        expert: its index.
        half: the rows: 0 the upper half (gate), 1 the lower one (up), ``None`` all (down).
    """

    parameter: str
    expert: int
    half: int | None


@dataclass(frozen=True, kw_only=True)
class Target:
    """One weight matrix.

    Attributes:
        name: full name of its module; for an expert, the name that its module would have if it had one.
        layer: index of its layer, from 0.
        proj: its role, a key of :data:`PROJECTIONS`; of another linear map, its module's name within the layer.
        transposed: whether the stored weight is [in, out] (GPT-2's ``Conv1D``) instead of [out, in].
        part: its place in the weight of a mixture of experts; ``None`` for the weight of a module.
    """

    name: str
    layer: int
    proj: str
    transposed: bool = False
    part: Slice | None = None

    @property
    def parameter(self) -> str:
        """The full name of the parameter that contains the matrix."""
        return self.part.parameter if self.part else f"{self.name}.weight"

    def view(self, stored: torch.Tensor) -> torch.Tensor:
        """The matrix [out, in], a view of the stored weight."""
        if self.part is None:
            return stored.T if self.transposed else stored
        matrix = stored[self.part.expert]
        return matrix if self.part.half is None else matrix.chunk(2)[self.part.half]

    def matrix(self, model: torch.nn.Module) -> torch.Tensor:
        """The model's matrix [out, in], in float32 or wider."""
        W_oi = self.view(model.get_parameter(self.parameter).detach())
        return W_oi if W_oi.element_size() > 4 else W_oi.float()


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
    named = MLP if text == "all" else text.split("+")
    for proj in named:
        if proj not in PROJECTIONS:
            raise unknown("projection", proj, [*PROJECTIONS, "all"])
    return tuple(proj for proj in PROJECTIONS if proj in named)


def check_layers(layers: Iterable[int], n_layers: int) -> None:
    """Raise ``UserError`` if a layer is not below ``n_layers``."""
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
    everything = [target for target in _all(model, blocks) if target.layer in layers]
    found = tuple(target for target in everything if target.proj in proj)
    for role in proj:
        if all(target.proj != role for target in found):
            has = sorted({target.proj for target in everything})
            raise UserError(f"{type(model).__name__} has no projection {role!r}: expected some of {', '.join(has)}")
    return found


def linear_maps(model: torch.nn.Module) -> tuple[Target, ...]:
    """Every linear map of the model's layers, in the model's order: of attention, MLPs and experts.

    Embeddings, output heads and norms are none of them, nor is a router that is no module ``Linear``.

    Raises:
        UserError: the model has none, or keeps its experts in a layout that is not known.
    """
    blocks, _ = _blocks(model)
    found = tuple(_all(model, blocks, others=True))
    unread = [n for n, m in model.named_modules() if n.endswith(f".{EXPERTS}") and _stacked(m) and not _fused(m)]
    if unread or not found:
        what = f"the experts of {unread[0]} in a layout that is not known" if unread else "no linear map in its layers"
        raise UserError(f"{type(model).__name__} has {what}: expected layers=… and proj=…, to choose matrices")
    return found


def default_proj(model: torch.nn.Module) -> tuple[str, ...]:
    """``gate`` and ``up``, or ``up`` alone if the MLP has no gate.

    Raises:
        UserError: the model has neither.
    """
    roles = {target.proj for target in _all(model, _blocks(model)[0])}
    found = tuple(p for p in ("gate", "up") if p in roles)
    if not found:
        raise UserError(f"{type(model).__name__} has no projection gate or up: expected an MLP of one of these roles")
    return found


def _all(model: torch.nn.Module, blocks: str, *, others: bool = False) -> Iterator[Target]:
    """Every matrix of a known role, in the model's order; with ``others`` every other linear map of a layer too."""
    roles = {suffix: role for role, suffixes in PROJECTIONS.items() for suffix in suffixes}
    for name, module in model.named_modules():
        layer, _, rest = name.removeprefix(f"{blocks}.").partition(".")
        if not (name.startswith(f"{blocks}.") and layer.isdigit()):
            continue
        transposed = type(module).__name__ == "Conv1D"
        if rest in roles or (others and (transposed or isinstance(module, torch.nn.Linear))):
            yield Target(name=name, layer=int(layer), proj=roles.get(rest, rest), transposed=transposed)
        elif rest == EXPERTS and _fused(module):
            for expert in range(module.get_parameter("down_proj").shape[0]):
                for role, (stored, half) in FUSED.items():
                    part = Slice(f"{name}.{stored}", expert, half)
                    yield Target(name=f"{name}.{expert}.{role}_proj", layer=int(layer), proj=role, part=part)


def _stacked(experts: torch.nn.Module) -> bool:
    """Whether a module holds weights of several experts in one tensor."""
    return any(parameter.ndim > 2 for parameter in experts.parameters(recurse=False))


def _fused(experts: Any) -> bool:
    """Whether a module holds its experts as gate above up [experts, 2 out, in] and down [experts, out, in]."""
    stored = dict(experts.named_parameters(recurse=False))
    plain = getattr(experts, "is_concatenated", False) and not getattr(experts, "is_transposed", True)
    return plain and {"gate_up_proj", "down_proj"} <= stored.keys()


def _blocks(model: Any) -> tuple[str, int]:
    """The name of the list of layers (the longest ``ModuleList`` that is not inside another), and its length."""
    lists = {name: len(m) for name, m in model.named_modules() if type(m).__name__ == "ModuleList"}
    outer = {n: size for n, size in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    if not outer:
        raise UserError(f"{type(model).__name__} has no list of layers: expected a decoder-only transformer")
    name = max(outer, key=lambda n: outer[n])
    return name, outer[name]
