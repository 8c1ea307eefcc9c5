"""Windows of a document: runs of consecutive tokens of one length, named by the offset of their first token."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

import numpy as np

COPIED = 4
"""Length, in tokens, of the n-grams by which it is detected that a window copies from itself."""
_AT_ONCE = 1 << 16


def varied(ids: Sequence[int], prefix: int, suffix: int, share: float) -> np.ndarray:
    """Which windows are not mere repetition, which a model also continues if it has never seen it.

    A window is dropped if fewer than ``share`` of its tokens are distinct, or if more than half of its suffix's tokens
    end a run of :data:`COPIED` tokens that also occurs earlier in the window.

    Returns:
        A boolean array [N - prefix - suffix + 1] for N ids.
    """
    length = prefix + suffix
    if len(ids) < length:
        return np.zeros(0, dtype=bool)
    last = _last_seen(ids, 1)
    copied = _last_seen(ids, COPIED) - (COPIED - 1)
    found = []
    for start in range(0, len(ids) - length + 1, _AT_ONCE):
        part = slice(start, start + _AT_ONCE + length - 1)
        of_window = np.lib.stride_tricks.sliding_window_view(last[part], length)
        of_suffix = np.lib.stride_tricks.sliding_window_view(copied[part], length)[:, prefix:]
        offsets = np.arange(start, start + len(of_window))[:, None]
        distinct = (of_window < offsets).mean(1)
        found.append((distinct >= share) & ((of_suffix >= offsets).mean(1) <= 0.5))
    return np.concatenate(found)


def _last_seen(ids: Sequence[int], n: int) -> np.ndarray:
    """For each position, the last earlier position at which the same n ids end; -1 if there is none."""
    places: dict[tuple[int, ...], int] = {}
    found = np.full(len(ids), -1)
    for place, gram in enumerate(zip(*(ids[k:] for k in range(n)), strict=False), n - 1):
        found[place] = places.get(gram, -1)
        places[gram] = place
    return found


def apart(offsets: Iterable[int], length: int, taken: Iterable[int] = ()) -> list[int]:
    """The offsets, in their order, whose windows overlap neither with ``taken`` nor with one chosen before."""
    there = sorted(taken)
    found = []
    for offset in offsets:
        at = bisect.bisect(there, offset)
        if all(abs(offset - near) >= length for near in there[max(0, at - 1) : at + 1]):
            there.insert(at, offset)
            found.append(offset)
    return found
