"""The linear maps in the blocks of a model's text decoder: modules, and the stacked weights of experts.

What is a linear map is told by what a module holds, not by its name.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import UserError
from ..lazy import torch

TOWERS = ("vision", "visual", "image", "audio", "speech", "patcher")
"""Words in the names of modules that read something else than the decoder's text, or cut it into patches."""


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
    """The list of blocks of the model's text decoder, and its full name.

    Of the ``ModuleList`` that lie in no other one it is one as long as the text decoder's configuration says, else the
    longest; of several, that with the most weights. Towers that read something else are left out by their names
    (:data:`TOWERS`), and so is an encoder beside a decoder.

    Raises:
        UserError: there is none.
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    lists = _lists(decoder, next((name for name, module in model.named_modules() if module is decoder), ""))
    lists = lists or _lists(model, "")
    if any("decoder" in name for name in lists):
        lists = {name: each for name, each in lists.items() if "encoder" not in name} or lists
    if not lists:
        raise UserError(f"{type(model).__name__} has no list of layers: expected a decoder-only transformer")
    depth = getattr(text_config(model), "num_hidden_layers", None)

    def fits(name: str) -> tuple[bool, int, int]:
        length = len(lists[name])
        return length == depth, length, sum(parameter.numel() for parameter in lists[name].parameters())

    name = max(lists, key=fits)
    return name, lists[name]


def _lists(module: torch.nn.Module, start: str) -> dict[str, Any]:
    """The lists of modules that lie in no other one and in no tower, by their full names."""
    names = {".".join(filter(None, (start, name))): each for name, each in module.named_modules()}
    lists = {name: each for name, each in names.items() if type(each).__name__ == "ModuleList"}
    outer = {n: each for n, each in lists.items() if not any(n.startswith(f"{other}.") for other in lists)}
    return {n: each for n, each in outer.items() if not any(word in n.lower() for word in TOWERS)}


def text_config(model: Any) -> Any:
    """The configuration of the model's text decoder; the model's own where it is not nested."""
    config: Any = getattr(model, "config", None)
    return config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config


def quantization(model: Any) -> str:
    """The quantization method that the model's config tells; empty if it tells none."""
    settings = getattr(getattr(model, "config", None), "quantization_config", None)
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    return str(getattr(method, "value", method) or "")


def maps_of(
    block: torch.nn.Module, name: str, quantized: str = "", experts: Collection[int] = ()
) -> Iterator[LinearMap]:
    """The linear maps of one block, in the model's order; modules that several blocks share are in each of them.

    Args:
        block: the block.
        name: its full name.
        quantized: the quantization method that the model's config tells, for the reason of a fault.
        experts: the numbers of experts that the model's config tells.
    """
    for path, module in block.named_modules(remove_duplicate=False):
        if is_linear(module):
            yield _of_module(module, name, path, quantized)
        elif not _is_convolution(module):
            yield from _stacked(module, name, path, experts)


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


def expert_counts(config: Any) -> frozenset[int]:
    """The numbers of experts in a configuration: its fields with ``expert`` in their names, but not those per token."""
    told = config.to_dict() if hasattr(config, "to_dict") else {}
    values = [value for name, value in told.items() if "expert" in name and "per_tok" not in name]
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return frozenset(each for each in flat if type(each) is int)


def _stacked(module: Any, block: str, path: str, counts: Collection[int]) -> Iterator[LinearMap]:
    """The tensors [experts, …] that a module holds, as if they were [experts, out, in] unless the module says not.

    A tensor of three dimensions is one of experts if there are so many, or its name says so: in XLNet it is
    [width, heads, head width].
    """
    transposed = bool(getattr(module, "is_transposed", False))
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.ndim != 3 or "bias" in name or parameter.shape[0] < 2 or parameter.dtype not in _floating():
            continue
        experts, *shape = parameter.shape
        if experts not in counts and not any(word in f"{path}.{name}".lower() for word in ("expert", "moe")):
            continue
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
