"""A whole kfac edit of one matrix: with all eigenvectors of both factors, against those that the kept components touch.

    python -m benchmarks.edit

Prints a Markdown table, measured side by side in this run; all eigenvectors are computed once a matrix. The spectra are
those of olmo-tiny's layer 3, stretched over the relative rank.

Shapes: o = out features, i = in features; n = order of a factor, ab = n.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import torch

from memsplit.model_edits.curvature.factors import Factors
from memsplit.model_edits.registry import MatrixEdit, Outcome, build
from memsplit.model_edits.spec import parse

from .spectra import trained
from .timing import timed

CASES = (("down", 2048, 8192), ("down", 4096, 11008), ("up", 8192, 2048))
PERCENTS = (60, 80)


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


def edited(weight_oi: torch.Tensor, factors: Factors, percent: int, *, whole: bool) -> Outcome:
    """The edit of the matrix, once with the whole eigenbasis at hand."""
    edit = build(parse(f"kfac-{percent}"))
    assert isinstance(edit, MatrixEdit)
    if whole:
        factors = dataclasses.replace(factors, basis=factors.eigenbasis)
    return edit.new_weight(weight_oi, factors, "matrix")


def measure() -> None:
    """Print the table."""
    print("| projection | matrix | mass | components kept | touched | whole, s | leading, s | ratio | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for proj, o, i in CASES:
        generator = torch.Generator().manual_seed(0)
        ggT_oo, aaT_ii = (factor(values, generator) for values in trained(o, i, proj))
        weight_oi = torch.randn(o, i, generator=generator)
        whole = Factors(aaT_ii, ggT_oo, 1)
        whole_s, _ = timed(partial(edited, weight_oi, whole, PERCENTS[0], whole=True), 1)
        for percent in PERCENTS:
            expected = edited(weight_oi, whole, percent, whole=True)
            leading = Factors(aaT_ii, ggT_oo, 1)
            leading_s, found = timed(partial(edited, weight_oi, leading, percent, whole=False), 1)
            basis = leading.leading_basis(percent / 100)
            touched = min(len(basis.lam_o) / o, len(basis.mu_i) / i)
            difference = float((found.weight - expected.weight).norm() / expected.weight.norm())
            print(
                f"| {proj} | {o} × {i} | {percent}% | {found.kept:,} ({found.kept / o / i:.1%}) "
                f"| {f'{touched:.0%}' if touched < 1 else 'most'} | {whole_s:.1f} | {leading_s:.1f} "
                f"| {whole_s / leading_s:.1f} | {difference:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    measure()
