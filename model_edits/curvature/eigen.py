"""The leading eigenpairs of a positive semidefinite matrix: as many as are needed, by block Lanczos.

Sources: Golub and Underwood, "The block Lanczos method for computing eigenvalues" (1977); for the estimate of the whole
spectrum, Lin, Saad and Yang, "Approximating spectral densities of large matrices", arXiv 1308.5467.
Shapes: n = order, b = block, m = Krylov dimension, r = pairs returned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

Enough = Callable[[torch.Tensor], bool]
Times = Callable[[torch.Tensor], torch.Tensor]

SMALLEST = 1024
"""The order below which all pairs are computed."""
BLOCK = 64
FIRST_BLOCKS = 12
"""Of the space that the spectrum is first estimated from; more blocks resolve it finer."""
WORTHWHILE = 0.25
"""The part of all pairs beyond which computing all of them is about as fast."""


class Eigenpairs(NamedTuple):
    """Eigenvalues [r], falling and none negative, and their eigenvectors [n, r] as columns."""

    values_r: torch.Tensor
    vectors_nr: torch.Tensor


def all_eigh(S_nn: torch.Tensor) -> Eigenpairs:
    """All eigenpairs."""
    values_n, vectors_nn = torch.linalg.eigh(S_nn)
    return Eigenpairs(values_n.flip(0).clamp(min=0), vectors_nn.flip(1))


def leading_eigh(
    S_nn: torch.Tensor,
    enough: Enough,
    *,
    tolerance: float = 5e-6,
    block: int = BLOCK,
    smallest: int = SMALLEST,
    otherwise: Callable[[], Eigenpairs] | None = None,
) -> Eigenpairs:
    """The fewest leading eigenpairs that are ``enough``; all of them where fewer would not pay.

    Every pair has ``‖S u − λ u‖ ≤ tolerance · λ₁``, checked on the matrix itself. An eigenvalue above the last could be
    missed only by chance, as the space grows from random vectors; others are tried on what is left of the matrix, where
    one that stands out would show. All pairs are computed where an estimate of the spectrum asks for more than
    ``WORTHWHILE`` of them, where they do not converge in a space of 0.6 n, and where a check fails.

    Args:
        S_nn: symmetric, positive semidefinite; float32 or float64.
        enough: of the leading eigenvalues, falling; once true, true of more of them.
        tolerance: of a residual, relative to the largest eigenvalue; float32 allows no less than about 2e-6.
        block: columns that the space grows by.
        smallest: the order below which all pairs are computed.
        otherwise: gives all pairs, where they are at hand.
    """
    otherwise = otherwise or partial(all_eigh, S_nn)
    n = len(S_nn)
    trace = float(S_nn.diagonal().sum())
    if n < max(smallest, 2 * FIRST_BLOCKS * block) or not trace > 0:
        return otherwise()
    space = _Space(partial(torch.matmul, S_nn), _normal(S_nn, block, seed=0))
    space.grow(FIRST_BLOCKS * block)
    r = _fewest(space.spectrum(n, trace), enough)
    while r <= WORTHWHILE * n:
        theta_m, Y_mm = space.ritz_m, space.ritz_mm
        converged = int((space.residual_m() <= tolerance / 2).long().cumprod(0).sum())
        if converged and enough(theta_m[:converged]):
            theta_r = theta_m[: _fewest(theta_m[:converged], enough)]
            found = Eigenpairs(theta_r, space.Q_nm @ Y_mm[:, : len(theta_r)])
            return found if _holds(S_nn, found, tolerance) else otherwise()
        room = (int(0.6 * n) - space.size) // block * block
        if not room:
            break
        space.grow(min(room, max(2 * block, 2 * (r - converged)) if converged else 2 * r))
    return otherwise()


class _Space:
    """A block Krylov space: an orthonormal basis, and the matrix in it, which is block tridiagonal."""

    def __init__(self, times: Times, start_nb: torch.Tensor) -> None:
        self.times, self.block = times, start_nb.shape[1]
        self.next_nb = torch.linalg.qr(start_nb).Q
        self.coupling_bb = start_nb.new_zeros(self.block, self.block)
        self.Q_nm, self.T_mm = start_nb[:, :0], start_nb.new_zeros(0, 0)

    @property
    def size(self) -> int:
        return self.Q_nm.shape[1]

    def grow(self, columns: int) -> None:
        """By whole blocks; then the Ritz pairs, falling."""
        old, new = self.size, -(-columns // self.block) * self.block
        self.Q_nm = torch.cat([self.Q_nm, self.Q_nm.new_empty(len(self.Q_nm), new)], dim=1)
        self.T_mm = torch.nn.functional.pad(self.T_mm, (0, new, 0, new))
        for start in range(old, old + new, self.block):
            self._step(start, start + self.block)
        self.ritz_m, self.ritz_mm = all_eigh(self.T_mm)

    def _step(self, start: int, stop: int) -> None:
        """The recurrence, scaled to unit columns; only then is what rounding left of the earlier ones removed."""
        Q_nb, before = self.next_nb, slice(start - self.block, start)
        self.Q_nm[:, start:stop] = Q_nb
        rest_nb = self.times(Q_nb)
        if start:
            self.T_mm[start:stop, before], self.T_mm[before, start:stop] = self.coupling_bb, self.coupling_bb.T
            rest_nb = rest_nb - self.Q_nm[:, before] @ self.coupling_bb.T
        A_bb = Q_nb.T @ rest_nb
        self.T_mm[start:stop, start:stop] = (A_bb + A_bb.T) / 2
        rest_nb = rest_nb - Q_nb @ A_bb
        new_nb, triangle_bb = torch.linalg.qr(rest_nb)
        rounding = 10 * torch.finfo(Q_nb.dtype).eps * self.T_mm.abs().max()
        lost = triangle_bb.diagonal().abs() <= rounding
        if lost.any():  # nothing new that way: on in random directions
            new_nb[:, lost] = _normal(Q_nb, int(lost.sum()), seed=stop) / len(Q_nb) ** 0.5
        for _ in range(1 + bool(lost.any())):
            new_nb = torch.linalg.qr(new_nb - self.Q_nm[:, :stop] @ (self.Q_nm[:, :stop].T @ new_nb)).Q
        self.next_nb, self.coupling_bb = new_nb, new_nb.T @ rest_nb

    def residual_m(self) -> torch.Tensor:
        """The norm of each Ritz pair's residual, relative to the largest value."""
        residual_bm: torch.Tensor = self.coupling_bb / self.ritz_m[0] @ self.ritz_mm[-self.block :]
        return residual_bm.square().sum(0).sqrt()

    def spectrum(self, n: int, trace: float) -> torch.Tensor:
        """All n eigenvalues, roughly: a Ritz vector's share in the random start says how many are about its value."""
        counts_m = self.ritz_mm[: self.block].double().square().sum(0) * n / self.block
        ranks_m = counts_m.cumsum(0) - counts_m / 2
        rank_n = torch.arange(n, device=ranks_m.device) + 0.5
        after = torch.searchsorted(ranks_m, rank_n).clamp(1, len(ranks_m) - 1)
        steps = (ranks_m[after] - ranks_m[after - 1]).clamp(min=1e-9)
        values_n = torch.lerp(
            self.ritz_m[after - 1].double(),
            self.ritz_m[after].double(),
            ((rank_n - ranks_m[after - 1]) / steps).clamp(0, 1),
        )
        return values_n * (trace / values_n.sum())


def _fewest(values: torch.Tensor, enough: Enough) -> int:
    """How many of the values are enough, by bisection; one more than there are where all of them are not."""
    low, high = 1, len(values) + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(values[:middle]) else (middle + 1, high)
    return low


def _holds(S_nn: torch.Tensor, found: Eigenpairs, tolerance: float) -> bool:
    """Whether the residuals are small, and nothing larger shows in the rest of the matrix."""
    values_r, U_nr = found
    limit = tolerance * float(values_r[0])

    def rest(X_nb: torch.Tensor) -> torch.Tensor:
        return S_nn @ X_nb - U_nr @ (values_r[:, None] * (U_nr.T @ X_nb))

    space = _Space(rest, _normal(S_nn, 16, seed=1))
    space.grow(8 * 16)
    residual_r = ((S_nn @ U_nr - U_nr * values_r) / limit).norm(dim=0)
    return float(residual_r.max()) <= 1 and float(space.ritz_m[0]) <= float(values_r[-1]) + limit


def _normal(like: torch.Tensor, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(like), columns, generator=generator, dtype=like.dtype).to(like.device)
