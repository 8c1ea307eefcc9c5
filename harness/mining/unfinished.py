"""What mining keeps while it is not finished: a file for each shard of the corpus, in a folder of the pack's.

A shard's result does not depend on any other shard, so that killed work continues where it was and several processes
share the shards.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import write_whole
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


class UnfinishedWork:
    """The folder of a pack that is not finished: the arguments of the work, and a file for each finished shard.

    Args:
        out: the folder of the pack.
        arguments: everything that decides what is found.
    """

    def __init__(self, out: Path, arguments: dict[str, Any]) -> None:
        self.out = out
        self.folder = out / UNFINISHED
        self.arguments = json.loads(json.dumps(arguments))

    def check(self) -> None:
        """Refuse unfinished work of other arguments.

        Raises:
            UserError: names the first argument that differs, with both values.
        """
        path = self.folder / "arguments.json"
        if not path.exists():
            return
        there = _json(path)
        for name in sorted({*there, *self.arguments}):
            if there.get(name) != self.arguments.get(name):
                raise UserError(
                    f"the unfinished work in {str(self.out)!r} is of {name.replace('_is', ' with contents')} "
                    f"{there.get(name)!r}, not {self.arguments.get(name)!r}: "
                    "expected the same command, or --force to start again"
                )

    def begin(self, *, anew: bool) -> None:
        """Write the arguments; with ``anew``, delete what was finished before."""
        if anew:
            shutil.rmtree(self.folder, ignore_errors=True)
        write_whole(self.folder / "arguments.json", json.dumps(self.arguments))

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
            content = _json(self._path(number))
            windows = {name: [Window(**w) for w in content[name]] for name in ("recited", "spare")}
            yield ShardResult(counts=content["counts"], **windows)

    def documents_done(self) -> int:
        """How many documents the finished shards hold."""
        return sum(_json(path)["counts"]["documents"] for path in self.folder.glob("shard-*.json"))

    def remove(self) -> None:
        """Delete the folder, and the pack's where nothing else is in it."""
        shutil.rmtree(self.folder)
        if not any(self.out.iterdir()):
            self.out.rmdir()

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number:07}.json"


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): expected it whole; --force starts again") from error
    return content
