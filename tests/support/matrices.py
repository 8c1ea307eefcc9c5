"""What holds for the matrices of every model, as functions of the model: tests assert it, and a benchmark tabulates it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from memsplit.model_edits import registry, targets
from memsplit.model_edits.apply import applied, compute
from memsplit.model_edits.curvature.hooks import watched
from memsplit.model_edits.curvature.sums import Sums
from memsplit.model_edits.inputs import EditInputs
from memsplit.model_edits.pretrained import load_model
from memsplit.model_edits.spec import parse
from memsplit.model_edits.target_names import EVERY, SETS
from memsplit.model_edits.targets import Target


def divided(model: Any, layers: tuple[int, ...] = (EVERY,)) -> tuple[Target, ...]:
    """Every matrix that has a role or is of a set, and every linear map that has none."""
    everything = targets.find(model, layers, ("*",))
    sets = [each for each in SETS if any(target.part_of == each for target in everything)]
    roles = targets.find(model, layers, sets) if sets else ()
    return (*roles, *(target for target in everything if not target.part_of))


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The logits [texts, positions, vocabulary] of a pass that keeps no state."""
    return torch.as_tensor(model(input_ids=ids, use_cache=False).logits)


def curvature(model: Any, found: Sequence[Target], ids: torch.Tensor) -> dict[str, bool | None]:
    """Whether the products of gradients and inputs add up to the gradient of the weight by autodiff, for each matrix.

    That is so where each row, expert and position is in its place. ``None`` where no product with the matrix was seen.
    """
    parameters = {target.parameter: model.get_parameter(target.parameter) for target in found}
    loss = _loss(model, ids)
    gradients = dict(
        zip(parameters, torch.autograd.grad(loss, list(parameters.values()), allow_unused=True), strict=True)
    )
    model.requires_grad_(False)
    sums = {}
    for target in found:
        o, i = target.view(parameters[target.parameter]).shape
        sums[target.name] = Sums(lambda a, g: {"ga": (g, a)}, {"ga": (o, i)}, torch.device("cpu"), symmetric=False)
    with watched(model, found, sums):
        loss = _loss(model, ids)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    model.requires_grad_(True)
    agree: dict[str, bool | None] = {}
    for target in found:
        sums[target.name].fold(0)
        gradient = gradients[target.parameter]
        expected = target.view(torch.zeros_like(parameters[target.parameter]) if gradient is None else gradient)
        atol = 1e-4 * float(expected.abs().max()) + 1e-9
        equal = torch.allclose(sums[target.name].totals["ga"].float(), expected, rtol=1e-3, atol=atol)
        unseen = not sums[target.name].positions.any() and (not equal or target.expert is None)
        agree[target.name] = None if unseen else equal
    return agree


def _loss(model: Any, ids: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits(model, ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")


def edited(model: Any, spec: str, found: Sequence[Target], ids: torch.Tensor, folder: Path) -> dict[str, bool]:
    """What an edit of these matrices does, which needs no curvature.

    Returns:
        ``moves``: its logits are others than the base's; ``reloads``: the model that is saved to the folder under the
        edit and loaded from there has its logits, to the bit; ``restores``: so has the base afterwards.
    """
    with torch.no_grad():
        before = logits(model, ids)
        weights, _ = compute(model, registry.build(parse(spec)), EditInputs(targets=tuple(found)))
        with applied(model, weights):
            under = logits(model, ids)
            model.save_pretrained(folder)
        loaded = load_model(str(folder), dtype="float32").eval()
        return {
            "moves": bool(weights) and not torch.allclose(under, before, atol=1e-6),
            "reloads": torch.equal(logits(loaded, ids), under),
            "restores": torch.equal(logits(model, ids), before),
        }
