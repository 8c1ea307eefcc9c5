"""The linear maps in the blocks of a model's text decoder: modules, and the stacked weights of experts.

What is a linear map is told by what a module holds, not by its name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import UserError
from ..lazy import torch


@dataclass(frozen=True, kw_only=True)
class LinearMap:
    """One weight of a block that maps inputs to outputs, or one tensor of such weights for several experts.

    Attributes:
        block: full name of its block.
        path: name within the block, of its module; of a tensor that a module of experts holds, the tensor's name.
        parameter: full name of its weight.
        fan_out: number of outputs.
        fan_in: number of inputs.
        transposed: whether the weight is stored as [in, out] (GPT-2's ``Conv1D``, some experts).
        experts: how many experts the tensor holds, along its first dimension; 0 for the weight of a module.
        declared: whether the module that holds the tensor says how it is stored.
        interleaved: whether the rows of gate and up alternate, where one tensor holds both.
        fault: why the weight is no floating [out, in] matrix that the module multiplies with; empty if it is one.
    """

    block: str
    path: str
    parameter: str
    fan_out: int
    fan_in: int
    transposed: bool = False
    experts: int = 0
    declared: bool = False
    interleaved: bool = False
    fault: str = ""

    @property
    def name(self) -> str:
        """The full name."""
        return f"{self.block}.{self.path}"

    @property
    def leaf(self) -> str:
        """The last part of the name."""
        return self.path.rpartition(".")[2]

    @property
    def container(self) -> str:
        """The name, within the block, of the module that it is in; empty for the block itself."""
        return self.path.rpartition(".")[0]


def blocks(model: Any) -> tuple[str, Any]:
    """The list of blocks of the model's text decoder, and its full name: the longest ``ModuleList`` in no other one.

    Raises:
        UserError: there is none.
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    start = next((name for name, module in model.named_modules() if module is decoder), "")
    lists = {
        ".".join(filter(None, (start, name))): module
        for name, module in decoder.named_modules()
        if type(module).__name__ == "ModuleList"
    }
    outer = {n: each for n, each in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    if not outer:
        raise UserError(f"{type(model).__name__} has no list of layers: expected a decoder-only transformer")
    name = max(outer, key=lambda n: len(outer[n]))
    return name, outer[name]


def quantization(model: Any) -> str:
    """The quantization method that the model's config tells; empty if it tells none."""
    settings = getattr(getattr(model, "config", None), "quantization_config", None)
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    return str(getattr(method, "value", method) or "")


def maps_of(block: torch.nn.Module, name: str, quantized: str = "") -> Iterator[LinearMap]:
    """The linear maps of one block, in the model's order; modules that several blocks share are in each of them.

    Args:
        block: the block.
        name: its full name.
        quantized: the quantization method that the model's config tells, for the reason of a fault.
    """
    for path, module in block.named_modules(remove_duplicate=False):
        if is_linear(module):
            yield _of_module(module, name, path, quantized)
        elif not _is_convolution(module):
            yield from _stacked(module, name, path)


def is_linear(module: Any) -> bool:
    """Whether a module is ``Conv1D``, or ``Linear`` or another with ``in_features`` and ``out_features``.

    A module whose class is called a router is none, although Llama 4's is a ``Linear``: it gives out scores.
    """
    if "router" in type(module).__name__.lower():
        return False
    widths = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    return type(module).__name__ == "Conv1D" or all(isinstance(width, int) for width in widths)


def holds_convolution(module: torch.nn.Module) -> bool:
    """Whether a convolution is among a module's children."""
    return any(map(_is_convolution, module.children()))


def _is_convolution(module: Any) -> bool:
    return isinstance(module, torch.nn.modules.conv._ConvNd)


def _of_module(module: Any, block: str, path: str, quantized: str) -> LinearMap:
    transposed = type(module).__name__ == "Conv1D"
    weight: Any = getattr(module, "weight", None)
    fan_in, fan_out = tuple(weight.shape) if transposed else (module.in_features, module.out_features)
    shape = (fan_in, fan_out) if transposed else (fan_out, fan_in)
    return LinearMap(
        block=block,
        path=path,
        parameter=f"{block}.{path}.weight",
        fan_out=fan_out,
        fan_in=fan_in,
        transposed=transposed,
        fault=_fault(weight, shape, quantized),
    )


def _fault(weight: Any, shape: tuple[int, ...], quantized: str) -> str:
    """Why a weight is not floating, of this shape, and all that its module multiplies with; empty if it is."""
    by = f", quantized by {quantized}" if quantized else ""
    if not isinstance(weight, torch.nn.Parameter):
        return f"has no weight of its own{by}"
    if type(weight.data) is not torch.Tensor:
        return f"has weights of the type {type(weight.data).__name__}{by}"
    if weight.dtype not in _floating():
        return f"has {str(weight.dtype).removeprefix('torch.')} weights{by}"
    if tuple(weight.shape) != shape:
        return f"has weights {list(weight.shape)} for a matrix {list(shape)}{by}"
    return ""


@functools.cache
def _floating() -> frozenset[torch.dtype]:
    """Types whose values are the weights, without a scale beside them."""
    return frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))


def _stacked(module: Any, block: str, path: str) -> Iterator[LinearMap]:
    """The tensors [experts, …] that a module holds, as if they were [experts, out, in] unless the module says not."""
    transposed = bool(getattr(module, "is_transposed", False))
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.ndim != 3 or "bias" in name or parameter.shape[0] < 2 or parameter.dtype not in _floating():
            continue
        experts, *shape = parameter.shape
        fan_in, fan_out = shape if transposed else reversed(shape)
        yield LinearMap(
            block=block,
            path=path if name == "weight" else f"{path}.{name}",
            parameter=f"{block}.{path}.{name}",
            fan_out=fan_out,
            fan_in=fan_in,
            transposed=transposed,
            experts=experts,
            declared=hasattr(module, "is_transposed"),
            interleaved=not getattr(module, "is_concatenated", True),
        )
