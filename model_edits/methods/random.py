"""The control: zero random components of the K-FAC eigenbasis."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import UserError
from .. import spec as grammar
from ..registry import MatrixEdit, Outcome, build, register_edit
from .kfac import Labels

if TYPE_CHECKING:
    import torch

    from ..curvature.factors import Factors


@register_edit("random")
@dataclass(frozen=True, kw_only=True)
class Random(MatrixEdit):
    """Keeps ``percent`` of the components by number, chosen at random; or removes as much as another edit.

    Attributes:
        match: a spec ``NAME-PERCENT``: random components are removed until the Frobenius norm of what is gone from a
            matrix is as near as can be to what that edit removes from it. The number kept follows from the match,
            so ``percent`` then plays no part and is dropped.
        seed: of the choice.
        labels: as in ``kfac``; of the basis, and of the match.
    """

    summary = "control: keep PERCENT of the components of the same basis, chosen at random"
    budget = "number of components"
    needs_factors = True
    control = True

    match: str | None = None
    seed: int = 0
    labels: Labels = "sampled"

    def __post_init__(self) -> None:
        if self.match is not None:
            object.__setattr__(self, "percent", None)
            object.__setattr__(self, "match", str(grammar.parse(self.match)))
            self._matched()

    def needs_percent(self) -> bool:
        """Not where a match decides."""
        return self.match is None

    def _matched(self) -> MatrixEdit:
        spec = grammar.parse(self.match or "")
        if spec.options or spec.dial or spec.percent is None or spec.name in (self.name, "none"):
            raise UserError(f"bad match {self.match!r}: expected NAME-PERCENT of another edit, as in match=kfac-50")
        try:
            matched = build(spec)
        except UserError as error:
            raise UserError(f"bad match {self.match!r}: {error}") from error
        if "labels" in {field.name for field in matched.option_fields()}:
            matched = build(dataclasses.replace(spec, options=(("labels", self.labels),)))
        if not isinstance(matched, MatrixEdit):
            raise UserError(f"bad match {self.match!r}: expected an edit of one matrix at a time, as in match=kfac-50")
        return matched

    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """``U (C ∘ M) Vᵀ`` with M random."""
        import torch

        assert factors is not None
        basis = factors.eigenbasis
        C_oi = basis.coordinates(weight)
        digest = hashlib.blake2b(f"{self.seed}:{name}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        order = torch.randperm(C_oi.numel(), generator=generator).to(C_oi.device)
        if self.match is None:
            assert self.percent is not None
            removed = C_oi.numel() - round(self.percent / 100 * C_oi.numel())
        else:
            gone = weight - self._matched().new_weight(weight, factors, name).weight
            norms = C_oi.flatten()[order].double().square().cumsum(0)
            nearest = (norms - gone.double().square().sum()).abs().argmin()
            removed = int(nearest) + 1 if bool(gone.any()) else 0
        if removed == 0:
            return Outcome(weight=weight, kept=weight.numel(), total=weight.numel())
        flat = C_oi.flatten()
        flat[order[:removed]] = 0
        kept = flat.numel() - removed
        return Outcome(weight=basis.matrix(flat.reshape(C_oi.shape)), kept=kept, total=flat.numel())

    def factor_options(self) -> dict[str, str]:
        """The labels, and what the match needs beside."""
        matched = self._matched().factor_options() if self.match else {}
        return {**matched, "labels": self.labels}
