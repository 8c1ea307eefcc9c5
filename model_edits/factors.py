"""Curvature factors of one matrix, and their eigenbasis.

Shapes: o = out features, i = in features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from .hashing import tensors_sha256


@dataclass(frozen=True, kw_only=True)
class Basis:
    """The Kronecker eigenbasis of a matrix; eigenvalues fall, and none is negative.

    Attributes:
        lam_o: eigenvalues of ``ggT``.
        U_oo: its eigenvectors, as columns.
        mu_i: eigenvalues of ``aaT``.
        V_ii: its eigenvectors, as columns.
    """

    lam_o: torch.Tensor
    U_oo: torch.Tensor
    mu_i: torch.Tensor
    V_ii: torch.Tensor

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

    @cached_property
    def eigenbasis(self) -> Basis:
        """The eigenbasis, computed once."""
        mu_i, V_ii = torch.linalg.eigh(self.aaT)
        lam_o, U_oo = torch.linalg.eigh(self.ggT)
        return Basis(
            lam_o=lam_o.flip(0).clamp(min=0), U_oo=U_oo.flip(1), mu_i=mu_i.flip(0).clamp(min=0), V_ii=V_ii.flip(1)
        )
