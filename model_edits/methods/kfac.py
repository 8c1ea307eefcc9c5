"""Zero the components of low loss curvature in the K-FAC eigenbasis.

Source: "From Memorization to Reasoning in the Spectrum of Loss Curvature", arXiv 2510.24256.
Shapes: o = out features, i = in features; r, c = the leading rows and columns that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import UserError
from ..curvature.factors import Basis, Factors
from ..lazy import torch
from ..registry import CurvatureEdit, EditedWeight, register_edit
from ..selection import keep_count, keep_products, keep_share

Labels = Literal["sampled", "gold"]
Select = Literal["top", "bottom"]
Rank = Literal["mass", "count"]


@dataclass(frozen=True, kw_only=True)
class FisherEdit(CurvatureEdit):
    """Base class of edits whose spec says which labels the gradients of their curvature are of.

    Attributes:
        labels: ``sampled`` from the model (the true Fisher) or ``gold``, those of the text (the empirical Fisher).
        draws: sampled labels for each position; the model table's by default.
        label_seed: seed of the sampling.
    """

    labels: Labels = "sampled"
    draws: int | None = None
    label_seed: int = 0

    def __post_init__(self) -> None:
        if (self.draws is not None and self.draws < 1) or self.label_seed < 0:
            raise UserError(f"bad edit '{self.spec}': expected draws above 0, and a label_seed of 0 or more")
        if self.labels == "gold" and (self.draws, self.label_seed) != (None, 0):
            raise UserError(f"bad edit '{self.spec}': labels=gold draws nothing, expected no draws and no label_seed")

    def factor_options(self) -> dict[str, str | int]:
        """The labels, their number if the spec gives it, their seed, and the statistic."""
        draws = 1 if self.labels == "gold" else self.draws
        given = {} if draws is None else {"draws": draws}
        return {"labels": self.labels, **given, "seed": self.label_seed, **super().factor_options()}


@register_edit("kfac")
@dataclass(frozen=True, kw_only=True)
class KFAC(FisherEdit):
    """Keeps the components that carry ``percent`` of the curvature mass Σ λ_i·μ_j of each matrix.

    Attributes:
        select: ``top`` keeps components from the largest down. ``bottom`` removes components from the largest down
            until the rest carries ``percent`` of the mass, so that ``kfac-20:select=bottom`` removes what ``kfac-80``
            keeps.
        rank: ``percent`` is of the ``mass``, or of the number of components (``count``).
        weight: a component's mass is its ``curvature`` λ_i·μ_j, or its ``energy`` λ_i·μ_j·C_ij², which is twice the
            loss that zeroing it alone would add, to second order.
    """

    summary = "keep PERCENT of the curvature mass in the K-FAC eigenbasis, zero the rest"
    source = "arXiv 2510.24256"
    budget = "curvature mass"
    idempotent = True

    select: Select = "top"
    rank: Rank = "mass"
    weight: Literal["curvature", "energy"] = "curvature"

    def new_weight(self, weight: torch.Tensor, factors: Factors, name: str) -> EditedWeight:
        """``U (C ∘ M) Vᵀ`` with ``C = Uᵀ W V`` and M the ablation mask, 1 for the components kept."""
        basis = factors.eigenbasis
        if self.weight == "energy":
            C_oi = basis.coordinates(weight)
            importance_oi = basis.lam_o[:, None] * basis.mu_i * C_oi.square()
            return mask_components(weight, basis, importance_oi, self.share, self.select, self.rank)
        columns_o = keep_products(basis.lam_o, basis.mu_i, top_share(self.share, self.select), by=self.rank)
        r, c = int((columns_o > 0).sum()), int(columns_o[0])
        U_or, V_ic = basis.U_oo[:, :r], basis.V_ii[:, :c]
        mask_rc = torch.arange(c) < columns_o[:r, None]
        top_oi = U_or @ (U_or.T @ weight @ V_ic * mask_rc.to(weight.device)) @ V_ic.T
        kept = int(columns_o.sum())
        if self.select == "bottom":
            return EditedWeight.of_mask(weight, weight - top_oi, weight.numel() - kept)
        return EditedWeight.of_mask(weight, top_oi, kept)


def top_share(share: float, select: Select) -> float:
    """The share of the budget that the top components hold: those kept, or those removed (``select="bottom"``)."""
    return share if select == "top" else round(1 - share, 12)  # 0.1 for 0.9, not 0.09999999999999998


def mask_components(
    weight: torch.Tensor, basis: Basis, importance_oi: torch.Tensor, share: float, select: Select, rank: Rank
) -> EditedWeight:
    """``U (C ∘ M) Vᵀ`` with M the mask of the most important components, or of the others (``select="bottom"``)."""
    flat = importance_oi.flatten()
    top = (keep_share if rank == "mass" else keep_count)(flat, top_share(share, select))
    mask_oi = (top if select == "top" else ~top).reshape(weight.shape)
    return EditedWeight.of_mask(weight, basis.matrix(basis.coordinates(weight) * mask_oi), int(mask_oi.sum()))
