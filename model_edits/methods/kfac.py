"""Zero the components of low loss curvature in the K-FAC eigenbasis.

Source: "From Memorization to Reasoning in the Spectrum of Loss Curvature", arXiv 2510.24256.
Shapes: o = out features, i = in features; r, c = the leading ones that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..registry import MatrixEdit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..curvature.factors import Basis, Factors

Labels = Literal["sampled", "gold"]
Select = Literal["top", "bottom"]
Rank = Literal["mass", "count"]


@register_edit("kfac")
@dataclass(frozen=True, kw_only=True)
class KFAC(MatrixEdit):
    """Keeps the components that carry ``percent`` of the curvature mass Σ λ_i·μ_j of each matrix.

    Attributes:
        labels: of the loss whose gradients are collected: ``sampled`` from the model (the true Fisher) or the text's
            own, ``gold`` (the empirical one).
        select: ``top`` keeps components from the largest down; ``bottom`` removes, from the largest down, what carries
            the rest of the mass, so that ``kfac-20:select=bottom`` removes just what ``kfac-80`` keeps.
        rank: ``percent`` is of the ``mass``, or of the components by ``count``.
        weight: a component's mass is its ``curvature`` λ_i·μ_j, or its ``energy`` λ_i·μ_j·C_ij², what zeroing it alone
            would cost (twice the loss, to second order).
    """

    summary = "keep PERCENT of the curvature mass in the K-FAC eigenbasis, zero the rest"
    source = "arXiv 2510.24256"
    budget = "curvature mass"
    needs_factors = True

    labels: Labels = "sampled"
    select: Select = "top"
    rank: Rank = "mass"
    weight: Literal["curvature", "energy"] = "curvature"

    def new_weight(self, weight: torch.Tensor, factors: Factors | None, name: str) -> Outcome:
        """``U (C ∘ M) Vᵀ`` with ``C = Uᵀ W V`` and M the components kept."""
        import torch

        from ..selection import keep_products

        assert factors is not None
        assert self.percent is not None
        share = (self.percent if self.select == "top" else 100 - self.percent) / 100
        if self.weight == "energy":
            basis = factors.eigenbasis
            C_oi = basis.coordinates(weight)
            importance_oi = basis.lam_o[:, None] * basis.mu_i * C_oi.square()
            return keep_components(weight, basis, importance_oi, self.percent, self.select, self.rank)
        by_mass = self.rank == "mass"
        basis = factors.leading_basis(share) if by_mass else factors.eigenbasis
        total = float(basis.mass) if by_mass else None
        columns_o = keep_products(basis.lam_o, basis.mu_i, share, by=self.rank, total=total)
        r, c = int((columns_o > 0).sum()), int(columns_o[0])
        U_or, V_ic = basis.U_oo[:, :r], basis.V_ii[:, :c]
        leading_rc = torch.arange(c) < columns_o[:r, None]
        top_oi = U_or @ (U_or.T @ weight @ V_ic * leading_rc.to(weight.device)) @ V_ic.T
        kept = int(columns_o.sum())
        if self.select == "bottom":
            return Outcome.of(weight, weight - top_oi, weight.numel() - kept)
        return Outcome.of(weight, top_oi, kept)

    def factor_options(self) -> dict[str, str]:
        """The labels."""
        return {"labels": self.labels}


def keep_components(
    weight: torch.Tensor, basis: Basis, importance_oi: torch.Tensor, percent: float, select: Select, rank: Rank
) -> Outcome:
    """``U (C ∘ M) Vᵀ`` with M the most important components, or all but those (``select="bottom"``)."""
    from ..selection import keep_count, keep_share

    share = (percent if select == "top" else 100 - percent) / 100
    flat = importance_oi.flatten()
    keep = keep_share(flat, share) if rank == "mass" else keep_count(flat, share)
    keep_oi = (keep if select == "top" else ~keep).reshape(weight.shape)
    return Outcome.of(weight, basis.matrix(basis.coordinates(weight) * keep_oi), int(keep_oi.sum()))
