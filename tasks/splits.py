"""Dev and test halves of rows, of which those that belong together are in the same half."""

from __future__ import annotations

from collections.abc import Sequence

from .packs import SPLITS


def halves(together: Sequence[Sequence[int]], hashes: Sequence[str]) -> list[str]:
    """The split of each row.

    The largest group comes first, of equally large ones that with the least hash; each goes into the half that is the
    smaller so far. The order of the rows does not matter.

    Args:
        together: groups of positions of rows; every row is in exactly one.
        hashes: of the rows' contents.
    """
    sizes, split = dict.fromkeys(SPLITS, 0), [""] * len(hashes)
    for group in sorted(together, key=lambda group: (-len(group), min(hashes[i] for i in group))):
        smaller = min(SPLITS, key=sizes.__getitem__)
        sizes[smaller] += len(group)
        for i in group:
            split[i] = smaller
    return split
