"""Hooks that add the inputs and gradients of a model's matrices to running sums.

Shapes: n = positions, i = in, o = out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..targets import Target
from .sums import Sums

_Sinks = list[tuple[Sums, int | None]]
"""The sums that one product is added to, each with the half of the outputs that is its matrix's (``None``: all)."""


@contextmanager
def watched(model: Any, targets: Sequence[Target], sums: Mapping[str, Sums]) -> Iterator[None]:
    """Add to the sums whenever the model uses a target: by hooks on modules, and for experts by watching products.

    Inside the context experts are computed one after the other, each by a product with its own part of the weights.
    """
    experts: dict[int, _Sinks] = {}
    with ExitStack() as stack:
        for target in targets:
            if target.part:
                start = model.get_parameter(target.parameter)[target.part.expert].data_ptr()
                experts.setdefault(start, []).append((sums[target.name], target.part.half))
            else:
                hook = _hook([(sums[target.name], None)])
                stack.callback(model.get_submodule(target.name).register_forward_hook(hook).remove)
        if experts:
            before = model.get_experts_implementation()
            model.set_experts_implementation("eager")
            stack.callback(model.set_experts_implementation, before)
            stack.enter_context(_Products(experts))
        yield


class _Products(TorchFunctionMode):
    """Watches ``linear`` for weights that begin at given addresses."""

    def __init__(self, sinks: Mapping[int, _Sinks]) -> None:
        super().__init__()
        self.sinks = sinks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, and watch it if it is such a product."""
        output = func(*args, **(kwargs or {}))
        if func is torch.nn.functional.linear:
            inputs, weight = (args + tuple((kwargs or {}).values()))[:2]
            if sinks := self.sinks.get(weight.data_ptr()):
                _feed(sinks, inputs, output)
        return output


def _hook(sinks: _Sinks) -> Any:
    return lambda module, inputs, output: _feed(sinks, inputs[0], output)


def _feed(sinks: _Sinks, inputs: torch.Tensor, output: torch.Tensor) -> None:
    """Add inputs and gradients to the sums in each backward pass; without gradients, the inputs at once.

    The output of the lowest target becomes a leaf of the graph.
    """
    a_ni = inputs.detach().flatten(0, -2).float()
    draw = itertools.count()
    if not torch.is_grad_enabled():
        for sums, _ in sinks:
            sums.add(a_ni, a_ni[:, :0])
        return

    def backward(grad: torch.Tensor) -> None:
        g_no = grad.flatten(0, -2).float()
        again = next(draw) > 0
        for sums, half in sinks:
            sums.add(a_ni, g_no if half is None else g_no.chunk(2, -1)[half], again=again)

    if not output.requires_grad:
        output.requires_grad_()
    output.register_hook(backward)  # type: ignore[no-untyped-call]  # torch leaves it untyped
