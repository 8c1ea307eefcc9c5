"""From what was found in a corpus to a pack: near-duplicates left out, two parts, twins, clean text."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from ...tasks import packs
from ...tasks.dedup import Groups, Neighbours
from ...tasks.recitation import LOOSE
from ..cli.mine import MADE
from ..lm.adapter import Continuation
from .search import Search

FAR = 0.5
"""Normalised edit distance that a twin's continuation has at least."""
CLEAN = 256
"""Blocks of clean text at most."""
COUNTS = (
    *("documents", "short", "tokens", "windows", "varied", "sieved", "recited", "decoded"),
    *("memorized", *packs.SPLITS, "twins", "clean", "forward_tokens"),
)
"""The counts in the order in which they come about."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window of a document.

    Attributes:
        document: its number in the corpus.
        source: where it stands there.
        sha256: of its text.
        offset: tokens before the window.
        ids: the window's.
        clean: whether the document holds nothing that was taken for recited.
    """

    document: int
    source: str
    sha256: str
    offset: int
    ids: list[int]
    clean: bool

    def key(self, seed: int) -> str:
        """By which windows are in a random order that the corpus's order has no say in."""
        return hashlib.sha256(f"{seed} {self.sha256} {self.offset}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a shard of the corpus holds.

    Attributes:
        counts: of documents and windows after each step.
        recited: windows that share no token.
        spare: windows that overlap none that was taken for recited, in random order.
    """

    counts: dict[str, int]
    recited: list[Window]
    spare: list[Window]


class Kept:
    """Recited windows of the shards in their order, without near-duplicates: of those the first stays.

    Args:
        jaccard: of near-duplicates, at least.
        limit: passages at most.

    Attributes:
        neighbours: all that was taken.
        shards: how many were added.
        counts: summed over them.
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
        """The passages."""
        return self._rows[: self._limit]

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached; never without one."""
        return self._limit is not None and len(self._rows) >= self._limit

    def add(self, part: Part) -> None:
        """Add the next shard; documents with near-duplicates are joined."""
        self.shards += 1
        self.counts.update(part.counts)
        for window in part.recited:
            self._sha256[window.document] = window.sha256
            near = self.neighbours.near(window.ids)
            for i in near:
                self._groups.join(self._rows[i].document, window.document)
            if not near:
                self.neighbours.add(window.ids)
                self._rows.append(window)

    def split(self, window: Window) -> str:
        """The part that a window's document is in, with all that are joined to it: by the hash of the first's text."""
        first = self._groups.lowest(window.document)
        return packs.SPLITS[int(self._sha256.get(first, window.sha256)[:8], 16) % 2]

    def summary(self) -> dict[str, int]:
        """The counts in their order."""
        return {**dict.fromkeys(COUNTS, 0), **self.counts, "memorized": len(self.rows)}


def write_pack(
    folder: Path, kept: Kept, spare: Iterable[Window], search: Search, arguments: Mapping[str, Any]
) -> list[str]:
    """Write the pack; a line for each thing that the corpus gave too few of.

    Args:
        folder: where to.
        kept: what is recited.
        spare: windows for twins and clean text.
        search: the model's.
        arguments: of the command, which the pack's provenance takes up.
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
        provenance={"made_by": MADE, "arguments": dict(arguments), "counts": kept.summary()},
    )
    packs.write(folder, {name: found for name, found in rows.items() if found}, about)
    backend = getattr(search.lm.tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.save(str(folder / "tokenizer.json"))
    lacking = [f"only {len(twins)} twins of {wanted}: the corpus has no more text"] if len(twins) < wanted else []
    for name, found in rows.items():
        there = {row["split"] for row in found}
        lacking += [f"no row of {name}.jsonl in the part {part!r}" for part in packs.SPLITS if part not in there]
    return lacking


def _twins(windows: Iterable[Window], wanted: int, kept: Kept, search: Search) -> tuple[list[Window], Iterator[Window]]:
    """The first ``wanted`` windows whose continuation is far, and those not taken; none near any taken before."""
    rest = iter(windows)
    twins: list[Window] = []
    over: list[Window] = []
    while len(twins) < wanted and (some := list(itertools.islice(rest, search.lm.batch))):
        continuations = search.lm.continuations([search.passage(window.ids, 0) for window in some])
        far = [window for window, found in zip(some, continuations, strict=True) if _is_far(found)]
        for window in _unlike(far, kept):
            (twins if len(twins) < wanted else over).append(window)
    return twins, itertools.chain(over, _unlike(rest, kept))


def _is_far(continuation: Continuation) -> bool:
    """Neither the continuation nor the single choices are near the text."""
    reading = continuation.reading
    distance = Levenshtein.distance(continuation.ids, continuation.gold) / len(continuation.gold)
    return distance >= FAR and float((reading.suffix(reading.rank) == 0).mean()) < LOOSE


def _unlike(windows: Iterable[Window], kept: Kept) -> Iterator[Window]:
    """Those that are near nothing taken before."""
    for window in windows:
        if not kept.neighbours.near(window.ids):
            kept.neighbours.add(window.ids)
            yield window


def _row(
    name: str, window: Window, kept: Kept, search: Search, arguments: Mapping[str, Any], *, whole: bool
) -> dict[str, Any]:
    decode = search.lm.tokenizer.decode
    row: dict[str, Any] = {"id": name, "split": kept.split(window)}
    if whole:
        row |= {"ids": window.ids, "text": decode(window.ids)}
    else:
        prefix, suffix = search.passage(window.ids, 0)
        given, text = decode(prefix), decode(prefix + suffix)
        asked = text.removeprefix(given) if text.startswith(given) else decode(suffix)
        row |= {"prefix_ids": prefix, "suffix_ids": suffix, "prefix_text": given, "suffix_text": asked}
    return row | {
        "source": window.source,
        "document": window.document,
        "offset": window.offset,
        "corpus": arguments["corpus"],
        "model": arguments["model"],
    }
