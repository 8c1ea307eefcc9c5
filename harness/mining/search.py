"""Find the windows of a document that a model recites: a cheap pass proposes windows, an exact pass decides.

A window is ``prefix + suffix`` tokens at any offset. It is recited if the model, given the prefix alone, decodes the
suffix greedily. With a stride s, the cheap pass reads blocks of ``prefix + suffix + s - 1`` tokens, one at every s-th
token. Each window lies whole in one block, but up to s - 1 tokens stand before it there, which the model does not see
in the exact pass. So the cheap pass only proposes windows. With a stride of 1 it reads every window alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...tasks.windows import apart, varied
from ..lm.adapter import MemsplitLM
from ..lm.forward import PrefixSuffix, chosen_logits, chunks

SLACK = 0.25
"""Share of the suffix that the model may miss in the cheap pass, where tokens stand before the window."""
HEAD = 8
"""Suffix tokens that are read first where every window is read alone: most windows fail there, at less cost."""
_AT_ONCE = 4096
"""Blocks whose rows are made at a time, which bounds the memory."""

Ids = list[int]


@dataclass(frozen=True, kw_only=True)
class WindowRule:
    """The lengths of windows, in tokens, and which windows are searched.

    Attributes:
        prefix: length of the prefix, which the model is given.
        suffix: length of the suffix, which it must decode.
        stride: distance between the blocks of the cheap pass.
        min_distinct: the least share of a window's tokens that are distinct.
    """

    prefix: int
    suffix: int
    stride: int
    min_distinct: float

    @property
    def length(self) -> int:
        """Length of a window."""
        return self.prefix + self.suffix

    @property
    def block(self) -> int:
        """Length of a block."""
        return self.length + self.stride - 1


class PassageSearch:
    """Searches documents for windows that a model recites.

    Args:
        lm: the model.
        rule: which windows are searched.

    Attributes:
        begin: the start token before each window, where the model wants one; empty otherwise.
        counts: windows that were left after each step, and ``forward_tokens``, the tokens of all forward passes.
    """

    def __init__(self, lm: MemsplitLM, rule: WindowRule) -> None:
        self.lm = lm
        self.rule = rule
        self.begin: Ids = lm.start
        self.counts: Counter[str] = Counter()
        self._special = sorted({*lm.tokenizer.all_special_ids, *lm.ends()})

    def searchable(self, ids: Ids) -> np.ndarray:
        """For each offset, whether its window is more than repetition and holds no special token [windows].

        Greedy decoding ends at a special token, so that no such window can be recited.
        """
        mask = varied(ids, self.rule.prefix, self.rule.suffix, self.rule.min_distinct)
        special = np.concatenate([[0], np.isin(ids, self._special).cumsum()])
        mask &= special[self.rule.length :][: len(mask)] == special[: len(mask)]
        self.counts["windows"] += len(mask)
        self.counts["varied"] += int(mask.sum())
        return mask

    def candidates(self, documents: Sequence[Ids], searchable: Sequence[np.ndarray]) -> list[dict[int, int]]:
        """The windows that may be recited.

        Args:
            documents: their ids.
            searchable: for each document, which offsets are searched.

        Returns:
            For each document, the number of suffix tokens that the model missed, by offset of the window.
        """
        rule = self.rule
        blocks = [
            (number, start)
            for number, mask in enumerate(searchable)
            for start in range(0, len(mask), rule.stride)
            if mask[start : start + rule.stride].any()
        ]
        if rule.stride == 1 and rule.suffix > HEAD:
            blocks = [at for at, missed in self._missed(documents, blocks, rule.prefix + HEAD) if not missed.any()]
        allowed = int(SLACK * rule.suffix) if rule.stride > 1 else 0
        candidates: list[dict[int, int]] = [{} for _ in documents]
        for (number, start), missed in self._missed(documents, blocks, rule.block):
            of_window = np.lib.stride_tricks.sliding_window_view(missed, rule.suffix).sum(1)
            for offset, misses in enumerate(of_window.tolist(), start):
                if misses <= allowed and searchable[number][offset]:
                    candidates[number][offset] = misses
        self.counts["sieved"] += sum(map(len, candidates))
        return candidates

    def recited(self, documents: Sequence[Ids], candidates: Sequence[dict[int, int]]) -> list[list[int]]:
        """For each document, the offsets of recited windows in ascending order; no two of them share a token.

        Of windows that overlap, the one with the fewest misses is tried first. Of those with equally many, the last is
        tried first, because its suffix ends where the recited text ends. Windows that overlap a recited one are not
        tried.
        """
        length = self.rule.length
        pending = [dict(offsets) for offsets in candidates]
        recited: list[list[int]] = [[] for _ in documents]
        while any(pending):
            tried = [
                (number, offset)
                for number, misses in enumerate(pending)
                for offset in apart(_best_first(misses), length)
            ]
            rows = [self.begin + documents[number][offset : offset + length] for number, offset in tried]
            first = len(self.begin) + self.rule.prefix
            self.counts["forward_tokens"] += sum(map(len, rows))
            for (number, offset), missed in zip(tried, self._wrong(rows, first), strict=True):
                del pending[number][offset]
                if not missed.any():
                    recited[number].append(offset)
                    pending[number] = {o: m for o, m in pending[number].items() if abs(o - offset) >= length}
        return self._decoded(documents, recited)

    def passage(self, ids: Ids, offset: int) -> PrefixSuffix:
        """A window as prefix, with the start token, and suffix."""
        cut = offset + self.rule.prefix
        return self.begin + ids[offset:cut], ids[cut : cut + self.rule.suffix]

    def _decoded(self, documents: Sequence[Ids], recited: Sequence[list[int]]) -> list[list[int]]:
        """For each document, those of the offsets whose window's greedy continuation is its suffix."""
        at = [(number, offset) for number, offsets in enumerate(recited) for offset in sorted(offsets)]
        passages = [self.passage(documents[number], offset) for number, offset in at]
        self._count(passages)
        kept: list[list[int]] = [[] for _ in recited]
        for (number, offset), continuation in zip(at, self.lm.continuations(passages), strict=True):
            if continuation.ids == continuation.gold:
                kept[number].append(offset)
        self.counts["recited"] += len(at)
        self.counts["decoded"] += sum(map(len, kept))
        return kept

    def _missed(
        self, documents: Sequence[Ids], blocks: Sequence[tuple[int, int]], length: int
    ) -> list[tuple[tuple[int, int], np.ndarray]]:
        """For each block, cut to ``length``, whether each token after its prefix is not the model's first choice."""
        missed_of: dict[tuple[int, int], np.ndarray] = {}
        first = len(self.begin) + self.rule.prefix
        for some in chunks(blocks, _AT_ONCE):
            rows = [self.begin + documents[number][start : start + length] for number, start in some]
            self.counts["forward_tokens"] += sum(map(len, rows))
            missed_of.update(zip(some, self._wrong(rows, first), strict=True))
        return [(at, missed_of[at]) for at in blocks]

    @torch.inference_mode()
    def _wrong(self, rows: Sequence[Ids], first: int) -> list[np.ndarray]:
        """For each row, whether each token from the ``first`` on is not the model's first choice."""
        wrong: dict[int, np.ndarray] = {}
        for chunk, logits in chosen_logits(self.lm.model, rows, [first - 1] * len(rows), self.lm.batch):
            for i, of_row in zip(chunk, logits, strict=True):
                wrong[i] = of_row.argmax(1).cpu().numpy() != np.array(rows[i][first:])
        return [wrong[i] for i in range(len(rows))]

    def _count(self, passages: Sequence[PrefixSuffix]) -> None:
        self.counts["forward_tokens"] += sum(len(prefix) + len(suffix) for prefix, suffix in passages)


def _best_first(misses: dict[int, int]) -> list[int]:
    """Offsets in the order of their misses; of equally many the last offset first."""
    return sorted(misses, key=lambda offset: (misses[offset], -offset))
