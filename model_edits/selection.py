"""Ablation masks: which components to keep so that a share of a budget is held by the fewest.

Larger components are kept before smaller ones, and equal ones in the order of their index.
Shapes: o = out features, i = in features.
"""

from __future__ import annotations

import math

from .lazy import torch


def keep_count(values: torch.Tensor, share: float) -> torch.Tensor:
    """The mask of the largest ``round(share * n)`` of the n values of every row; boolean, of the values' shape."""
    n = values.shape[-1]
    order = values.argsort(dim=-1, descending=True, stable=True)
    keep = torch.zeros_like(values, dtype=torch.bool)
    return keep.scatter_(-1, order[..., : round(share * n)], True)


def keep_share(values: torch.Tensor, share: float) -> torch.Tensor:
    """The mask of the smallest set of values, largest first, whose sum is at least ``share`` of the sum of all.

    Args:
        values: of any shape, none negative.
        share: 0 keeps nothing; 1 keeps everything, zeros too. If all values are zero, any share above 0 keeps all.

    Returns:
        Boolean, of the values' shape.
    """
    flat = values.flatten().double()
    keep = torch.ones_like(flat, dtype=torch.bool)
    if share == 0 or (share < 1 and bool(flat.any())):
        largest, order = flat.sort(descending=True, stable=True)
        total = largest.cumsum(0)
        count = int((total < share * total[-1]).sum()) + 1 if share > 0 else 0
        keep[order[count:]] = False
    return keep.reshape(values.shape)


def keep_products(lam_o: torch.Tensor, mu_i: torch.Tensor, share: float, *, by: str = "mass") -> torch.Tensor:
    """:func:`keep_share` or :func:`keep_count` of all products ``lam_o[:, None] * mu_i``, without forming them.

    Both spectra fall, so the mask keeps the first few columns of each row. The logarithm of a threshold is bisected.
    The products above a threshold are counted row by row with a binary search, until the few products between two
    thresholds can be sorted.

    Args:
        lam_o: [o], falling, not negative.
        mu_i: [i], falling, not negative.
        share: of the total, 0 to 1.
        by: the total is the sum of the products (``mass``) or their number (``count``).

    Returns:
        The number of columns that each row keeps [o], on the CPU; these numbers fall.
    """
    lam_o, mu_i = lam_o.detach().cpu().double(), mu_i.detach().cpu().double()
    rows, columns = len(lam_o), len(mu_i)
    if share in (0, 1) or not float(lam_o[0] * mu_i[0]):
        kept = rows * columns if share and by == "mass" else round(share * rows * columns)
        return (kept - columns * torch.arange(rows)).clamp(0, columns)
    sums_i = torch.cat([mu_i.new_zeros(1), mu_i.cumsum(0)])
    goal = share * float(lam_o.sum() * sums_i[-1]) if by == "mass" else float(round(share * rows * columns))

    def reached(count_o: torch.Tensor) -> float:
        return float((lam_o * sums_i[count_o]).sum() if by == "mass" else count_o.sum())

    few_o, many_o = torch.zeros(rows, dtype=torch.long), torch.full((rows,), columns)
    high = math.log(float(lam_o[0] * mu_i[0])) + 1e-9
    low = math.log(float(lam_o[lam_o > 0][-1]) * float(mu_i[mu_i > 0][-1])) - 1e-9
    while int((many_o - few_o).sum()) > 4 * (rows + columns) and high - low > 1e-12:
        middle = (high + low) / 2
        count_o = torch.searchsorted(-mu_i, -math.exp(middle) / lam_o, right=True)
        if reached(count_o) >= goal:
            many_o, low = count_o, middle
        else:
            few_o, high = count_o, middle
    between_o = many_o - few_o
    row_n = torch.arange(rows).repeat_interleave(between_o)
    column_n = torch.arange(len(row_n)) - (between_o.cumsum(0) - between_o - few_o)[row_n]
    value_n, order_n = (lam_o[row_n] * mu_i[column_n]).sort(descending=True, stable=True)
    if by == "count":
        value_n = torch.ones_like(value_n)
    wanted = int((reached(few_o) + value_n.cumsum(0) < goal).sum()) + (reached(few_o) < goal)
    return few_o + torch.bincount(row_n[order_n[:wanted]], minlength=rows)
