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

from ...errors import UserError
from ...files import PARTIAL
from . import record
from .record import Record
from .schema import Evaluation

DEFAULT = Path("memsplit-results")


@dataclass(frozen=True, kw_only=True)
class RecordFilter:
    """Which records: those that match every attribute that is given; ``model`` and ``edit`` may hold ``*`` and ``?``.

    Attributes:
        model: its name.
        edit: the canonical spec, or its beginning.
        suite: its name.
        split: ``dev`` or ``test``.
        fingerprint: its beginning.
    """

    model: str | None = None
    edit: str | None = None
    suite: str | None = None
    split: str | None = None
    fingerprint: str | None = None

    def matches(self, candidate: Record) -> bool:
        """Whether a record is one of those."""
        content = candidate.content
        return (
            (self.model is None or fnmatch.fnmatchcase(content.model, self.model))
            and (self.edit is None or fnmatch.fnmatchcase(content.spec, f"{self.edit}*"))
            and (self.suite in (None, content.suite))
            and (self.split in (None, content.arguments.split))
            and (self.fingerprint is None or content.fingerprint.startswith(self.fingerprint))
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
        """The records that a filter matches, or all, oldest first.

        Raises:
            UserError: a JSON file of the folder is damaged, of another schema, or no record.
        """
        readable, problems = self.readable()
        for problem in problems.values():
            raise UserError(f"{problem}; make it again, or delete it with memsplit runs remove")
        return [entry for entry in readable if wanted is None or wanted.matches(entry)]

    def readable(self) -> tuple[list[Record], dict[Path, str]]:
        """The records that can be read, oldest first, and what is wrong with each other one."""
        records, problems = [], {}
        for path in self.paths():
            try:
                records.append(record.read(path))
            except UserError as error:
                problems[path] = str(error)
        return sorted(records, key=lambda entry: (entry.content.created, entry.id)), problems

    def of(self, evaluation: Evaluation, recipes: Mapping[str, str | None]) -> dict[str, Record]:
        """The records of an evaluation, by spec; the newest of several. Damaged records are passed over.

        Args:
            evaluation: what was evaluated and how; a record of it has the same in every field.
            recipes: recipe hash by spec (see ``Results.recipe_hash``); an edit whose hash is ``None`` has no record.
        """
        readable, _ = self.readable()
        return {
            entry.spec: entry
            for entry in readable
            if recipes.get(entry.spec) is not None
            and entry.content.recipe_hash == recipes[entry.spec]
            and entry.content.evaluation == evaluation
        }

    def find(self, name: str) -> Record:
        """The record of a path, an id, the beginning of an id or of the hash in it, or a spec (without its keys, too).

        Raises:
            UserError: there is none, or more than one.
        """
        if name.endswith(".json") and Path(name).is_file():
            return record.read(Path(name))
        if (self.folder / f"{name}.json").is_file():
            return record.read(self.folder / f"{name}.json")
        begun = [p for p in self.paths() if p.stem.startswith(name) or p.stem.rpartition("-")[2].startswith(name)]
        matches = [record.read(path) for path in begun] or self._of_spec(name)
        if len(matches) > 1:
            one_spec = len({entry.spec for entry in matches}) == 1
            told = [_distinct(entry) if one_spec else f"{_distinct(entry)} {entry.spec}" for entry in matches[:5]]
            ids = ", ".join([*told, *(["…"] if len(matches) > 5 else [])])
            raise UserError(f"the record {name!r} could be any of {len(matches)}: expected the hash of one of {ids}")
        if not matches:
            raise self._unknown(name)
        return matches[0]

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
        try:
            for file in (path, *(path.with_suffix(f".{name}.parquet") for name in record.TABLES)):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"the record {path} cannot be removed ({error.strerror})") from error

    def verify(self) -> Iterator[tuple[Path, bool, str]]:
        """Every record's path, whether it is whole, and its state in words."""
        for path in self.paths():
            try:
                yield path, True, record.read(path).verify()
            except UserError as error:
                yield path, False, str(error)

    def orphans(self, older_than_s: float = 0) -> list[Path]:
        """Partial files, and tables without a record: what killed writers leave, or what one is about to finish.

        Args:
            older_than_s: only files that have not been written to for this long.
        """
        before = time.time() - older_than_s
        whole = {path.with_suffix(f".{name}.parquet") for path in self.paths() for name in record.TABLES}
        loose = [*(set(self.folder.glob("*.parquet")) - whole), *self.folder.glob(f".*{PARTIAL}")]
        return sorted(path for path in loose if path.stat().st_mtime <= before)


def _distinct(entry: Record) -> str:
    """A record's hash, with what may distinguish it from others of its spec."""
    arguments = entry.content.arguments
    names = [name for name in ("split", "limit", "factor_tokens") if getattr(arguments, name)]
    words = [f"--{name.replace('_', '-')} {getattr(arguments, name)}" for name in names]
    return f"{entry.id.rpartition('-')[2]} ({', '.join([*words, entry.content.created[:16]])})"
