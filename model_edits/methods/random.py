"""The control: zero random components of the K-FAC eigenbasis."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

from ...errors import UserError
from .. import spec as grammar
from ..curvature.factors import Factors
from ..lazy import torch
from ..registry import CurvatureEdit, EditedWeight, MatrixEdit, build, register_edit
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

    summary = "control: keep PERCENT of the components of the same basis, chosen at random"
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
        spec = grammar.parse(match)
        if spec.options or spec.dial or spec.percent is None or spec.name in (self.name, "none"):
            raise UserError(f"bad match {match!r}: expected NAME-PERCENT of another edit, as in match=kfac-50")
        try:
            matched = build(spec)
        except UserError as error:
            raise UserError(f"bad match {match!r}: {error}") from error
        if isinstance(matched, FisherEdit):
            matched = dataclasses.replace(matched, labels=self.labels, draws=self.draws, label_seed=self.label_seed)
        if not isinstance(matched, MatrixEdit | CurvatureEdit):
            raise UserError(f"bad match {match!r}: expected an edit of one matrix at a time, as in match=kfac-50")
        return matched

    def new_weight(self, weight: torch.Tensor, factors: Factors, name: str) -> EditedWeight:
        """``U (C ∘ M) Vᵀ`` with M a random ablation mask."""
        basis = factors.eigenbasis
        C_oi = basis.coordinates(weight)
        digest = hashlib.blake2b(f"{self.seed}:{name}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        order = torch.randperm(C_oi.numel(), generator=generator).to(C_oi.device)
        flat = C_oi.flatten()
        if self.match is None:
            removed = flat.numel() - round(self.share * flat.numel())
        else:
            removed = self._nearest(self._removed_by(self.match, weight, factors, name), flat[order])
        flat[order[:removed]] = 0
        return EditedWeight.of_mask(weight, basis.matrix(flat.reshape(C_oi.shape)), flat.numel() - removed)

    def _removed_by(self, match: str, weight: torch.Tensor, factors: Factors, name: str) -> torch.Tensor:
        """What the matched edit removes from the matrix [out, in]."""
        edit = self._matched(match)
        if isinstance(edit, MatrixEdit):
            return weight - edit.new_weight(weight, name).weight
        return weight - edit.new_weight(weight, factors, name).weight

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
