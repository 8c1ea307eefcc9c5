"""Add Gaussian noise: a control for edits that choose what they change, and an attack on what they hide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import UserError
from .. import spec as grammar
from ..curvature.factors import Factors
from ..edit import CurvatureEdit
from ..inputs import EditInputs
from ..lazy import torch
from ..matching import generator, matched_edit, removed_by
from ..registry import Edit, EditedWeight, MatrixEdit, register_edit


@register_edit("noise")
@dataclass(frozen=True, kw_only=True)
class Noise(Edit):
    """Adds independent Gaussian noise N to each matrix W.

    Attributes:
        size: ‖N‖ / ‖W‖ (Frobenius) of every matrix; N is scaled to that exactly.
        match: a spec ``NAME-PERCENT``. ‖N‖ is then that of what the matched edit removes from the matrix, so ``size``
            is dropped; and where the spec gives neither ``layers`` nor ``proj``, the matrices are those of that edit.
        seed: seed of the noise, which is another one for every matrix.
    """

    summary = "add Gaussian noise of a relative size, or of the norm that another edit removes"
    attack = True
    control = True
    everywhere = True

    size: float = 0.05
    match: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.size < math.inf:
            raise UserError(f"bad edit '{self.spec}': expected a size of 0 or more")
        if self.match is not None:
            object.__setattr__(self, "size", type(self).size)
            object.__setattr__(self, "match", str(grammar.parse(self.match)))
            object.__setattr__(self, "statistic", self._matched(self.match).statistic)

    def _matched(self, match: str) -> MatrixEdit | CurvatureEdit:
        return matched_edit(match, self.name)

    @property
    def on_all(self) -> bool:
        """Whether the edit's matrices are every linear map: those of a matched edit are not."""
        return self.match is None and super().on_all

    def factor_options(self) -> dict[str, str | int]:
        """Those of the matched edit."""
        return self._matched(self.match).factor_options() if self.match else {}

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """``W + N`` for every target. A matrix whose N has no length is unchanged."""
        for target in inputs.targets:
            weight = target.matrix(model)
            factors = inputs.factors[target.name] if self.statistic else None
            norm = self.norm(weight, factors, target.name)
            N_oi = torch.randn(weight.shape, dtype=weight.dtype, generator=generator(self.seed, target.name))
            N_oi *= norm / float(N_oi.double().norm())
            new = weight + N_oi.to(weight.device)
            yield target.name, EditedWeight(weight=new, kept=0, total=0)

    def norm(self, weight: torch.Tensor, factors: Factors | None, name: str) -> float:
        """‖N‖ for a matrix [out, in]; 0 if an edit by curvature is matched and the curvature is not known."""
        if self.match is None:
            return self.size * float(weight.double().norm())
        if factors is not None:
            if not factors.known:
                return 0.0
            factors = factors.to(weight.dtype)
        return float(removed_by(self._matched(self.match), weight, factors, name).double().norm())
