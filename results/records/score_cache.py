"""Scores kept between commands: one file a (weights, task, settings), named by a hash of all that decides it.

A file is the sha256 of what follows: the length of a first parquet (8 bytes), that one, and a second.

A base model is scored once, however many commands compare edits with it; a killed evaluation goes on at the task it
was at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...files import canonical, digest, replacing

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 2
ANSWERS = ["task", "item", "prompt", "gold", "answer"]
"""Columns of :attr:`Scores.answers`: what was expected and what a model said are lists of a token's text each."""


@dataclass(frozen=True)
class Scores:
    """One task's scores.

    Attributes:
        items: a long table (see ``statistics.aggregate``).
        answers: a row an item that has an answer: ``ANSWERS``.
        seconds: that scoring took, when it was done.
    """

    items: pd.DataFrame
    answers: pd.DataFrame
    seconds: float


class ScoreStore:
    """Scores on disk.

    Args:
        folder: made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, arguments: Mapping[str, object]) -> Path:
        """Where the scores of these arguments lie, or would."""
        return self.folder / f"{digest(_text(arguments))[:32]}.scores"

    def load(self, arguments: Mapping[str, object]) -> Scores | None:
        """The scores of these arguments, or ``None`` where there are none yet.

        Raises:
            UserError: the file is damaged, or of other arguments than its name says.
        """
        path = self.path(arguments)
        if not path.exists():
            return None
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise UserError(f"the scores {path} are damaged (hash differs); delete the file to score again")
        end = 40 + int.from_bytes(content[32:40])
        items, answers = _table(content[40:end]), _table(content[end:])
        metadata = items.schema.metadata or {}
        if metadata.get(b"arguments") != _text(arguments).encode():
            raise UserError(f"the scores {path} are of {metadata.get(b'arguments')!r}, expected {_text(arguments)}")
        return Scores(items.to_pandas(), plain_lists(answers.to_pandas()), float(metadata[b"seconds"]))

    def save(self, arguments: Mapping[str, object], scores: Scores) -> None:
        """Write scores in one step: a reader sees the whole file or none.

        Raises:
            UserError: the folder cannot be written to.
        """
        metadata = {"arguments": _text(arguments), "seconds": repr(scores.seconds)}
        items, answers = _parquet(scores.items, metadata), _parquet(scores.answers, {})
        content = len(items).to_bytes(8) + items + answers
        try:
            with replacing(self.path(arguments)) as partial:
                partial.write_bytes(hashlib.sha256(content).digest() + content)
        except OSError as error:
            raise UserError(f"the score cache {self.folder} cannot be written to ({error})") from error


def plain_lists(answers: pd.DataFrame) -> pd.DataFrame:
    """The table with Python's own lists, as it was before it was written."""
    return answers.assign(**{name: [list(cell) for cell in answers[name]] for name in ("gold", "answer")})


def _parquet(frame: pd.DataFrame, metadata: Mapping[str, str]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _table(content: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(content))


def _text(arguments: Mapping[str, object]) -> str:
    return canonical({**arguments, "format": FORMAT})
