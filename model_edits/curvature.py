"""Collect K-FAC factors in one pass over text, and E-KFAC's own curvature of each component in another.

Sources: Martens & Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", arXiv 1503.05671,
as used in arXiv 2510.24256; George et al., arXiv 1806.03884.
Shapes: b = sequences, t = tokens, v = vocabulary, n = positions, i = in, o = out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from .factors import Basis, Factors
from .targets import Target

Moments = Callable[[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]
"""Sums over positions, by name, from the inputs a [n, i] and the gradients g [n, o] of one batch."""


@dataclass
class _Sums:
    """Running sums of one matrix over positions, in float64."""

    of: Moments
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    positions: int = 0

    def add(self, a_ni: torch.Tensor, g_no: torch.Tensor) -> None:
        for name, value in self.of(a_ni, g_no).items():
            self.sums[name] = self.sums[name].add_(value) if name in self.sums else value.double()
        self.positions += len(g_no)

    def mean(self, name: str) -> torch.Tensor:
        return (self.sums[name] / self.positions).float()


def _kfac(a_ni: torch.Tensor, g_no: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"aaT": a_ni.T @ a_ni, "ggT": g_no.T @ g_no}


def _ekfac(basis: Basis) -> Moments:
    def squares(a_ni: torch.Tensor, g_no: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"fisher_oi": (g_no @ basis.U_oo).square().T @ (a_ni @ basis.V_ii).square()}

    return squares


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
    """E[a aᵀ] and E[g gᵀ] of each target over every position but each sequence's last (K-FAC).

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
    sums = {target.module: _Sums(_kfac) for target in targets}
    _run(model, sums, batches, labels, seed)
    return {module: Factors(s.mean("aaT"), s.mean("ggT"), s.positions) for module, s in sums.items() if s.positions}


def collect_ekfac(
    model: torch.nn.Module,
    factors: Mapping[str, Factors],
    batches: Iterable[torch.Tensor],
    *,
    labels: str = "sampled",
    seed: int = 0,
) -> dict[str, Factors]:
    """The factors with E[(Uᵀ g aᵀ V)²] beside them, over the same positions as :func:`collect`.

    A position's component (o, i) is the product of its two coordinates, so the sum of squares is one matrix product.

    Args:
        model: in evaluation mode.
        factors: K-FAC's, by module name; their eigenbases are those measured in.
        batches: ids [b, t].
        labels: as in :func:`collect`.
        seed: of the sampling.
    """
    sums = {module: _Sums(_ekfac(f.eigenbasis)) for module, f in factors.items()}
    _run(model, sums, batches, labels, seed)
    return {m: Factors(f.aaT, f.ggT, f.tokens, sums[m].mean("fisher_oi")) for m, f in factors.items()}


def _run(
    model: torch.nn.Module, sums: Mapping[str, _Sums], batches: Iterable[torch.Tensor], labels: str, seed: int
) -> None:
    """One pass: forward, labels, backward; the sums are added to on the way."""
    index = 0
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_frozen(model))
        for name, of_module in sums.items():
            handle = model.get_submodule(name).register_forward_hook(_watch(of_module))
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
    """A forward hook that adds inputs and gradients up; the lowest target's output becomes the graph's leaf."""

    def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        a_ni = inputs[0].detach()[:, :-1].flatten(0, -2).float()

        def backward(grad: torch.Tensor) -> None:
            sums.add(a_ni, grad[:, :-1].flatten(0, -2).float())

        if not output.requires_grad:
            output.requires_grad_()
        output.register_hook(backward)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    return hook
