"""The curvature spectrum of a matrix, and how strongly an input acts on its bands.

A matrix has as many components as weights: component (i, j) is ``u_i v_jᵀ`` with the coordinate ``C_ij = u_iᵀ W v_j``
and the curvature λ_i·μ_j, in the K-FAC eigenbasis (arXiv 2510.24256). A band is a run of components in the order of
falling curvature. Both spectra fall, so the components before any place in that order are the first few columns of each
row, and a band is a staircase: in each row the columns from one number to another.

Shapes: n = positions, o = out features, i = in features, b = bands, t = thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from .curvature.factors import Basis, Factors
from .selection import keep_products

SHARES = (0.5, 0.6, 0.8, 0.9, 0.95)
"""Shares of the curvature mass for which :class:`Spectrum` counts components."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Components between two places in the order of falling curvature.

    Attributes:
        start: where the band begins, in percent; 0 is the component of the largest curvature.
        stop: where the band ends, in percent.
        by: whether percents are of the number of components (``count``) or of their curvature ``mass``.
    """

    start: float
    stop: float
    by: Literal["count", "mass"] = "count"

    @property
    def name(self) -> str:
        """``top 10 %``, ``10-25 %``, ``bottom 50 %``; of mass, ``mass 80-100 %``."""
        if self.by == "mass":
            return f"mass {self.start:g}-{self.stop:g} %"
        if self.start == 0:
            return f"top {self.stop:g} %"
        return f"bottom {100 - self.start:g} %" if self.stop == 100 else f"{self.start:g}-{self.stop:g} %"

    def columns(self, basis: Basis) -> tuple[torch.Tensor, torch.Tensor]:
        """The first column of each row that is in the band, and the first after it, both [o], on the CPU."""
        first_o, after_o = (
            keep_products(basis.lam_o, basis.mu_i, percent / 100, by=self.by) for percent in (self.start, self.stop)
        )
        return first_o, after_o


TOP_TENTH, BOTTOM_HALF = Band(start=0, stop=10), Band(start=50, stop=100)
OF_THE_SOURCE = (TOP_TENTH, Band(start=10, stop=25), Band(start=25, stop=50), BOTTOM_HALF)
DECILES = tuple(Band(start=10 * k, stop=10 * k + 10) for k in range(10))


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """How a matrix's curvature is spread over its components.

    Attributes:
        components: number of components.
        effective_rank: exp of the entropy of the components' shares of the mass (Roy and Vetterli, 2007): the number of
            equal components with the same entropy.
        holding: for each of :data:`SHARES`, the fewest components that hold that share of the mass.
        curve: points (n, share): the n largest components hold that share of the mass, exactly.
    """

    components: int
    effective_rank: float
    holding: dict[float, int]
    curve: tuple[tuple[int, float], ...]


def spectrum(basis: Basis, points: int = 400) -> Spectrum:
    """The spectrum of an eigenbasis, computed without forming or sorting the products of eigenvalues.

    The curve has a point for each of many thresholds between the smallest and the largest product, equidistant in their
    logarithm: the number of components at or above the threshold, and the share that they hold. Thresholds with equal
    numbers give one point.
    """
    lam_o, mu_i = basis.lam_o.detach().cpu().double(), basis.mu_i.detach().cpu().double()
    total = float(lam_o.sum() * mu_i.sum())
    sums_i = torch.cat([mu_i.new_zeros(1), mu_i.cumsum(0)])
    most, least = float(lam_o[0] * mu_i[0]), float(lam_o[lam_o > 0][-1] * mu_i[mu_i > 0][-1])
    thresholds_t = most * (least / most) ** torch.linspace(0, 1, points, dtype=torch.float64) * (1 - 1e-12)
    curve: dict[int, float] = {}
    for threshold in (*thresholds_t.tolist(), 0.0):
        columns_o = torch.searchsorted(-mu_i, -threshold / lam_o.clamp(min=1e-300), right=True)
        curve.setdefault(int(columns_o.sum()), float((lam_o * sums_i[columns_o]).sum()) / total)
    entropy = sum(float(torch.special.entr(values / values.sum()).sum()) for values in (lam_o, mu_i))
    return Spectrum(
        components=len(lam_o) * len(mu_i),
        effective_rank=math.exp(entropy),
        holding={share: int(keep_products(lam_o, mu_i, share).sum()) for share in SHARES},
        curve=tuple(curve.items()),
    )


class Strength(NamedTuple):
    """How strongly inputs act on bands, each [n, b].

    Attributes:
        read: the mean of ‖u_i v_jᵀ a‖ = |v_jᵀ a| over the band's components: how strongly they read the input. This is
            the measure of arXiv 2510.24256 as far as it is described there: inputs are projected onto the eigenbasis of
            ``aaT``, bands are drawn by λ_i·μ_j, and ‖u vᵀ a‖ is called a component's activation. How it is averaged
            (components or their squares, which tokens) is not published.
        write: ‖W_B a‖ with W_B = U (C ∘ M_B) Vᵀ: what the band adds to the layer's output, and an edit that zeroes the
            band removes.
        share: ‖W_B a‖² / ‖W a‖², which does not depend on the size of the input. The shares of bands that make up W
            need not add up to 1, because their outputs are not orthogonal; 0 if ``W a`` is 0.
    """

    read: torch.Tensor
    write: torch.Tensor
    share: torch.Tensor


class Banded:
    """A matrix, split by curvature.

    Args:
        W_oi: the matrix.
        factors: its curvature.
        bands: the bands to split it into; they may overlap.
    """

    def __init__(self, W_oi: torch.Tensor, factors: Factors, bands: Sequence[Band]) -> None:
        basis = factors.to(W_oi.dtype).eigenbasis
        self.C_oi, self.U_oo, self.V_ii = basis.coordinates(W_oi), basis.U_oo, basis.V_ii
        column_i = torch.arange(len(basis.mu_i))
        self.steps = [tuple(edge_o.to(W_oi.device) for edge_o in band.columns(basis)) for band in bands]
        times = [
            ((first_o[:, None].cpu() <= column_i) & (column_i < after_o[:, None].cpu())).sum(0)
            for first_o, after_o in self.steps
        ]
        counts_bi = torch.stack(times).to(W_oi)
        self.weights_ib = (counts_bi / counts_bi.sum(1, keepdim=True).clamp(min=1)).T

    def coordinates(self, band: int) -> torch.Tensor:
        """``C ∘ M_B`` of one band [o, i]."""
        first_o, after_o = self.steps[band]
        column_i = torch.arange(self.C_oi.shape[1], device=self.C_oi.device)
        return self.C_oi * ((first_o[:, None] <= column_i) & (column_i < after_o[:, None]))

    def matrix(self, band: int) -> torch.Tensor:
        """``W_B`` of one band [o, i]."""
        return self.U_oo @ self.coordinates(band) @ self.V_ii.T

    def strength(self, a_ni: torch.Tensor) -> Strength:
        """The strength of inputs [n, i]. ``U`` keeps lengths, so outputs are not turned back from its basis."""
        x_ni = a_ni.to(self.C_oi) @ self.V_ii
        write = [(x_ni @ self.coordinates(band).T).norm(dim=1) for band in range(len(self.steps))]
        write_nb = torch.stack(write, dim=1)
        whole_n1 = (x_ni @ self.C_oi.T).norm(dim=1, keepdim=True)
        share_nb = torch.where(whole_n1 > 0, (write_nb / whole_n1).square(), 0)
        return Strength(read=x_ni.abs() @ self.weights_ib, write=write_nb, share=share_nb)
