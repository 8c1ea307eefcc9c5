"""The matrices that an edit changes, by layer and projection, in any decoder-only transformer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ..errors import UserError
from .architecture.linear_maps import (
    blocks,
    expert_counts,
    is_linear,
    maps_of,
    quantization,
    text_config,
)
from .architecture.roles import SHARED, Role, Rows, roles_of
from .lazy import torch
from .target_names import ROLES, SETS, format_layers, resolve_layers


class Part(NamedTuple):
    """Where a matrix lies in a weight that holds several.

    Attributes:
        parameter: full name of the weight.
        expert: index along the first dimension of a weight [experts, …]; ``None`` for a weight of two dimensions.
        rows: its rows among those of the matrix that is left; ``None`` stands for all.
    """

    parameter: str
    expert: int | None = None
    rows: Rows | None = None


@dataclass(frozen=True, kw_only=True)
class Target:
    """One weight matrix.

    Attributes:
        name: full name of its module; of an expert, the name that its module would have if it had one; of the rows of
            a fused map, the module's with the role behind.
        layer: index of its layer, from 0.
        proj: its role, one of ``target_names.ROLES``; of another linear map, its module's name within the layer.
        transposed: whether the stored weight is [in, out] (GPT-2's ``Conv1D``, some experts) instead of [out, in].
        part: its place in a weight that holds several matrices; ``None`` for all of a module's weight.
        part_of: the set of ``target_names.SETS`` that it belongs to; empty for another linear map.
        divided: whether it is all of a fused map, whose parts are targets too.
        fault: why it is no floating matrix that can be edited; empty if it is.
    """

    name: str
    layer: int
    proj: str
    transposed: bool = False
    part: Part | None = None
    part_of: str = ""
    divided: bool = False
    fault: str = ""

    @property
    def parameter(self) -> str:
        """The full name of the parameter that contains the matrix."""
        return self.part.parameter if self.part else f"{self.name}.weight"

    @property
    def whole(self) -> bool:
        """Whether the matrix is all of the parameter."""
        return not self.part or self.part[1:] == (None, None)

    @property
    def module(self) -> str:
        """The full name of the module that multiplies with it; of an expert, the name that stands for it."""
        return self.name if self.whole or self.expert is not None else self.name.rpartition(".")[0]

    @property
    def expert(self) -> int | None:
        """The index of the expert that the matrix is of; ``None`` for the matrix of a module."""
        return self.part.expert if self.part else None

    def view(self, stored: torch.Tensor) -> torch.Tensor:
        """The matrix [out, in] in the stored weight: a view, or a copy where its rows lie apart (see :meth:`put`)."""
        whole_oi = self._whole(stored)
        return self.part.rows.of(whole_oi).flatten(0, 1) if self.part and self.part.rows else whole_oi

    def put(self, stored: torch.Tensor, matrix_oi: torch.Tensor) -> None:
        """Write the matrix [out, in] into its place in the stored weight."""
        if self.part and self.part.rows:
            place = self.part.rows.of(self._whole(stored))
            place.copy_(matrix_oi.reshape(place.shape))
        else:
            self._whole(stored).copy_(matrix_oi)

    def _whole(self, stored: torch.Tensor) -> torch.Tensor:
        """The matrix [out, in] whose rows it has."""
        matrix = stored if self.expert is None else stored[self.expert]
        return matrix.T if self.transposed else matrix

    def matrix(self, model: torch.nn.Module) -> torch.Tensor:
        """The model's matrix [out, in], in float32 or wider."""
        W_oi = self.view(model.get_parameter(self.parameter).detach())
        return W_oi if W_oi.element_size() > 4 else W_oi.float()


def layer_count(model: torch.nn.Module) -> int:
    """The number of blocks of the model's text decoder.

    Raises:
        UserError: it has no list of blocks.
    """
    return len(blocks(model)[1])


def find(model: torch.nn.Module, layers: Iterable[int], proj: Iterable[str]) -> tuple[Target, ...]:
    """The model's matrices of these layers and projections, in the model's order.

    A module that several layers share is a target of the first of these layers alone. A fused map that a glob chooses
    is one matrix, whatever of its rows are chosen beside it.

    Args:
        model: the model.
        layers: the layers, negative ones counted from the end; or ``(EVERY,)``.
        proj: roles, sets of roles and globs (see ``target_names.parse_proj``). Of a set, those that the layers have.

    Raises:
        UserError: a layer is out of range, no matrix fits an item of ``proj``, or a matrix is not floating.
    """
    layers, proj = resolve_layers(layers, layer_count(model)), list(proj)
    everything = list(_unshared(model, (target for target in _all(model) if target.layer in layers)))
    chosen: set[Target] = set()
    for item in proj:
        matching = {target for target in everything if _matches(target, item)}
        if not matching:
            raise UserError(
                f"{type(model).__name__} has no projection {item!r}: {_expected(model, everything, layers)}"
            )
        chosen |= matching
    wholes = {target.parameter for target in chosen if target.whole}
    kept = (t for t in everything if t in chosen and (t.whole or t.parameter not in wholes))
    return tuple(_editable(model, target) for target in kept)


def linear_maps(model: torch.nn.Module) -> tuple[Target, ...]:
    """Every linear map of the model's layers, in the model's order: of attention, MLPs and experts; fused ones whole.

    Embeddings, output heads and norms are none of them, nor is a router that is no module ``Linear``.

    Raises:
        UserError: the model has none, keeps its experts in a layout that is not known, or one is not floating.
    """
    found = [target for target in _unshared(model, _all(model)) if target.whole or target.expert is not None]
    known = {target.parameter for target in found}
    unread = [name for name, parameter in _of_experts(model) if name not in known]
    if unread or not found:
        owner = unread[0].rpartition(".")[0] if unread else ""
        what = f"the experts of {owner} in a layout that is not known" if unread else "no linear map in its layers"
        raise UserError(f"{type(model).__name__} has {what}: expected layers=… and proj=…, to choose matrices")
    return tuple(_editable(model, target) for target in found)


def default_proj(model: torch.nn.Module, layers: Iterable[int] | None = None) -> tuple[str, ...]:
    """``gate`` and ``up``, or ``up`` alone if the MLPs of these layers (by default of all) have no gate.

    Raises:
        UserError: they have neither.
    """
    among = range(layer_count(model)) if layers is None else resolve_layers(layers, layer_count(model))
    everything = [target for target in _all(model) if target.layer in among]
    found = tuple(p for p in ("gate", "up") if any(target.proj == p for target in everything))
    if not found:
        expected = _expected(model, everything, among)
        raise UserError(f"{type(model).__name__} has no projection gate or up, which are edited by default: {expected}")
    return found


def left_out(model: torch.nn.Module, layers: Iterable[int], proj: Sequence[str]) -> tuple[str, ...]:
    """Of these layers the roles of shared experts that would be edited as well, if ``proj`` named them."""
    among = resolve_layers(layers, layer_count(model))
    there = {target.proj for target in _all(model) if target.layer in among}
    return tuple(f"{SHARED}{each}" for each in proj if f"{SHARED}{each}" in there)


def _matches(target: Target, item: str) -> bool:
    """Whether a matrix is of a role or of a set, or the glob fits its name or its name within the layer.

    A fused map belongs to a set as a whole only where it is not divided.
    """
    if item in SETS:
        return target.part_of == item and not target.divided
    if item in ROLES:
        return target.proj == item
    within = target.name.partition(f".{target.layer}.")[2]
    return fnmatchcase(target.name, item) or fnmatchcase(within, item)


def _expected(model: torch.nn.Module, targets: Sequence[Target], layers: Sequence[int]) -> str:
    """What there is, for errors: roles, and the names of the maps for which none can be told."""
    named = [role for role in ROLES if any(target.proj == role for target in targets)]
    others = sorted({t.proj if "." in t.proj else f"*.{t.proj}" for t in targets if t.proj not in ROLES})
    where = f"layers {format_layers(layers)} have" if len(layers) > 1 else f"layer {format_layers(layers)} has"
    quantized = f"; its weights are quantized by {method}" if (method := quantization(model)) else ""
    return f"expected some of {', '.join([*named, *others]) or 'nothing'}, which {where}{quantized}"


def _editable(model: torch.nn.Module, target: Target) -> Target:
    """The target itself, if its weight is a floating matrix."""
    if target.fault:
        raise UserError(
            f"{type(model).__name__} cannot be edited: {target.name} {target.fault}; expected a model that is not "
            "quantized, or --dequantize: weights [out, in] in float16, bfloat16 or float32"
        )
    return target


def _unshared(model: torch.nn.Module, targets: Iterable[Target]) -> Iterator[Target]:
    """The targets, but each matrix once: of those that layers share, the first, by the parameter's own name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen: set[object] = set()
    for target in targets:
        if target.fault:
            yield target
            continue
        parameter = names[id(model.get_parameter(target.parameter))]
        place = target.part[1:] if target.part else (None, None)
        if (parameter, place) not in seen:
            seen.add((parameter, place))
            shared = parameter != target.parameter
            yield dataclasses.replace(target, part=Part(parameter, *place)) if shared else target


def _all(model: Any) -> Iterator[Target]:
    """Every matrix of every layer, in the model's order; a fused map whole, and then its parts."""
    name, layers = blocks(model)
    config = text_config(model)
    hidden = getattr(config, "hidden_size", None) or model.get_input_embeddings().embedding_dim
    quantized, experts = quantization(model), expert_counts(config)
    for layer, block in enumerate(layers):
        maps = list(maps_of(block, f"{name}.{layer}", quantized, experts))
        stacks: dict[str, list[Role]] = {}
        for role in (found := roles_of(block, maps, config, hidden)):
            if role.map.experts:
                stacks.setdefault(role.map.container, []).append(role)
        for role in found:
            if not role.map.experts:
                yield from _of_module(role, layer)
            else:
                yield from _of_stack(stacks.pop(role.map.container, ()), layer)


def _of_module(role: Role, layer: int) -> Iterator[Target]:
    """The matrix of a module, and its parts if it holds several."""
    whole = functools.partial(
        Target, layer=layer, transposed=role.map.transposed, part_of=role.part_of, fault=role.map.fault
    )
    single, divided = role.roles[0][0] if len(role.roles) == 1 else role.map.path, len(role.roles) > 1
    yield whole(name=role.map.name, proj=single, divided=divided)
    if divided:
        for proj, rows in role.roles:
            yield whole(name=f"{role.map.name}.{proj}", proj=proj, part=Part(role.map.parameter, None, rows))


def _of_stack(roles: Sequence[Role], layer: int) -> Iterator[Target]:
    """The matrices of experts, one expert after the other."""
    for expert in range(roles[0].map.experts if roles else 0):
        for role in roles:
            stem = f"{role.map.block}.{role.map.container}.{expert}".replace("..", ".")
            for proj, rows in role.roles:
                yield Target(
                    name=f"{stem}.{proj}_proj",
                    layer=layer,
                    proj=proj,
                    transposed=role.map.transposed,
                    part=Part(role.map.parameter, expert, rows),
                    part_of=role.part_of,
                )


def _of_experts(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The weights that modules of experts hold, other than those of modules that are linear maps."""
    name, _ = blocks(model)
    for path, module in model.get_submodule(name).named_modules():
        if any("experts" in part for part in path.split(".")) and not is_linear(module):
            for parameter, weight in module.named_parameters(recurse=False):
                if weight.ndim > 1 and "bias" not in parameter:
                    yield f"{name}.{path}.{parameter}", weight
