"""A folder of records: found by name, listed, filtered, removed, verified.

There is no index: a record is its own files, named by their content, so that writers at the same time lose nothing and
a killed one leaves at most tables without a record, and partial files.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
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
        """The record of that path, id, beginning of an id or of the hash in it, or spec (its keys may be left out).

        Raises:
            UserError: there is none, or more than one.
        """
        if name.endswith(".json") and Path(name).is_file():
            return record.read(Path(name))
        if (self.folder / f"{name}.json").is_file():
            return record.read(self.folder / f"{name}.json")
        begun = [p for p in self.paths() if p.stem.startswith(name) or p.stem.rpartition("-")[2].startswith(name)]
        found = [record.read(path) for path in begun] or self._of_spec(name)
        if len(found) > 1:
            ids = ", ".join([*(entry.id for entry in found[:5]), *(["…"] if len(found) > 5 else [])])
            raise UserError(f"the record {name!r} could be any of {len(found)}: expected one of {ids}")
        if not found:
            raise self._unknown(name)
        return found[0]

    def _unknown(self, name: str) -> UserError:
        records = self.records()
        if not records:
            return UserError(f"no record {name!r}: {self.folder} holds none; memsplit-eval writes them")
        known = {entry.spec.partition(":")[0]: entry for entry in records}
        near = difflib.get_close_matches(name.partition(":")[0], known, n=1, cutoff=0.5)
        hint = f"; did you mean {known[near[0]].spec!r}?" if near else ""
        expected = f"expected the id or spec of one of its {len(records)} (see memsplit runs list)"
        return UserError(f"no record {name!r} in {self.folder}: {expected}{hint}")

    def _of_spec(self, spec: str) -> list[Record]:
        """The records of a spec; of all that add keys or a dial to it, where none is exactly that."""
        records = self.records()
        exactly = [entry for entry in records if entry.spec == spec]
        return exactly or [entry for entry in records if entry.spec.startswith((f"{spec}:", f"{spec}@"))]

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
