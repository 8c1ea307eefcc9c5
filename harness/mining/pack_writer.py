"""Write a pack from recited and spare windows: without near-duplicates, in two splits, with twins and clean text."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from ...tasks import packs
from ...tasks.dedup import Groups, Neighbours
from ...tasks.recitation import LOOSE, Generation
from .request import MADE_BY
from .search import PassageSearch
from .unfinished import ShardResult, UnfinishedWork, Window

FAR = 0.5
"""The least normalised edit distance between the continuation of a twin and its text."""
CLEAN = 256
"""The largest number of blocks of clean text."""
COUNTS = (
    *("documents", "short", "tokens", "windows", "varied", "sieved", "recited", "decoded"),
    *("memorized", *packs.SPLITS, "twins", "clean", "forward_tokens"),
)
"""Names of the counts, in the order of the steps."""


class KeptPassages:
    """The recited windows of the shards in their order; of near-duplicates the first is kept.

    Args:
        jaccard: the least Jaccard similarity of near-duplicates.
        limit: the largest number of passages; ``None`` for no limit.

    Attributes:
        neighbours: index of everything that was taken for the pack.
        shards: how many shards were added.
        counts: their counts, summed.
    """

    def __init__(self, jaccard: float, limit: int | None) -> None:
        self.neighbours = Neighbours(jaccard)
        self.shards = 0
        self.counts: Counter[str] = Counter()
        self._limit = limit
        self._rows: list[Window] = []
        self._groups = Groups()
        self._sha256: dict[int, str] = {}

    @property
    def rows(self) -> list[Window]:
        """The passages that are kept, ``limit`` at most."""
        return self._rows[: self._limit]

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached; false where there is none."""
        return self._limit is not None and len(self._rows) >= self._limit

    def fill(self, work: UnfinishedWork) -> bool:
        """Add the finished shards that were not added yet, and return whether the limit is reached."""
        for result in work.results(self.shards):
            if self.is_full:
                break
            self.add(result)
        return self.is_full

    def add(self, result: ShardResult) -> None:
        """Add the next shard; documents that have near-duplicates of each other go into one split."""
        self.shards += 1
        self.counts.update(result.counts)
        for window in result.recited:
            self._sha256[window.document] = window.sha256
            near = self.neighbours.near(window.ids)
            for i in near:
                self._groups.join(self._rows[i].document, window.document)
            if not near:
                self.neighbours.add(window.ids)
                self._rows.append(window)

    def split(self, window: Window) -> str:
        """The split of a window's document and all that are joined to it, by the hash of the first document's text."""
        first = self._groups.lowest(window.document)
        return packs.SPLITS[int(self._sha256.get(first, window.sha256)[:8], 16) % 2]

    def summary(self) -> dict[str, int]:
        """The counts, in the order of :data:`COUNTS`."""
        return {**dict.fromkeys(COUNTS, 0), **self.counts, "memorized": len(self.rows)}


def write_pack(
    folder: Path, kept: KeptPassages, spare: Iterable[Window], search: PassageSearch, arguments: Mapping[str, Any]
) -> list[str]:
    """Write the pack.

    Args:
        folder: where the pack goes.
        kept: the recited passages.
        spare: windows that twins and clean text are chosen from.
        search: a search by the model, which decodes the continuations of possible twins.
        arguments: what decided the passages; they go into the provenance of the pack.

    Returns:
        One line for each thing of which the corpus gave too few.
    """
    wanted = arguments["twins"] or len(kept.rows)
    chosen = heapq.nsmallest(4 * (wanted + CLEAN), spare, key=lambda w: w.key(arguments["seed"]))
    twins, rest = _twins(chosen, wanted, kept, search)
    clean = list(itertools.islice((window for window in rest if window.clean), CLEAN))
    files = {"memorized": kept.rows, "twins": twins, "clean": clean}
    rows = {
        name: [
            _row(f"{name.removesuffix('s')}-{number}", window, kept, search, arguments, whole=name == "clean")
            for number, window in enumerate(sorted(windows, key=lambda w: (w.document, w.offset)))
        ]
        for name, windows in files.items()
    }
    kept.counts.update(twins=len(twins), clean=len(clean))
    kept.counts.update({part: sum(row["split"] == part for row in rows["memorized"]) for part in packs.SPLITS})
    about = packs.Manifest(
        version="1.0",
        summary=f"{len(kept.rows)} passages that {arguments['model']} recites, found in {arguments['corpus']}",
        provenance={"made_by": MADE_BY, "arguments": dict(arguments), "counts": kept.summary()},
    )
    packs.write(folder, {name: of_file for name, of_file in rows.items() if of_file}, about)
    backend = getattr(search.lm.tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.save(str(folder / "tokenizer.json"))
    lacking = [f"only {len(twins)} twins of {wanted}: the corpus has no more text"] if len(twins) < wanted else []
    for name, of_file in rows.items():
        there = {row["split"] for row in of_file}
        lacking += [f"no row of {name}.jsonl in the part {part!r}" for part in packs.SPLITS if part not in there]
    return lacking


def _twins(
    windows: Iterable[Window], wanted: int, kept: KeptPassages, search: PassageSearch
) -> tuple[list[Window], Iterator[Window]]:
    """The first ``wanted`` windows whose continuation is far from their text, and the windows that are left.

    Neither holds a near-duplicate of anything that was taken for the pack.
    """
    rest = iter(windows)
    twins: list[Window] = []
    over: list[Window] = []
    while len(twins) < wanted and (some := list(itertools.islice(rest, search.lm.batch))):
        continuations = search.lm.continuations([search.passage(window.ids, 0) for window in some])
        far = [window for window, continuation in zip(some, continuations, strict=True) if _is_far(continuation)]
        for window in _unlike(far, kept):
            (twins if len(twins) < wanted else over).append(window)
    return twins, itertools.chain(over, _unlike(rest, kept))


def _is_far(continuation: Generation) -> bool:
    """Whether neither the decoded text nor the model's first choices, token by token, are near the text."""
    stats = continuation.stats
    distance = Levenshtein.distance(continuation.ids, continuation.gold) / len(continuation.gold)
    return distance >= FAR and float((stats.suffix(stats.rank) == 0).mean()) < LOOSE


def _unlike(windows: Iterable[Window], kept: KeptPassages) -> Iterator[Window]:
    """The windows that are no near-duplicate of anything taken before; each of them counts as taken."""
    for window in windows:
        if not kept.neighbours.near(window.ids):
            kept.neighbours.add(window.ids)
            yield window


def _row(
    name: str, window: Window, kept: KeptPassages, search: PassageSearch, arguments: Mapping[str, Any], *, whole: bool
) -> dict[str, Any]:
    """A line of the pack; a ``whole`` window is not divided into prefix and suffix.

    Neither ids nor texts have what a text begins with: whoever reads them puts that of their own model in front.
    """
    decode = search.lm.tokenizer.decode
    row: dict[str, Any] = {"id": name, "split": kept.split(window)}
    if whole:
        row |= {"ids": window.ids, "text": decode(window.ids)}
    else:
        cut = search.rule.prefix
        prefix, suffix = window.ids[:cut], window.ids[cut:]
        prefix_text, text = decode(prefix), decode(prefix + suffix)
        suffix_text = text.removeprefix(prefix_text) if text.startswith(prefix_text) else decode(suffix)
        row |= {"prefix_ids": prefix, "suffix_ids": suffix, "prefix_text": prefix_text, "suffix_text": suffix_text}
    return row | {
        "source": window.source,
        "document": window.document,
        "offset": window.offset,
        "corpus": arguments["corpus"],
        "model": arguments["model"],
    }
