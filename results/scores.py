"""Scores kept between commands: one parquet file a (weights, task, settings), named by a hash of all that decides it.

A base model is scored once, however many commands compare edits with it; a killed evaluation goes on at the task it
was at.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1


@dataclass(frozen=True)
class Scores:
    """One task's scores.

    Attributes:
        items: a long table (see ``results.stats``).
        seconds: that scoring took, when it was done.
    """

    items: pd.DataFrame
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
        return self.folder / f"{hashlib.sha256(_text(arguments).encode()).hexdigest()[:32]}.parquet"

    def load(self, arguments: Mapping[str, object]) -> Scores | None:
        """The scores of these arguments, or ``None`` where there are none yet.

        Raises:
            UserError: the file is damaged, or of other arguments than its name says.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path(arguments)
        if not path.exists():
            return None
        try:
            table = pq.read_table(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"the scores {path} are damaged ({reason}); delete the file to score again") from error
        metadata = table.schema.metadata or {}
        if metadata.get(b"arguments") != _text(arguments).encode():
            raise UserError(f"the scores {path} are of {metadata.get(b'arguments')!r}, expected {_text(arguments)}")
        return Scores(table.to_pandas(), float(metadata[b"seconds"]))

    def save(self, arguments: Mapping[str, object], scores: Scores) -> None:
        """Write scores in one step: a reader sees the whole file or none.

        Raises:
            UserError: the folder cannot be written to.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(scores.items, preserve_index=False)
        own = {"arguments": _text(arguments), "seconds": repr(scores.seconds)}
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
        path = self.path(arguments)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, partial, write_page_checksum=True)
            os.replace(partial, path)
        except OSError as error:
            raise UserError(f"the score cache {self.folder} cannot be written to ({error})") from error


def _text(arguments: Mapping[str, object]) -> str:
    return json.dumps({**arguments, "format": FORMAT}, sort_keys=True)
