"""The record of one (model, edit, suite) run: JSON beside its items and answers (parquet), each written in one step.

``ID.items.parquet`` holds every item's scores on either side, ``ID.answers.parquet`` the models' answers. ``ID.json``
holds their sha256 and its own, and is written last: without it there is no record. An id ends in a hash of the content
apart from times, so that the same run writes the same files, and two different runs never do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ... import files
from ...errors import UserError
from ...files import digest, write_json, write_whole
from . import schema
from .encoding import plain
from .schema import Attack, Change, Interval, Key, RecordContent, Results

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("items", "answers")
UNSTABLE = ("seconds", "created", "hardware")
"""Keys whose values differ when the same is run again."""


@dataclass(frozen=True, repr=False)
class Record:
    """A record, read or just written.

    Attributes:
        path: of its JSON.
        content: of its JSON.
    """

    path: Path
    content: RecordContent

    def __repr__(self) -> str:
        return f"<Record {self.id}>"

    @property
    def id(self) -> str:
        """Its name and the hash of its content."""
        return self.content.id

    @property
    def spec(self) -> str:
        """The edit's canonical spec."""
        return self.content.spec

    @property
    def is_control(self) -> bool:
        """Whether the edit is one that others are measured against, or no edit."""
        return self.content.control or self.spec == "none"

    @property
    def components_removed(self) -> float:
        """Σ (total - kept) / Σ total over all matrices of all steps; nan where they have no components."""
        total = sum(matrix.total for matrix in self.content.matrices)
        return 1 - sum(matrix.kept for matrix in self.content.matrices) / total if total else math.nan

    @property
    def seconds(self) -> dict[str, float]:
        """What the edit took by phase, without scoring the base: ``curvature``, ``edit``, ``suite``."""
        return {phase: value for phase, value in self.content.seconds.items() if phase != "base"}

    @property
    def changes(self) -> dict[Key, Change]:
        """Every metric's change by (axis, metric)."""
        return {_key(name): change for name, change in self.content.changes.items()}

    @property
    def summary(self) -> dict[str, Interval]:
        """The summary metrics by name."""
        return self.content.summary

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """What each attack on the edited model brought back."""
        return self.content.attacks or ()

    @property
    def by_group(self) -> dict[str, dict[str, Interval]]:
        """The summary metrics of memory by group of the memorized passages."""
        return self.content.by_group or {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What else must be known of the edit, a line each."""
        return self.content.notes or ()

    @property
    def chance(self) -> dict[Key, float]:
        """What guessing scores by (axis, metric)."""
        return {_key(name): value for name, value in self.content.chance.items()}

    def to_json(self) -> dict[str, Any]:
        """Its content with the keys and values of its file."""
        return {"schema": schema.NEWEST, "spec": self.spec, **plain(self.content)}

    def files(self) -> dict[str, Path]:
        """The paths of its tables by name; ``answers`` is left out where there are none, or no longer."""
        paths = self.written_files()
        if "answers" in paths and not paths["answers"].exists():
            del paths["answers"]
        return paths

    def written_files(self) -> dict[str, Path]:
        """The paths of the tables that were written with it, by name."""
        return {name: self.path.with_suffix(f".{name}.parquet") for name in TABLES if self._sha256(name)}

    def verify(self) -> str:
        """Check its tables; returns ``whole``, or that the answers were left out.

        Raises:
            UserError: a table is damaged or gone.
        """
        for name in self.files():
            self.table(name)
        return "whole" if self.files().keys() == self.written_files().keys() else "whole, without its answers"

    def table(self, name: str) -> bytes:
        """The bytes of a table's file (``records.tables`` makes data frames of them).

        Raises:
            UserError: it is damaged or gone.
        """
        try:
            data = self.files()[name].read_bytes()
        except OSError as error:
            raise UserError(f"the {name} of the record {self.path} cannot be read ({error.strerror})") from error
        if hashlib.sha256(data).hexdigest() != self._sha256(name):
            raise UserError(f"the {name} of the record {self.path} are damaged (hash differs)")
        return data

    def _sha256(self, name: str) -> str | None:
        return {"items": self.content.items_sha256, "answers": self.content.answers_sha256}[name]


def _key(name: str) -> Key:
    axis, metric = name.split("/", 1)
    return axis, metric


def check_writable(folder: Path, option: str = "--out") -> None:
    """Raise ``UserError`` where nothing could be written to ``folder``; nothing is left behind."""
    try:
        files.check_writable(folder)
    except OSError as error:
        expected = "expected a folder, or a place to make one"
        raise UserError(f"{option} {str(folder)!r} cannot be written to ({error.strerror}): {expected}") from error


def write(
    folder: Path, name: str, results: Results, items: pd.DataFrame, answers: pd.DataFrame | None = None
) -> Record:
    """Write a record; its JSON comes last, in one step, so that there is a whole record or none.

    Args:
        folder: made if need be.
        name: the beginning of its id.
        results: what its JSON says.
        items: scores, with a column ``side``.
        answers: with a column ``side``.

    Raises:
        UserError: the folder cannot be written to.
    """
    tables = {"items": items} if answers is None else {"items": items, "answers": answers}
    data = {key: table.to_parquet(index=False) for key, table in tables.items()}
    hashes = {f"{key}_sha256": hashlib.sha256(table).hexdigest() for key, table in data.items()}
    content = {"schema": schema.NEWEST, "spec": results.spec, **plain(results), **hashes}
    content["id"] = f"{name}-{digest(stable(content))[:12]}"
    content["sha256"] = digest(content)
    record = Record(folder / f"{content['id']}.json", schema.decode(content))
    try:
        for key, path in record.written_files().items():
            write_whole(path, data[key])
        write_json(record.path, content)
    except OSError as error:
        raise UserError(f"--out {str(folder)!r} cannot be written to ({error.strerror})") from error
    return record


def stable(content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record's JSON that is the same whenever the same is run."""
    return {key: value for key, value in content.items() if key not in (*UNSTABLE, "id", "sha256")}


def read(path: Path) -> Record:
    """Read a record. Its tables are checked when they are read.

    Raises:
        UserError: it is no record, is damaged, is of another schema, or holds a value that is not of its type.
    """
    try:
        return _read(path)
    except RecursionError as error:
        raise UserError(f"the record {path} cannot be read (it is nested too deeply)") from error


def _read(path: Path) -> Record:
    try:
        content: Any = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"the record {path} cannot be read ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise UserError(f"{path} is no record: expected the JSON file of one that memsplit wrote")
    if content["schema"] != schema.NEWEST:
        newer = content["schema"] > schema.NEWEST
        remedy = f"at most {schema.NEWEST}: update memsplit" if newer else f"{schema.NEWEST}: make it again"
        raise UserError(f"the record {path} has schema {content['schema']}, expected {remedy}")
    if digest({key: value for key, value in content.items() if key != "sha256"}) != content.get("sha256"):
        raise UserError(f"the record {path} is damaged (hash differs)")
    try:
        return Record(path, schema.decode(content))
    except UserError as error:
        raise UserError(f"the record {path} is not as schema {schema.NEWEST} has it: {error}") from error
