"""Which components to keep: the fewest that hold a share of a budget, the largest first, equal ones by their index.

Shapes: o = out features, i = in features.
"""

from __future__ import annotations

import math

import torch


def keep_count(values: torch.Tensor, share: float) -> torch.Tensor:
    """The largest ``round(share * n)`` of every row's n values; boolean, of the values' shape."""
    n = values.shape[-1]
    order = values.argsort(dim=-1, descending=True, stable=True)
    keep = torch.zeros_like(values, dtype=torch.bool)
    return keep.scatter_(-1, order[..., : round(share * n)], True)


def keep_share(values: torch.Tensor, share: float) -> torch.Tensor:
    """The smallest set, largest values first, whose sum reaches ``share`` of the total.

    Args:
        values: of any shape, none negative.
        share: 0 keeps nothing, 1 keeps all, those of no value too.

    Returns:
        Boolean, of the values' shape.
    """
    flat = values.flatten().double()
    keep = torch.ones_like(flat, dtype=torch.bool)
    if share < 1:
        largest, order = flat.sort(descending=True, stable=True)
        total = largest.cumsum(0)
        count = int((total < share * total[-1]).sum()) + 1 if share > 0 else 0
        keep[order[count:]] = False
    return keep.reshape(values.shape)


def keep_products(lam_o: torch.Tensor, mu_i: torch.Tensor, share: float, *, by: str = "mass") -> torch.Tensor:
    """:func:`keep_share` or :func:`keep_count` of all products ``lam_o * mu_i``, without forming them.

    Both spectra fall, so that each row keeps its first few columns. The threshold is found by bisection over the bits
    of a float64; every step counts the products at or above it, row by row, by binary search.

    Args:
        lam_o: [o], falling, not negative.
        mu_i: [i], falling, not negative.
        share: of the total, 0 to 1.
        by: ``mass``, a share of the products' sum, or ``count``, of their number.

    Returns:
        How many columns each row keeps [o], on the CPU; they fall.
    """
    lam_o, mu_i = lam_o.detach().double().cpu(), mu_i.detach().double().cpu()
    rows, columns = len(lam_o), len(mu_i)
    if share in (0, 1):
        return torch.full((rows,), columns if share else 0)
    sums_i = torch.cat([mu_i.new_zeros(1), mu_i.cumsum(0)])
    goal = share * float(lam_o.sum() * sums_i[-1]) if by == "mass" else float(round(share * rows * columns))

    def above(bits: int, *, strictly: bool = False) -> torch.Tensor:
        """How many products of each row are at least (or more than) the float of these bits."""
        threshold = torch.tensor(bits).view(torch.float64)
        low, high = torch.zeros(rows, dtype=torch.long), torch.full((rows,), columns)
        while bool((low < high).any()):
            middle = (low + high) // 2
            product = lam_o * mu_i[middle.clamp(max=columns - 1)]
            inside = (product > threshold if strictly else product >= threshold) & (low < high)
            low, high = torch.where(inside, middle + 1, low), torch.where(inside, high, torch.minimum(middle, high))
        return low

    def reached(count_o: torch.Tensor) -> float:
        return float((lam_o * sums_i[count_o]).sum() if by == "mass" else count_o.sum())

    few, many = 0, int((lam_o[:1] * mu_i[:1]).view(torch.int64)) + 1  # a positive float's bits rise with it
    while many - few > 1:
        bits = (few + many) // 2
        few, many = (bits, many) if reached(above(bits)) >= goal else (few, bits)
    larger_o = above(few, strictly=True)
    equal_o = above(few) - larger_o
    worth = float(torch.tensor(few).view(torch.float64)) if by == "mass" else 1.0
    wanted = math.ceil((goal - reached(larger_o)) / worth) if worth else 0
    before_o = equal_o.cumsum(0) - equal_o
    return larger_o + (wanted - before_o).clamp(min=0).minimum(equal_o)
