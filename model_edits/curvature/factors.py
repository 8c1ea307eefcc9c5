"""Curvature factors of one matrix, and their eigenbasis.

Shapes: o = out features, i = in features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from ..hashing import tensors_sha256
from ..lazy import torch


class Basis(NamedTuple):
    """The Kronecker eigenbasis of a matrix. Eigenvalues fall, and none is negative.

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
    """Second moments of a linear layer, by name, each a mean over positions.

    - ``aaT``: E[a aᵀ] [i, i] of the layer's inputs, and ``ggT``: E[g gᵀ] [o, o] of the gradients, at its outputs, of
      the summed cross-entropy (K-FAC);
    - ``fisher_oi``: E[(Uᵀ g aᵀ V)²] [o, i], the curvature of each component (E-KFAC), beside ``aaT`` and ``ggT``, and
      with the fields of the :class:`Basis` that it was measured in;
    - ``aaT_diag``: E[a²] [i] alone, from forward passes.

    Attributes:
        moments: the tensors by these names.
        tokens: positions that they are means over; those of ``fisher_oi`` if it is there.
        imported: sha256 of the file that they were read from, if they were not collected here.
        errors: the relative standard errors of moments, where the collection told them (see ``Sums.error``).
    """

    moments: Mapping[str, torch.Tensor]
    tokens: int
    imported: str = ""
    errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def aaT(self) -> torch.Tensor:
        """E[a aᵀ] [i, i]."""
        return self._moment("aaT")

    @property
    def ggT(self) -> torch.Tensor:
        """E[g gᵀ] [o, o]."""
        return self._moment("ggT")

    @property
    def fisher_oi(self) -> torch.Tensor:
        """E[(Uᵀ g aᵀ V)²] [o, i]."""
        return self._moment("fisher_oi")

    @property
    def aaT_diag(self) -> torch.Tensor:
        """E[a²] [i]: the diagonal of ``aaT``."""
        return self.moments["aaT_diag"] if "aaT_diag" in self.moments else self.aaT.diagonal()

    def _moment(self, name: str) -> torch.Tensor:
        if name not in self.moments:
            raise ValueError(f"{name!r} was not collected, only {', '.join(self.moments)}: see Edit.statistic")
        return self.moments[name]

    def to(self, to: torch.device | torch.dtype) -> Factors:
        """The same on a device, or of a type."""
        moved: dict[str, torch.Tensor] = {name: torch.Tensor.to(tensor, to) for name, tensor in self.moments.items()}
        if all(tensor is moved[name] for name, tensor in self.moments.items()):
            return self
        return replace(self, moments=moved)

    def diagonal(self) -> Factors:
        """The factors with ``aaT_diag`` alone."""
        errors = {"aaT_diag": self.errors["aaT_diag"]} if "aaT_diag" in self.errors else {}
        return replace(self, moments={"aaT_diag": self.aaT_diag}, errors=errors)

    @property
    def nbytes(self) -> int:
        """Bytes of the moments."""
        return sum(tensor.nbytes for tensor in self.moments.values())

    @property
    def known(self) -> bool:
        """Whether there is any curvature: an expert that no token was routed to has none."""
        return all(bool(self.moments[name].any()) for name in ("aaT", "ggT", "aaT_diag") if name in self.moments)

    @cached_property
    def sha256(self) -> str:
        """The sha256 of the moments' contents."""
        return tensors_sha256(self.moments)

    @cached_property
    def eigenbasis(self) -> Basis:
        """The basis that ``fisher_oi`` was measured in, or else the eigenvectors of ``ggT`` and ``aaT``."""
        if "U_oo" in self.moments:
            return Basis(*(self.moments[name] for name in Basis._fields))
        return Basis(*_eigh(self.ggT), *_eigh(self.aaT))


def _eigh(S_nn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues [n], falling and none negative, and eigenvectors [n, n] as columns, of the type of ``S_nn``.

    They are computed in float64. In float32 the eigenvectors of small eigenvalues hang on last bits, and so on the
    processor and its library.
    """
    device = "cpu" if S_nn.device.type == "mps" else S_nn.device  # which has no float64
    values_n, vectors_nn = torch.linalg.eigh(S_nn.to(device, torch.float64))
    return values_n.flip(0).clamp(min=0).to(S_nn), vectors_nn.flip(1).to(S_nn)
