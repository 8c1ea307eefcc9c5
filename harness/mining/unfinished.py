"""What mining keeps while it is not finished: a file for each shard of the corpus, in a folder of the pack's.

A shard's result does not depend on any other shard, so that killed work continues where it was and several processes
share the shards.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...files import write_whole
from ..common.unfinished import Unfinished, read_json
from .request import UNFINISHED


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window of a document: as many tokens as a prefix and a suffix together.

    Attributes:
        document: number of the document in the corpus.
        source: where the document stands in the corpus.
        sha256: hash of the document's text.
        offset: tokens of the document before the window.
        ids: the window's tokens.
        clean: whether the document has no window that may be recited.
    """

    document: int
    source: str
    sha256: str
    offset: int
    ids: list[int]
    clean: bool

    def key(self, seed: int) -> str:
        """A sort key that puts windows in a random order, which does not depend on the order of the corpus."""
        return hashlib.sha256(f"{seed} {self.sha256} {self.offset}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ShardResult:
    """What was found in one shard of the corpus.

    Attributes:
        counts: documents and windows that were left after each step.
        recited: recited windows, no two of which share a token.
        spare: windows that overlap none that may be recited, in random order.
    """

    counts: dict[str, int]
    recited: list[Window]
    spare: list[Window]


class UnfinishedWork(Unfinished):
    """The folder of a pack that is not finished: the arguments of the work, and a file for each finished shard.

    Args:
        out: the folder of the pack.
        arguments: everything that decides what is found.
    """

    def __init__(self, out: Path, arguments: dict[str, Any]) -> None:
        super().__init__(out, UNFINISHED, arguments)

    def has(self, number: int) -> bool:
        """Whether a shard is finished."""
        return self._path(number).exists()

    def write(self, number: int, result: ShardResult) -> None:
        """Keep the result of a shard."""
        write_whole(self._path(number), json.dumps(asdict(result)))

    def results(self, first: int = 0) -> Iterator[ShardResult]:
        """The results of the shards from ``first`` on, up to the first shard that is not finished."""
        for number in itertools.count(first):
            if not self.has(number):
                return
            content = read_json(self._path(number))
            windows = {name: [Window(**w) for w in content[name]] for name in ("recited", "spare")}
            yield ShardResult(counts=content["counts"], **windows)

    def documents_done(self) -> int:
        """How many documents the finished shards hold."""
        return sum(read_json(path)["counts"]["documents"] for path in self.folder.glob("shard-*.json"))

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number:07}.json"
