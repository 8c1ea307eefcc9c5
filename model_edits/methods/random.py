"""The control: zero random components of the K-FAC eigenbasis."""

from __future__ import annotations

from dataclasses import dataclass

from .. import spec as grammar
from ..curvature.factors import Factors
from ..lazy import torch
from ..matching import generator, matched_edit, removed_by
from ..registry import CurvatureEdit, EditedWeight, MatrixEdit, register_edit
from .kfac import FisherEdit


@register_edit("random")
@dataclass(frozen=True, kw_only=True)
class Random(FisherEdit):
    """Keeps ``percent`` of the components by number, chosen at random; or removes as much as another edit.

    Attributes:
        match: a spec ``NAME-PERCENT``. Random components are removed until the Frobenius norm of what is removed from a
            matrix is as near as possible to that of what the matched edit removes from it. This decides the number of
            components kept, so ``percent`` is dropped.
        seed: seed of the random choice.
    """

    summary = "keep PERCENT of the components of the same basis, chosen at random"
    budget = "number of components"
    control = True
    idempotent = True
    version = 2

    match: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match is not None:
            object.__setattr__(self, "percent", None)
            object.__setattr__(self, "match", str(grammar.parse(self.match)))
            self._matched(self.match)

    def needs_percent(self) -> bool:
        """Whether there is no edit to match."""
        return self.match is None

    def _matched(self, match: str) -> MatrixEdit | CurvatureEdit:
        options = {"labels": self.labels, "label_seed": str(self.label_seed)}
        options |= {} if self.draws is None else {"draws": str(self.draws)}
        return matched_edit(match, self.name, **options)

    def new_weight(self, weight: torch.Tensor, factors: Factors, name: str) -> EditedWeight:
        """``U (C ∘ M) Vᵀ`` with M a random ablation mask."""
        basis = factors.eigenbasis
        C_oi = basis.coordinates(weight)
        order = torch.randperm(C_oi.numel(), generator=generator(self.seed, name)).to(C_oi.device)
        flat = C_oi.flatten()
        if self.match is None:
            removed = flat.numel() - round(self.share * flat.numel())
        else:
            matched = removed_by(self._matched(self.match), weight, factors, name)
            removed = self._nearest(matched, flat[order])
        flat[order[:removed]] = 0
        return EditedWeight.of_mask(weight, basis.matrix(flat.reshape(C_oi.shape)), flat.numel() - removed)

    @staticmethod
    def _nearest(removed_oi: torch.Tensor, components: torch.Tensor) -> int:
        """How many of the components, in this order, have the squared norm nearest to that of ``removed_oi``."""
        norms = components.double().square().cumsum(0)
        nearest = (norms - removed_oi.double().square().sum()).abs().argmin()
        return int(nearest) + 1 if bool(removed_oi.any()) else 0

    def factor_options(self) -> dict[str, str | int]:
        """The labels, and the statistic of ``ekfac`` if it is matched."""
        matched = self._matched(self.match).factor_options() if self.match else {}
        statistic = {"statistic": "ekfac"} if matched.get("statistic") == "ekfac" else {}
        return {**super().factor_options(), **statistic}
