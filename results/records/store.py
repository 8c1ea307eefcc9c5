"""A folder of records: found by name, listed, filtered, removed, verified.

There is no index: a record is its own files, named by their content, so that writers at the same time lose nothing and
a killed one leaves at most tables without a record, and partial files.
"""

from __future__ import annotations

import difflib
import fnmatch
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import PARTIAL
from . import record
from .record import Record

DEFAULT = Path("memsplit-results")


@dataclass(frozen=True, kw_only=True)
class RecordFilter:
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

    def records(self, wanted: RecordFilter | None = None) -> list[Record]:
        """The records that are wanted, oldest first.

        Raises:
            UserError: one of the folder is damaged, of a newer schema, or none.
        """
        found, problems = self.readable()
        for problem in problems.values():
            raise UserError(f"{problem}; make it again, or delete it with memsplit runs remove")
        return [entry for entry in found if wanted is None or wanted.fits(entry)]

    def readable(self) -> tuple[list[Record], dict[Path, str]]:
        """The records that can be read, oldest first, and what is wrong with each other one."""
        found, problems = [], {}
        for path in self.paths():
            try:
                found.append(record.read(path))
            except UserError as error:
                problems[path] = str(error)
        return sorted(found, key=lambda entry: (entry.content["created"], entry.id)), problems

    def of(self, evaluation: Mapping[str, Any], made_from: Mapping[str, str | None]) -> dict[str, Record]:
        """The records of an evaluation, by spec; the newest of several. Damaged ones are none.

        Args:
            evaluation: what their content says, all of it.
            made_from: by spec, what its weights are made from; an edit of which that is not known has no record.
        """
        found, _ = self.readable()
        return {
            entry.spec: entry
            for entry in found
            if made_from.get(entry.spec) is not None
            and entry.content.get("made_from") == made_from[entry.spec]
            and all(entry.content.get(key) == value for key, value in evaluation.items())
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
            ids = ", ".join([*map(_told, found[:5]), *(["…"] if len(found) > 5 else [])])
            raise UserError(f"the record {name!r} could be any of {len(found)}: expected the hash of one of {ids}")
        if not found:
            raise self._unknown(name)
        return found[0]

    def _unknown(self, name: str) -> UserError:
        records, _ = self.readable()
        if not records:
            return UserError(f"no record {name!r}: {self.folder} holds none; memsplit-eval writes them")
        known = {entry.spec.partition(":")[0]: entry for entry in records}
        near = difflib.get_close_matches(name.partition(":")[0], known, n=1, cutoff=0.5)
        hint = f"; did you mean {known[near[0]].spec!r}?" if near else ""
        expected = f"expected the id or spec of one of its {len(records)} (see memsplit runs list)"
        return UserError(f"no record {name!r} in {self.folder}: {expected}{hint}")

    def _of_spec(self, spec: str) -> list[Record]:
        """The records of a spec; of all that add keys or a dial to it, where none is exactly that."""
        records, _ = self.readable()
        exactly = [entry for entry in records if entry.spec == spec]
        return exactly or [entry for entry in records if entry.spec.startswith((f"{spec}:", f"{spec}@"))]

    def remove(self, path: Path) -> None:
        """Remove a record, damaged or not: its JSON first, so that what a removal that is killed leaves is no record.

        Args:
            path: of its JSON.

        Raises:
            UserError: a file cannot be removed.
        """
        tables = (path.with_suffix(suffix) for suffix in (".parquet", *(f".{name}.parquet" for name in record.TABLES)))
        try:
            for file in (path, *tables):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"the record {path} cannot be removed ({error.strerror})") from error

    def verify(self) -> Iterator[tuple[Path, bool, str]]:
        """Every record's path, whether it is whole, and what is to be said of it."""
        for path in self.paths():
            try:
                yield path, True, record.read(path).verify()
            except UserError as error:
                yield path, False, str(error)

    def orphans(self, older_than_s: float = 0) -> list[Path]:
        """Partial files, and tables without a record: what killed writers leave, or what one is about to finish.

        Args:
            older_than_s: that have not been written to for so long.
        """
        before = time.time() - older_than_s
        ids = {path.stem for path in self.paths()}
        tables = [
            path
            for path in self.folder.glob("*.parquet")
            if path.name.removesuffix(".parquet").removesuffix(".items").removesuffix(".answers") not in ids
        ]
        found = [*tables, *self.folder.glob(f".*{PARTIAL}")]
        return sorted(path for path in found if path.stat().st_mtime <= before)


def _told(found: Record) -> str:
    """A record's hash, with what may tell it from others of its spec."""
    given = found.content["arguments"]
    names = [name for name in ("split", "limit", "factor_tokens") if given.get(name)]
    words = [f"--{name.replace('_', '-')} {given[name]}" for name in names]
    return f"{found.id.rpartition('-')[2]} ({', '.join([*words, found.content['created'][:16]])})"
