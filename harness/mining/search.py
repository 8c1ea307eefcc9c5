"""Which windows of a document a model recites: a cheap pass, then the exact one where that leaves hope.

A window is ``prefix + suffix`` tokens at any offset; it is recited where the suffix is what the model decodes greedily
from the prefix alone. With a stride s, one pass over a block of ``prefix + suffix + s - 1`` tokens at every s-th token
looks at all windows at once: each lies whole in one block, with at most s - 1 tokens before it that an exact pass does
not show. So it only says which windows to try. A stride of 1 shows every window alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...tasks.windows import apart, varied
from ..lm.adapter import MemsplitLM
from ..lm.forward import PrefixSuffix, batches, chunks, teacher_forced

SLACK = 0.25
"""Share of the suffix that the cheap pass may find the model to miss, where it showed more than the window."""
HEAD = 8
"""Suffix tokens of the pass before, where every window is read alone."""
_AT_ONCE = 4096
"""Rows made at a time."""

Ids = list[int]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which windows are looked at.

    Attributes:
        prefix: tokens given.
        suffix: tokens asked.
        stride: tokens between the cheap pass's blocks.
        min_distinct: share of a window's tokens that must be distinct.
    """

    prefix: int
    suffix: int
    stride: int
    min_distinct: float

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.prefix + self.suffix

    @property
    def block(self) -> int:
        """Tokens of a block."""
        return self.length + self.stride - 1


class Search:
    """Looks for what a model recites.

    Args:
        lm: the model.
        rule: which windows are looked at.

    Attributes:
        begin: the start token that stands before each window, where the model wants one.
        counts: windows left after each step, and ``forward_tokens``, those of all passes.
    """

    def __init__(self, lm: MemsplitLM, rule: Rule) -> None:
        self.lm = lm
        self.rule = rule
        self.begin: Ids = lm.start
        self.counts: Counter[str] = Counter()
        self._special = sorted({*lm.tokenizer.all_special_ids, *lm.ends()})

    def askable(self, ids: Ids) -> np.ndarray:
        """Which offsets' windows are more than repetition, and hold no special token: none can be decoded past one."""
        found = varied(ids, self.rule.prefix, self.rule.suffix, self.rule.min_distinct)
        special = np.concatenate([[0], np.isin(ids, self._special).cumsum()])
        found &= special[self.rule.length :][: len(found)] == special[: len(found)]
        self.counts["windows"] += len(found)
        self.counts["varied"] += int(found.sum())
        return found

    def candidates(self, documents: Sequence[Ids], asked: Sequence[np.ndarray]) -> list[dict[int, int]]:
        """For each document, the offsets of windows that may be recited, with the suffix tokens that the model missed.

        Args:
            documents: ids.
            asked: of each, which offsets are looked at.
        """
        rule = self.rule
        blocks = [
            (number, start)
            for number, mask in enumerate(asked)
            for start in range(0, len(mask), rule.stride)
            if mask[start : start + rule.stride].any()
        ]
        if rule.stride == 1 and rule.suffix > HEAD:
            blocks = [at for at, missed in self._missed(documents, blocks, rule.prefix + HEAD) if not missed.any()]
        allowed = int(SLACK * rule.suffix) if rule.stride > 1 else 0
        found: list[dict[int, int]] = [{} for _ in documents]
        for (number, start), missed in self._missed(documents, blocks, rule.block):
            of_window = np.lib.stride_tricks.sliding_window_view(missed, rule.suffix).sum(1)
            for offset, misses in enumerate(of_window.tolist(), start):
                if misses <= allowed and asked[number][offset]:
                    found[number][offset] = misses
        self.counts["sieved"] += sum(map(len, found))
        return found

    def recited(self, documents: Sequence[Ids], candidates: Sequence[dict[int, int]]) -> list[list[int]]:
        """For each document, the offsets of recited windows, ascending, no two of which share a token.

        Of windows that overlap, the one with the fewest misses is tried first, and of equals the last, whose suffix is
        where the recited text ends. Those that overlap a recited one are not tried.
        """
        length = self.rule.length
        pending = [dict(offsets) for offsets in candidates]
        found: list[list[int]] = [[] for _ in documents]
        while any(pending):
            tried = [
                (number, offset)
                for number, misses in enumerate(pending)
                for offset in apart(_best_first(misses), length)
            ]
            passages = [self.passage(documents[number], offset) for number, offset in tried]
            self._count(passages)
            for (number, offset), stats in zip(
                tried, teacher_forced(self.lm.model, passages, batch=self.lm.batch), strict=True
            ):
                del pending[number][offset]
                if not stats.suffix(stats.rank).any():
                    found[number].append(offset)
                    pending[number] = {o: m for o, m in pending[number].items() if abs(o - offset) >= length}
        return self._decoded(documents, found)

    def passage(self, ids: Ids, offset: int) -> PrefixSuffix:
        """A window as it is asked."""
        cut = offset + self.rule.prefix
        return self.begin + ids[offset:cut], ids[cut : cut + self.rule.suffix]

    def _decoded(self, documents: Sequence[Ids], found: Sequence[list[int]]) -> list[list[int]]:
        """Those whose greedy continuation is the suffix."""
        at = [(number, offset) for number, offsets in enumerate(found) for offset in sorted(offsets)]
        passages = [self.passage(documents[number], offset) for number, offset in at]
        self._count(passages)
        kept: list[list[int]] = [[] for _ in found]
        for (number, offset), continuation in zip(at, self.lm.continuations(passages), strict=True):
            if continuation.ids == continuation.gold:
                kept[number].append(offset)
        self.counts["recited"] += len(at)
        self.counts["decoded"] += sum(map(len, kept))
        return kept

    def _missed(
        self, documents: Sequence[Ids], blocks: Sequence[tuple[int, int]], length: int
    ) -> list[tuple[tuple[int, int], np.ndarray]]:
        """Each block, cut to ``length``, with which of its tokens after a prefix are not the model's first choice."""
        found: dict[tuple[int, int], np.ndarray] = {}
        first = len(self.begin) + self.rule.prefix
        for some in chunks(blocks, _AT_ONCE):
            rows = [self.begin + documents[number][start : start + length] for number, start in some]
            self.counts["forward_tokens"] += sum(map(len, rows))
            for chunk, ids in batches(rows, self.lm.batch, self.lm.model.device):
                with torch.inference_mode():
                    best = self.lm.model(ids, use_cache=False).logits[:, :-1].argmax(-1)
                missed = (best != ids[:, 1:]).cpu().numpy()
                found.update((some[i], missed[k, first - 1 : len(rows[i]) - 1]) for k, i in enumerate(chunk))
        return [(at, found[at]) for at in blocks]

    def _count(self, passages: Sequence[PrefixSuffix]) -> None:
        self.counts["forward_tokens"] += sum(len(prefix) + len(suffix) for prefix, suffix in passages)


def _best_first(misses: dict[int, int]) -> list[int]:
    """Offsets by their misses, of equals the last first."""
    return sorted(misses, key=lambda offset: (misses[offset], -offset))
