"""Collection of curvature statistics over text.

K-FAC's factors take one pass forward and backward, E-KFAC's curvature of each component a second one. The diagonal of
``aaT`` takes a forward pass alone.

Sources: Martens & Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature", arXiv 1503.05671,
as used in arXiv 2510.24256; George et al., arXiv 1806.03884.
Shapes: b = sequences, t = tokens, v = vocabulary, n = positions, i = in, o = out.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ...errors import UserError
from ..architecture.logits import AT_ONCE, chooses, last_of, logits_at, vocabulary
from ..targets import Target
from .factors import Basis, Factors
from .hooks import watched
from .labels import SAMPLED, Draws
from .sums import Moments, Partial, Sums, from_first, rank_and_world

log = logging.getLogger("memsplit")
FOLD = 16
"""Batches that are summed in float32 before the sum is added to the float64 totals."""


def _kfac(a_ni: torch.Tensor, g_no: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {"aaT": (a_ni, a_ni), "ggT": (g_no, g_no)}


def _input_squares(a_ni: torch.Tensor, _: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {"aaT_diag": (a_ni.new_ones(len(a_ni), 1), a_ni.square())}


def _ekfac(basis: Basis) -> Moments:
    def squares(a_ni: torch.Tensor, g_no: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        return {"fisher_oi": ((g_no @ basis.U_oo).square(), (a_ni @ basis.V_ii).square())}

    return squares


def collect(
    model: torch.nn.Module,
    targets: Sequence[Target],
    batches: Iterable[torch.Tensor],
    *,
    draws: Draws = SAMPLED,
    partial: Partial | None = None,
) -> dict[str, Factors]:
    """E[a aᵀ] and E[g gᵀ] of each target over every position but each sequence's last (K-FAC).

    ``g`` is the gradient of the cross-entropy summed over positions, so that a position's contribution depends neither
    on the batch nor on the sequence's length. An expert's positions are those that are routed to it. Nothing below the
    lowest target keeps a graph, and no weight's gradient is computed. If ``torch.distributed`` runs several processes,
    each takes its share of the batches and all return the same.

    Args:
        model: in evaluation mode; its parameters' ``requires_grad`` are restored.
        targets: the matrices.
        batches: token ids [b, t]; the same in every process.
        draws: which labels the gradients are of.
        partial: file of partial sums, from which a killed collection of the same batches continues.

    Returns:
        Factors by target name, float32.

    Raises:
        UserError: an input or gradient is not finite, or the model does not compute a target as a product of its own.
    """
    sums = {}
    for target in targets:
        o, i = (weight := target.view(model.get_parameter(target.parameter))).shape
        sums[target.name] = Sums(_kfac, {"aaT": (i, i), "ggT": (o, o)}, weight.device, symmetric=True)
    _run(model, targets, sums, batches, draws, partial)
    return {name: _factors(s) for name, s in sums.items()}


def collect_input_squares(
    model: torch.nn.Module,
    targets: Sequence[Target],
    batches: Iterable[torch.Tensor],
    *,
    partial: Partial | None = None,
) -> dict[str, Factors]:
    """E[a²] of each target, the diagonal of ``aaT``, over the same positions as :func:`collect`; without gradients.

    Args:
        model: in evaluation mode.
        targets: the matrices.
        batches: as in :func:`collect`.
        partial: as in :func:`collect`.

    Raises:
        UserError: as :func:`collect`.
    """
    sums = {}
    for target in targets:
        weight = target.view(model.get_parameter(target.parameter))
        shapes = {"aaT_diag": (1, weight.shape[1])}
        sums[target.name] = Sums(_input_squares, shapes, weight.device, symmetric=False)
    _run(model, targets, sums, batches, None, partial)
    found = {name: _factors(s) for name, s in sums.items()}
    return {name: dataclasses.replace(f, moments={"aaT_diag": f.aaT_diag[0]}) for name, f in found.items()}


def collect_ekfac(
    model: torch.nn.Module,
    targets: Sequence[Target],
    factors: Mapping[str, Factors],
    batches: Iterable[torch.Tensor],
    *,
    draws: Draws = SAMPLED,
    partial: Partial | None = None,
) -> dict[str, Factors]:
    """The factors, and E[(Uᵀ g aᵀ V)²] in their eigenbases, over the same positions as :func:`collect`.

    A position's component (o, i) is the product of its two coordinates, so the sum of squares is one matrix product.

    Args:
        model: in evaluation mode.
        targets: the matrices.
        factors: K-FAC's factors by target name.
        batches: as in :func:`collect`.
        draws: as in :func:`collect`.
        partial: as in :func:`collect`.

    Raises:
        UserError: as :func:`collect`.
    """
    kfac = {target.name: factors[target.name] for target in targets}
    bases = {name: Basis(*map(from_first, f.eigenbasis)) for name, f in kfac.items()}
    sums = {
        name: Sums(_ekfac(bases[name]), {"fisher_oi": (len(f.ggT), len(f.aaT))}, f.aaT.device, symmetric=False)
        for name, f in kfac.items()
    }
    _run(model, targets, sums, batches, draws, partial)
    return {
        name: _factors(sums[name], {**f.moments, **bases[name]._asdict()}, f.errors, f.imported)
        for name, f in kfac.items()
    }


def _factors(
    sums: Sums, moments: Mapping[str, torch.Tensor] = {}, errors: Mapping[str, float] = {}, imported: str = ""
) -> Factors:
    """The means and errors of the sums beside those that are known."""
    new = {name: error for name in sums.totals if (error := sums.error(name)) is not None}
    means = {name: sums.mean(name) for name in list(sums.totals)}
    return Factors({**moments, **means}, int(sums.positions.sum()), imported, {**errors, **new})


def _run(
    model: Any,
    targets: Sequence[Target],
    sums: Mapping[str, Sums],
    batches: Iterable[torch.Tensor],
    draws: Draws | None,
    partial: Partial | None,
) -> None:
    """Fill the sums in one pass over the batches: forward alone without ``draws``, else backward once a draw.

    The model reads all ids but each sequence's last, which is a label alone.
    """
    rank, world = rank_and_world()
    done = folded = partial.load(sums) if partial else 0
    if done:
        log.info("going on after %d batches that were read before", done)
    index = mine = 0
    chooses(model)  # asked before the hooks are attached, which would count its passes
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(draws is not None))
        stack.enter_context(_frozen(model))
        stack.enter_context(watched(model, targets, sums))
        if partial:
            stack.push(lambda kind, *_: partial.save(sums, folded) if kind and folded > done else None)
        for number, ids_bt in enumerate(batches):
            first, index = index, index + len(ids_bt)
            if number % world != rank:
                continue
            mine += 1
            if mine <= done:
                continue
            for at, some_bt in _within(ids_bt, vocabulary(model)):
                if draws is None:
                    logits_at(model, some_bt[:, :-1], last_of(some_bt[:, :-1]))
                else:
                    _backward(model, some_bt, first + at, draws, targets[0])
            if mine % FOLD == 0:
                for s in sums.values():
                    s.fold((mine // FOLD + rank) % 2)
                folded = mine
                if partial:
                    partial.save_when_due(sums, mine)
    for s in sums.values():
        s.fold((mine // FOLD + 1 + rank) % 2)
        s.reduce()
    _check(targets, sums)


def _within(ids_bt: torch.Tensor, vocabulary: int) -> Iterator[tuple[int, torch.Tensor]]:
    """The sequences, as many at a time as make no more logits than are to be had at once, after the number before."""
    size = max(1, AT_ONCE // (vocabulary * (ids_bt.shape[1] - 1)))
    return zip(range(0, len(ids_bt), size), torch.split(ids_bt, size), strict=True)


def _backward(model: Any, ids_bt: torch.Tensor, first: int, draws: Draws, lowest: Target) -> None:
    """Propagate each draw back through one graph, which the last draw frees.

    Raises:
        UserError: the logits do not hang on the lowest target.
    """
    logits_btv = model(input_ids=ids_bt[:, :-1], use_cache=False).logits
    if not logits_btv.requires_grad:
        raise _unseen(lowest)
    for draw, gradient_btv in enumerate(draws.gradients(logits_btv, ids_bt, first), start=1):
        logits_btv.backward(gradient_btv, retain_graph=draw < draws.draws)


def _check(targets: Sequence[Target], sums: Mapping[str, Sums]) -> None:
    """Check that all sums are finite and every matrix was used; of a layer's experts, at least one.

    Raises:
        UserError: one is not finite, or was not used.
    """
    seen = {(t.layer, t.proj) for t in targets if sums[t.name].positions.any()}
    for target in targets:
        if (target.layer, target.proj) not in seen:
            raise _unseen(target)
        if not all(bool(total.isfinite().all()) for total in sums[target.name].totals.values()):
            raise UserError(f"the curvature of {target.name} is not finite: expected a sound model, or --dtype float32")


def _unseen(target: Target) -> UserError:
    return UserError(f"no product with {target.name} was seen: the model computes it in another way")


@contextmanager
def _frozen(model: torch.nn.Module) -> Iterator[None]:
    before = [(p, p.requires_grad) for p in model.parameters()]
    try:
        model.requires_grad_(False)
        yield
    finally:
        for p, requires_grad in before:
            p.requires_grad_(requires_grad)
