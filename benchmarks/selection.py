"""Selecting components: by bisection over two spectra, against a heap that pops one at a time, and against a sort.

    python -m benchmarks.selection

Prints a Markdown table of medians, every row measured side by side in this run.
"""

from __future__ import annotations

import heapq
from functools import partial

import torch

from memsplit.model_edits.selection import keep_products, keep_share

from .spectra import trained
from .timing import timed

SHAPES = ((4096, 1024), (11008, 4096))
MASSES = (0.6, 0.8)
REPEATS = 5


def by_heap(lam: list[float], mu: list[float], mass: float) -> list[int]:
    """The reference's way, from its description: a heap of each row's next product; columns kept by row."""
    goal = mass * sum(lam) * sum(mu)
    heap = [(-value * mu[0], row, 0) for row, value in enumerate(lam)]
    heapq.heapify(heap)
    kept, total = [0] * len(lam), 0.0
    while heap and total < goal:
        product, row, column = heapq.heappop(heap)
        total -= product
        kept[row] += 1
        if column + 1 < len(mu):
            heapq.heappush(heap, (-lam[row] * mu[column + 1], row, column + 1))
    return kept


def measure() -> None:
    """Print the table."""
    print("| matrix | mass | components kept | heap, s | sort, s | bisection, s | heap / bisection |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for rows, columns in SHAPES:
        lam, mu = trained(rows, columns)
        lists = lam.tolist(), mu.tolist()
        product = lam[:, None] * mu
        for mass in MASSES:
            bisect_s, kept = timed(partial(keep_products, lam, mu, mass), REPEATS)
            heap_s, popped = timed(partial(by_heap, *lists, mass), REPEATS)
            sort_s, _ = timed(partial(keep_share, product, mass), 1)
            assert abs(int(kept.sum()) - sum(popped)) <= 1, (int(kept.sum()), sum(popped))
            share = int(kept.sum()) / rows / columns
            print(
                f"| {rows} × {columns} | {mass:.0%} | {int(kept.sum()):,} ({share:.1%}) "
                f"| {heap_s:.2f} | {sort_s:.2f} | {bisect_s:.3f} | {heap_s / bisect_s:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    measure()
