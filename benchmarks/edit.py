"""A whole kfac edit of one matrix: with all eigenpairs of both factors, against the leading ones of the larger.

    python -m benchmarks.edit

Prints a Markdown table, measured side by side in this run; all eigenpairs are computed once a matrix, on one thread.
The spectra are olmo-tiny's, which grow with the matrix in either of two ways: ``stretched`` over the relative rank, or
``continued`` past their first third by the power law that they follow up to it.

Shapes: o = out features, i = in features; r, c = the leading ones; n = order of a factor, ab = n.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from memsplit.model_edits.eigen import Eigenpairs, all_eigh, leading_eigh
from memsplit.model_edits.selection import keep_products, leading_is_enough

from .spectra import trained
from .timing import timed

CASES = (
    ("stretched", 8192, 2048, (0.6,)),
    ("continued", 8192, 2048, (0.6, 0.8)),
    ("continued", 11008, 4096, (0.6,)),
)
"""Spectra, shape, and masses; where all eigenpairs are needed, one row shows it."""
TINY = (768, 192)
"""The shape of olmo-tiny's matrix."""


def continued(values: torch.Tensor, n: int) -> torch.Tensor:
    """The first third as they are, then the power law fitted to its last seven eighths."""
    known = len(values) // 3
    exponent = math.log(values[known // 8 - 1] / values[known - 1]) / math.log(8)
    tail = values[known - 1] * (torch.arange(known + 1, n + 1) / known).double() ** -exponent
    return torch.cat([values[:known], tail])


def factor(values_n: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A dense matrix of these eigenvalues, its eigenvectors mixed by small rotations and shuffles, twice."""
    n = len(values_n)
    a = next(a for a in range(math.isqrt(n), 0, -1) if n % a == 0)
    rotations = [torch.linalg.qr(torch.randn(k, k, generator=generator)).Q for k in (a, n // a) * 2]
    orders = [torch.randperm(n, generator=generator) for _ in range(2)]
    S_nn = torch.diag(values_n.float())
    for _ in range(2):  # both sides, as it is symmetric
        for turn, order_n in enumerate(orders):
            Q_aa, Q_bb = rotations[2 * turn : 2 * turn + 2]
            S_nn = (Q_aa @ S_nn.reshape(a, -1)).reshape(a, n // a, n)
            S_nn = (Q_bb @ S_nn).reshape(n, n)[order_n]
        S_nn = S_nn.T.contiguous()
    return (S_nn + S_nn.T) / 2


def both(ggT_oo: torch.Tensor, aaT_ii: torch.Tensor) -> tuple[Eigenpairs, Eigenpairs]:
    """All eigenpairs of both factors."""
    return all_eigh(ggT_oo), all_eigh(aaT_ii)


def edited(
    weight_oi: torch.Tensor, rows: Eigenpairs, columns: Eigenpairs, mass: float, total: float | None = None
) -> tuple[torch.Tensor, int]:
    """The weight with the leading components only, and their number."""
    columns_o = keep_products(rows.values_r, columns.values_r, mass, total=total)
    r, c = int((columns_o > 0).sum()), int(columns_o[0])
    U_or, V_ic = rows.vectors_nr[:, :r], columns.vectors_nr[:, :c]
    leading_rc = torch.arange(c) < columns_o[:r, None]
    return U_or @ (U_or.T @ weight_oi @ V_ic * leading_rc) @ V_ic.T, int(columns_o.sum())


def by_leading(
    weight_oi: torch.Tensor, ggT_oo: torch.Tensor, aaT_ii: torch.Tensor, mass: float
) -> tuple[torch.Tensor, int, int]:
    """The edit, the number of components, and of the larger factor's eigenpairs."""
    columns = all_eigh(aaT_ii)
    total = float(ggT_oo.diagonal().double().sum()) * float(columns.values_r.double().sum())
    rows = leading_eigh(ggT_oo, lambda lam_r: leading_is_enough(lam_r, columns.values_r, mass, total))
    return *edited(weight_oi, rows, columns, mass, total), len(rows.values_r)


def measure() -> None:
    """Print the table."""
    print("| spectra | matrix | mass | components kept | eigenpairs used | full, s | leading, s | ratio | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind, o, i, masses in CASES:
        generator = torch.Generator().manual_seed(0)
        spectra = trained(o, i) if kind == "stretched" else map(continued, trained(*TINY), (o, i))
        ggT_oo, aaT_ii = (factor(values, generator) for values in spectra)
        weight_oi = torch.randn(o, i, generator=generator)
        solve_s, (rows, columns) = timed(partial(both, ggT_oo, aaT_ii), 1)
        for mass in masses:
            edit_s, (expected, kept) = timed(partial(edited, weight_oi, rows, columns, mass), 1)
            leading_s, (found, count, used) = timed(partial(by_leading, weight_oi, ggT_oo, aaT_ii, mass), 1)
            assert abs(count - kept) <= 1e-3 * kept, (count, kept)
            print(
                f"| {kind} | {o} × {i} | {mass:.0%} | {kept:,} ({kept / o / i:.1%}) | {used} of {o} "
                f"| {solve_s + edit_s:.1f} | {leading_s:.1f} | {(solve_s + edit_s) / leading_s:.1f} "
                f"| {float((found - expected).norm() / expected.norm()):.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
