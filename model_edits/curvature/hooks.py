"""Hooks that add the inputs and gradients of a model's matrices to running sums.

Shapes: n = positions, i = in, o = out, e = experts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ..architecture.roles import Rows
from ..targets import Target
from .sums import Sums

_Sinks = list[tuple[Sums, Rows | None]]
"""The sums that one product is added to, each with the outputs that are its matrix's (``None``: all)."""
_PRODUCTS = (
    torch.nn.functional.linear,
    *(torch.matmul, torch.mm, torch.bmm),
    *(torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.mm, torch.Tensor.bmm),
)


@contextmanager
def watched(model: Any, targets: Sequence[Target], sums: Mapping[str, Sums]) -> Iterator[None]:
    """Add to the sums whenever the model uses a target: by hooks on modules, and for experts by watching products.

    Where gradients are wanted, what the model computes without them on its own account is passed over (an indexer that
    chooses positions, the first cycles of a recurrent depth): nothing is trained by it. So is a module that does not
    multiply with all of its weight, as one of groups does.

    Inside the context experts are computed one after the other, each by a product with its own part of the weights, or
    all by one batched product.
    """
    gradients = torch.is_grad_enabled()
    modules: dict[int, _Sinks] = {}
    stacks: dict[int, dict[int, _Sinks]] = {}
    for target in targets:
        parameter, rows = model.get_parameter(target.parameter), target.part.rows if target.part else None
        if target.expert is None:
            sinks = modules.setdefault(id(parameter), [])
        else:
            sinks = stacks.setdefault(id(parameter), {}).setdefault(target.expert, [])
        sinks.append((sums[target.name], rows))
    with ExitStack() as stack:
        for module in model.modules() if modules else ():
            if sinks := modules.get(id(getattr(module, "weight", None)), []):
                stack.callback(module.register_forward_hook(_hook(sinks, gradients)).remove)
        if stacks:
            before = model.get_experts_implementation()
            model.set_experts_implementation("eager")
            stack.callback(model.set_experts_implementation, before)
            stack.enter_context(_Products({p: stacks[id(p)] for p in model.parameters() if id(p) in stacks}, gradients))
        yield


class _Products(TorchFunctionMode):
    """Watches products with stacked weights [experts, …], or with the part of one expert."""

    def __init__(self, stacks: Mapping[torch.nn.Parameter, Mapping[int, _Sinks]], gradients: bool) -> None:
        super().__init__()
        self.gradients = gradients
        self.stacks = {weight.data_ptr(): sinks for weight, sinks in stacks.items()}
        self.parts = {weight[e].data_ptr(): sinks[e] for weight, sinks in stacks.items() for e in sinks}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, and watch it if it is such a product."""
        output = func(*args, **(kwargs or {}))
        if func not in _PRODUCTS or (self.gradients and not torch.is_grad_enabled()):
            return output
        inputs, weight = (args + tuple((kwargs or {}).values()))[:2]
        if weight.ndim == 3 and (stack := self.stacks.get(weight.data_ptr())):
            return torch.stack([_feed_routed(stack.get(e, []), inputs[e], output[e]) for e in range(len(weight))])
        if weight.ndim == 2 and (sinks := self.parts.get(weight.data_ptr())):
            return _feed(sinks, inputs.detach().flatten(0, -2).float(), output)
        return output


def _hook(sinks: _Sinks, gradients: bool) -> Any:
    def hook(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        whole = sorted((inputs[0].shape[-1], output.shape[-1])) == sorted(module.weight.shape)
        if not whole or (gradients and not torch.is_grad_enabled()):
            return output
        return _feed(sinks, inputs[0].detach().flatten(0, -2).float(), output)

    return hook


def _feed_routed(sinks: _Sinks, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """As :func:`_feed`, of an expert that is given all positions, with inputs of 0 where it is not asked."""
    a_ni = inputs.detach().flatten(0, -2).float()
    return _feed(sinks, a_ni, output, a_ni.any(dim=-1))


def _feed(sinks: _Sinks, a_ni: torch.Tensor, output: torch.Tensor, asked_n: torch.Tensor | None = None) -> torch.Tensor:
    """Add inputs and gradients to the sums in each backward pass; without gradients, the inputs at once.

    The output of the lowest target becomes a leaf of the graph.

    Returns:
        What takes the output's place: a copy of such a leaf, because a model may write into its outputs.
    """
    draw = itertools.count()
    if asked_n is not None:
        a_ni = a_ni[asked_n]
    if not torch.is_grad_enabled():
        for sums, _ in sinks:
            sums.add(a_ni, a_ni[:, :0])
        return output

    def backward(grad: torch.Tensor) -> None:
        g_no = grad.flatten(0, -2).float()
        g_no = g_no if asked_n is None else g_no[asked_n]
        again = next(draw) > 0
        for sums, rows in sinks:
            sums.add(a_ni, g_no if rows is None else rows.outputs(g_no), again=again)

    if not sinks:
        return output
    leaf = not output.requires_grad
    if leaf:
        output.requires_grad_()
    output.register_hook(backward)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return output.clone() if leaf else output
