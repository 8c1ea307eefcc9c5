"""Curvature factors of one matrix, and their eigenbasis.

Shapes: o = out features, i = in features.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch

from .eigen import all_eigh, leading_eigh
from .hashing import tensors_sha256
from .selection import leading_is_enough


@dataclass(frozen=True, kw_only=True)
class Basis:
    """The Kronecker eigenbasis of a matrix, or a leading part of it; eigenvalues fall, and none is negative.

    Attributes:
        lam_o: eigenvalues of ``ggT``.
        U_oo: its eigenvectors, as columns.
        mu_i: eigenvalues of ``aaT``.
        V_ii: its eigenvectors, as columns.
        mass: the sum of all products of an eigenvalue of each, those left out too.
    """

    lam_o: torch.Tensor
    U_oo: torch.Tensor
    mu_i: torch.Tensor
    V_ii: torch.Tensor
    mass: float

    def holds(self, share: float) -> bool:
        """Whether this is the whole basis, or as much of it as ``share`` of the mass needs."""
        rows, columns = len(self.lam_o) == len(self.U_oo), len(self.mu_i) == len(self.V_ii)
        if rows and columns:
            return True
        leading, whole = (self.mu_i, self.lam_o) if rows else (self.lam_o, self.mu_i)
        return share < 1 and leading_is_enough(leading, whole, share, self.mass)

    def coordinates(self, W_oi: torch.Tensor) -> torch.Tensor:
        """``Uᵀ W V``."""
        return self.U_oo.T @ W_oi @ self.V_ii

    def matrix(self, C_oi: torch.Tensor) -> torch.Tensor:
        """``U C Vᵀ``."""
        return self.U_oo @ C_oi @ self.V_ii.T


@dataclass(frozen=True)
class Factors:
    """Second moments of a linear layer (K-FAC).

    Attributes:
        aaT: E[a aᵀ] [i, i] over the layer's inputs.
        ggT: E[g gᵀ] [o, o] over the gradients, at its outputs, of the summed cross-entropy.
        tokens: positions that all are means over.
        fisher_oi: E[(Uᵀ g aᵀ V)²] [o, i], each component's own curvature (E-KFAC); ``None`` where it was not measured.
        imported: sha256 of the file that they were taken from, where they were not collected here.
    """

    aaT: torch.Tensor
    ggT: torch.Tensor
    tokens: int
    fisher_oi: torch.Tensor | None = None
    imported: str = ""
    _solved: dict[str, Basis] = field(default_factory=dict, init=False, repr=False, compare=False)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The statistics at hand, by name."""
        named = {"aaT": self.aaT, "ggT": self.ggT, "fisher_oi": self.fisher_oi}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def to(self, device: torch.device) -> Factors:
        """The same on a device."""
        moved = {name: t.to(device) for name, t in self.tensors().items()}
        return Factors(tokens=self.tokens, imported=self.imported, **moved)

    @property
    def nbytes(self) -> int:
        """Bytes of the statistics."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    @cached_property
    def sha256(self) -> str:
        """Names the statistics by their content."""
        return tensors_sha256(self.tensors())

    @property
    def eigenbasis(self) -> Basis:
        """The whole eigenbasis; computed once."""
        return self.leading_basis(1)

    def leading_basis(self, share: float) -> Basis:
        """As much of the eigenbasis as components that hold ``share`` of the mass need, the largest first.

        The smaller matrix is solved in full; of the larger, by far the dearer, only the leading eigenvectors that these
        components touch, where that pays (see ``eigen.leading_eigh``). What was solved before is used again.
        """
        solved = self._solved.get("basis")
        if solved is None or not solved.holds(share):
            solved = self._solved["basis"] = self._solve(share)
        return solved

    def _solve(self, share: float) -> Basis:
        tall = len(self.ggT) >= len(self.aaT)
        larger, smaller = (self.ggT, self.aaT) if tall else (self.aaT, self.ggT)
        whole = all_eigh(smaller)
        whole_sum = float(whole.values_r.double().sum())
        mass = float(larger.diagonal().double().sum()) * whole_sum
        if share < 1:
            part = leading_eigh(larger, lambda values_r: leading_is_enough(values_r, whole.values_r, share, mass))
        else:
            part = all_eigh(larger)
        if len(part.values_r) == len(larger):  # the sum that selection would find, to the last bit
            mass = float(part.values_r.double().sum()) * whole_sum
        rows, columns = (part, whole) if tall else (whole, part)
        return Basis(
            lam_o=rows.values_r, U_oo=rows.vectors_nr, mu_i=columns.values_r, V_ii=columns.vectors_nr, mass=mass
        )
