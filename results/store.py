"""A folder of records: found by name, listed, filtered, removed, verified.

There is no index: a record is its own files, named by their content, so that writers at the same time lose nothing and
a killed one leaves at most tables without a record, and partial files.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError, unknown
from ..files import PARTIAL
from . import record
from .record import Record

DEFAULT = Path("memsplit-results")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which records: those that fit all that is given; ``model`` and ``edit`` may hold ``*`` and ``?``.

    Attributes:
        model: its name.
        edit: its canonical spec, or what it begins with.
        suite: its name.
        split: ``dev`` or ``test``.
        fingerprint: what it begins with.
    """

    model: str | None = None
    edit: str | None = None
    suite: str | None = None
    split: str | None = None
    fingerprint: str | None = None

    def fits(self, found: Record) -> bool:
        """Whether a record is one of those."""
        content = found.content
        return (
            (self.model is None or fnmatch.fnmatchcase(content["model"], self.model))
            and (self.edit is None or fnmatch.fnmatchcase(found.spec, f"{self.edit}*"))
            and (self.suite in (None, content["suite"]))
            and (self.split in (None, content["arguments"]["split"]))
            and (self.fingerprint is None or content["fingerprint"].startswith(self.fingerprint))
        )


class Store:
    """The records of a folder.

    Args:
        folder: where they lie; one that is not there holds none.
    """

    def __init__(self, folder: Path = DEFAULT) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """The records' JSON files."""
        return sorted(path for path in self.folder.glob("*.json") if not path.name.startswith("."))

    def records(self, wanted: Wanted | None = None) -> list[Record]:
        """The records that are wanted, oldest first.

        Raises:
            UserError: one of the folder is damaged, of a newer schema, or none.
        """
        found = [record.read(path) for path in self.paths()]
        found = [entry for entry in found if wanted is None or wanted.fits(entry)]
        return sorted(found, key=lambda entry: (entry.content["created"], entry.id))

    def of(self, evaluation: Mapping[str, Any]) -> dict[str, Record]:
        """The records whose content says all of that, by spec; the newest of several."""
        return {
            found.spec: found
            for found in self.records()
            if all(found.content.get(key) == value for key, value in evaluation.items())
        }

    def find(self, name: str) -> Record:
        """The record of that path, id, beginning of an id, or spec.

        Raises:
            UserError: there is none, or more than one.
        """
        if name.endswith(".json") and Path(name).is_file():
            return record.read(Path(name))
        if (self.folder / f"{name}.json").is_file():
            return record.read(self.folder / f"{name}.json")
        begun = [path for path in self.paths() if path.stem.startswith(name) or path.stem.rpartition("-")[2] == name]
        found = [record.read(path) for path in begun] or [entry for entry in self.records() if entry.spec == name]
        if len(found) > 1:
            ids = ", ".join(entry.id for entry in found[:5])
            raise UserError(f"the record {name!r} could be any of {len(found)}: expected one of {ids}, …")
        if not found:
            if not self.paths():
                raise UserError(f"no record {name!r}: {self.folder} holds none; memsplit-eval writes them")
            raise unknown(f"record in {self.folder}", name, [path.stem for path in self.paths()])
        return found[0]

    def remove(self, found: Record) -> None:
        """Remove a record: its JSON first, so that what is left of a removal that is killed is no record.

        Raises:
            UserError: a file cannot be removed.
        """
        try:
            for path in (found.path, *found.files().values()):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"the record {found.path} cannot be removed ({error.strerror})") from error

    def verify(self) -> Iterator[tuple[Path, str]]:
        """Every record's path and what is wrong with it, ``""`` where nothing is."""
        for path in self.paths():
            try:
                record.read(path).verify()
            except UserError as error:
                yield path, str(error)
            else:
                yield path, ""

    def leftovers(self) -> list[Path]:
        """Partial files, and tables without a record: what killed writers leave; or what one is about to finish."""
        ids = {path.stem for path in self.paths()}
        tables = [
            path
            for path in self.folder.glob("*.parquet")
            if path.name.removesuffix(".parquet").removesuffix(".items").removesuffix(".answers") not in ids
        ]
        return sorted([*tables, *self.folder.glob(f".*{PARTIAL}")])
