"""Curvature factors of one matrix, and their eigenbasis.

Shapes: o = out features, i = in features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch

from ..hashing import tensors_sha256
from ..selection import leading_is_enough
from .eigen import Eigenpairs, all_eigh, leading_eigh


class Basis(NamedTuple):
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
    mass: torch.Tensor

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
        tokens: positions that they are means over; those of ``fisher_oi`` where it was measured.
        fisher_oi: E[(Uᵀ g aᵀ V)²] [o, i], each component's own curvature (E-KFAC); ``None`` where it was not measured.
        basis: the U and V that ``fisher_oi`` was measured in.
        imported: sha256 of the file that they were taken from, where they were not collected here.
    """

    aaT: torch.Tensor
    ggT: torch.Tensor
    tokens: int
    fisher_oi: torch.Tensor | None = None
    basis: Basis | None = None
    imported: str = ""
    _pairs: dict[str, Eigenpairs] = field(default_factory=dict, init=False, repr=False, compare=False)
    _bases: dict[float, Basis] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor], tokens: int, imported: str = "") -> Factors:
        """The reverse of :meth:`tensors`.

        Raises:
            KeyError: one is missing.
        """
        basis = Basis(*(tensors[name] for name in Basis._fields)) if "fisher_oi" in tensors else None
        return cls(tensors["aaT"], tensors["ggT"], tokens, tensors.get("fisher_oi"), basis, imported)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The statistics at hand, by name."""
        named = {"aaT": self.aaT, "ggT": self.ggT}
        if self.fisher_oi is not None and self.basis is not None:
            named |= {"fisher_oi": self.fisher_oi, **self.basis._asdict()}
        return named

    def to(self, to: torch.device | torch.dtype) -> Factors:
        """The same on a device, or of a type."""
        moved: dict[str, torch.Tensor] = {name: torch.Tensor.to(tensor, to) for name, tensor in self.tensors().items()}
        if all(tensor is moved[name] for name, tensor in self.tensors().items()):
            return self
        return Factors.of(moved, self.tokens, self.imported)

    @property
    def nbytes(self) -> int:
        """Bytes of the statistics."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    @property
    def known(self) -> bool:
        """Whether there is any curvature: an expert that nothing was routed to has none."""
        return bool(self.aaT.any()) and bool(self.ggT.any())

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
        components touch, where that pays (see ``eigen.leading_eigh``). What was solved for another share is not used:
        an edit must not depend, to the last bit, on those before it.
        """
        if self.basis is not None:
            return self.basis
        if share not in self._bases:
            self._bases[share] = self._solve(share)
        return self._bases[share]

    def _solve(self, share: float) -> Basis:
        tall = len(self.ggT) >= len(self.aaT)
        larger, smaller = ("ggT", "aaT") if tall else ("aaT", "ggT")
        S_nn, whole = getattr(self, larger), self._all(smaller)
        mass = S_nn.diagonal().cpu().double().sum() * whole.values_r.cpu().double().sum()

        def enough(values_r: torch.Tensor) -> bool:
            return leading_is_enough(values_r, whole.values_r, share, float(mass))

        part = self._all(larger) if share >= 1 else leading_eigh(S_nn, enough, otherwise=lambda: self._all(larger))
        if len(part.values_r) == len(S_nn):  # the sum that selection would find, to the last bit
            mass = part.values_r.cpu().double().sum() * whole.values_r.cpu().double().sum()
        rows, columns = (part, whole) if tall else (whole, part)
        return Basis(rows.values_r, rows.vectors_nr, columns.values_r, columns.vectors_nr, mass)

    def _all(self, name: str) -> Eigenpairs:
        """All eigenpairs of ``aaT`` or ``ggT``, computed once."""
        if name not in self._pairs:
            self._pairs[name] = all_eigh(getattr(self, name))
        return self._pairs[name]
