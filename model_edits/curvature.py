"""Collect K-FAC factors in one pass over text.

Source: Martens & Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", arXiv 1503.05671,
as used in arXiv 2510.24256. Shapes: b = sequences, t = tokens, v = vocabulary, n = positions, i = in, o = out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .factors import Factors
from .targets import Target


@dataclass
class _Sums:
    """Running sums of one matrix, in float64."""

    aaT: torch.Tensor | None = None
    ggT: torch.Tensor | None = None
    positions: int = 0


def sample_labels(p_tv: torch.Tensor, seed: int, index: int) -> torch.Tensor:
    """One label a position, drawn from the model's own distribution [t, v] by inverting its cumulative sum.

    The draw is a function of the seed and the sequence's index alone, so that it does not depend on the batch size.
    """
    generator = torch.Generator().manual_seed((seed << 32) + index)
    u_t1 = torch.rand(p_tv.shape[0], 1, generator=generator).to(p_tv.device)
    cumulative_tv = p_tv.cumsum(-1)
    return torch.searchsorted(cumulative_tv, u_t1 * cumulative_tv[:, -1:]).clamp(max=p_tv.shape[-1] - 1).squeeze(1)


def collect(
    model: torch.nn.Module,
    targets: Sequence[Target],
    batches: Iterable[torch.Tensor],
    *,
    labels: str = "sampled",
    seed: int = 0,
) -> dict[str, Factors]:
    """E[a aᵀ] and E[g gᵀ] of each target over every position but each sequence's last.

    ``g`` is the gradient of the cross-entropy summed over positions, so that a position's contribution depends neither
    on the batch nor on the sequence's length. Nothing below the lowest target keeps a graph, and no weight's gradient
    is computed.

    Args:
        model: in evaluation mode; its parameters' ``requires_grad`` are restored.
        targets: the matrices.
        batches: ids [b, t].
        labels: ``sampled`` from the model (the true Fisher), or ``gold``, the text's own.
        seed: of the sampling.

    Returns:
        Factors by the target's module name, float32.
    """
    sums = {target.module: _Sums() for target in targets}
    index = 0
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_frozen(model))
        for target in targets:
            module = model.get_submodule(target.module)
            handle = module.register_forward_hook(_watch(sums[target.module]))
            stack.callback(handle.remove)
        for ids_bt in batches:
            logits_btv = model(input_ids=ids_bt, use_cache=False).logits
            p_btv = logits_btv.detach()[:, :-1].float().softmax(-1)
            if labels == "gold":
                label_bt = ids_bt[:, 1:]
            else:
                label_bt = torch.stack([sample_labels(p_tv, seed, index + b) for b, p_tv in enumerate(p_btv)])
            index += len(ids_bt)
            gradient = torch.zeros_like(logits_btv)
            gradient[:, :-1] = p_btv.scatter_add_(-1, label_bt[..., None], -torch.ones_like(p_btv[..., :1]))
            logits_btv.backward(gradient)
    return {
        module: Factors((s.aaT / s.positions).float(), (s.ggT / s.positions).float(), s.positions)
        for module, s in sums.items()
        if s.aaT is not None and s.ggT is not None
    }


@contextmanager
def _frozen(model: torch.nn.Module) -> Iterator[None]:
    before = [(p, p.requires_grad) for p in model.parameters()]
    try:
        model.requires_grad_(False)
        yield
    finally:
        for p, requires_grad in before:
            p.requires_grad_(requires_grad)


def _watch(sums: _Sums) -> Any:
    """A forward hook that adds up both moments; the lowest target's output becomes the graph's leaf."""

    def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        a_ni = inputs[0].detach()[:, :-1].flatten(0, -2).float()

        def backward(grad: torch.Tensor) -> None:
            g_no = grad[:, :-1].flatten(0, -2).float()
            aaT, ggT = (a_ni.T @ a_ni).double(), (g_no.T @ g_no).double()
            sums.aaT = aaT if sums.aaT is None else sums.aaT.add_(aaT)
            sums.ggT = ggT if sums.ggT is None else sums.ggT.add_(ggT)
            sums.positions += len(g_no)

        if not output.requires_grad:
            output.requires_grad_()
        output.register_hook(backward)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    return hook
