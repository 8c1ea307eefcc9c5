"""Curvature factors of one matrix, their eigenbasis, and the cache that keeps them.

Shapes: o = out features, i = in features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import UserError
from ..files import canonical, digest, replacing
from .hashing import tensors_sha256

FORMAT = 2


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
    """

    aaT: torch.Tensor
    ggT: torch.Tensor
    tokens: int
    fisher_oi: torch.Tensor | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """The statistics at hand, by name."""
        named = {"aaT": self.aaT, "ggT": self.ggT, "fisher_oi": self.fisher_oi}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def to(self, device: torch.device) -> Factors:
        """The same on a device."""
        return Factors(tokens=self.tokens, **{name: t.to(device) for name, t in self.tensors().items()})

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


class FactorStore:
    """Factors on disk: one safetensors file a matrix, named by a hash of everything that decides its content.

    Args:
        folder: of the cache; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, arguments: Mapping[str, str | int], matrix: str) -> Path:
        """Where the factors of ``matrix`` collected with ``arguments`` lie, or would."""
        return self.folder / digest({**arguments, "format": FORMAT})[:32] / f"{matrix}.safetensors"

    def has(self, arguments: Mapping[str, str | int], matrix: str) -> bool:
        """Whether there is a file for these factors (whole or not)."""
        return self.path(arguments, matrix).exists()

    def load(self, arguments: Mapping[str, str | int], matrix: str) -> Factors:
        """Read factors.

        Raises:
            UserError: the file is missing, damaged, or of other arguments than its name says (both are shown).
        """
        path = self.path(arguments, matrix)
        try:
            with safe_open(path, framework="pt") as file:
                meta = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"the factors {path} are damaged ({error}); delete the file to collect them again"
            ) from error
        expected = _text(arguments, matrix)
        if meta.get("arguments") != expected:
            raise UserError(f"the factors {path} are of {meta.get('arguments')}, expected {expected}")
        factors = Factors(tokens=int(meta["tokens"]), **tensors)
        if meta.get("sha256") != factors.sha256:
            raise UserError(f"the factors {path} are damaged (hash differs); delete the file to collect them again")
        return factors

    def save(self, arguments: Mapping[str, str | int], matrix: str, factors: Factors) -> Path:
        """Write factors in one step: a reader sees the whole file or none.

        Raises:
            UserError: the folder cannot be written to.
        """
        path = self.path(arguments, matrix)
        tensors = {name: t.float().cpu().contiguous() for name, t in factors.tensors().items()}
        metadata = {
            "arguments": _text(arguments, matrix),
            "tokens": str(factors.tokens),
            "sha256": Factors(tokens=factors.tokens, **tensors).sha256,
        }
        try:
            with replacing(path) as partial:
                save_file(tensors, partial, metadata=metadata)
        except (OSError, SafetensorError) as error:
            raise UserError(f"the factor cache {self.folder} cannot be written to ({error})") from error
        return path


def _text(arguments: Mapping[str, str | int], matrix: str) -> str:
    return canonical({**arguments, "format": FORMAT, "matrix": matrix})
