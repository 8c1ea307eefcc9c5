"""Scores kept between commands: one file for each (weights, task, settings), named by a hash of all that decides them.

A base model is scored once, however many commands compare edits with it; a killed evaluation goes on at the task where
it was killed. A file is a zip archive of two parquet tables and a JSON; the archive's checksums reveal damage.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...errors import UserError
from ...files import digest, replacing
from .encoding import plain
from .tables import plain_lists

FORMAT = 3
_PARTS = ("about.json", "items.parquet", "answers.parquet")
_DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, RuntimeError, NotImplementedError)
"""What a damaged archive makes zipfile raise."""


@dataclass(frozen=True)
class Scores:
    """One task's scores.

    Attributes:
        items: a long table (see ``statistics.aggregate``).
        answers: one row an item that has an answer: ``records.tables.ANSWERS``.
        seconds: time that scoring took, when it was done.
        notes: what else must be known of the weights that are scored, a line each.
    """

    items: pd.DataFrame
    answers: pd.DataFrame
    seconds: float
    notes: tuple[str, ...] = ()


class ScoreStore:
    """Scores on disk.

    Args:
        folder: made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, arguments: Mapping[str, object]) -> Path:
        """The file of the scores of these arguments, whether or not it is there."""
        return self.folder / f"{digest(_about(arguments))[:32]}.scores.zip"

    def load(self, arguments: Mapping[str, object]) -> Scores | None:
        """The scores of these arguments, or ``None`` where there are none yet.

        Raises:
            UserError: the file is damaged, or holds the scores of other arguments.
        """
        path = self.path(arguments)
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
                about, *tables = (archive.read(name) for name in _PARTS)
        except _DAMAGE as error:
            raise UserError(f"the scores {path} are damaged ({error}); delete the file to score again") from error
        seconds, kept, *notes = json.loads(about)
        if kept != _about(arguments):
            raise UserError(f"the scores {path} are of {kept}, expected {_about(arguments)}")
        items, answers = (pd.read_parquet(io.BytesIO(table)) for table in tables)
        return Scores(items, plain_lists(answers), seconds, tuple(notes))

    def save(self, arguments: Mapping[str, object], scores: Scores) -> None:
        """Write scores in one step: a reader sees the whole file or none.

        Raises:
            UserError: the folder cannot be written to.
        """
        about = json.dumps([scores.seconds, _about(arguments), *scores.notes]).encode()
        parts = (about, *(table.to_parquet(index=False) for table in (scores.items, scores.answers)))
        try:
            with replacing(self.path(arguments)) as partial, zipfile.ZipFile(partial, "w") as archive:
                for name, data in zip(_PARTS, parts, strict=True):
                    archive.writestr(name, data)
        except OSError as error:
            raise UserError(f"the score cache {self.folder} cannot be written to ({error})") from error


def _about(arguments: Mapping[str, object]) -> dict[str, object]:
    about: dict[str, object] = plain({**arguments, "format": FORMAT})
    return about
