"""Checks of a pack: every fault of every line, duplicates, and memorized passages in files that must not have them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..errors import UserError, unknown
from . import packs, suite
from .dedup import NEAR, Overlap, asked
from .items import world

Rows = list[tuple[int, dict[str, Any]]]
"""(line number, row) of the lines of a file that have no fault."""
WITHOUT_MEMORIZED = ("twins", "clean", "corpus")


@dataclass(frozen=True, order=True, kw_only=True)
class Problem:
    """One fault and where it is; line 0 means the file as a whole."""

    path: Path
    line: int = 0
    what: str

    def __str__(self) -> str:
        """The fault as ``memsplit pack check`` prints it."""
        return f"{self.path}{f', line {self.line}' if self.line else ''}: {self.what}"


def folder_problems(folder: Path) -> list[Problem]:
    """Faults of a pack's manifest and of its set of files."""
    manifest = folder / "pack.json"
    try:
        about = packs.manifest(folder)
    except UserError as error:
        return [Problem(path=manifest, what=str(error).removeprefix(f"{manifest}: "))]
    known = {task.family for task in suite.own().tasks.values() if task.family}
    problems = [Problem(path=manifest, what=str(unknown("family", f, known))) for f in about.families if f not in known]
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem not in packs.FIELDS:
            problems.append(Problem(path=path, what=_no_kind(path.stem)))
    hashes = about.provenance.get("sha256")
    for name, expected in hashes.items() if isinstance(hashes, dict) else ():
        path = folder / name
        if not path.exists():
            problems.append(Problem(path=path, what="pack.json has its sha256, and it is not there"))
        elif files.sha256(path) != expected:
            problems.append(Problem(path=path, what="is not the file whose sha256 pack.json has"))
    return problems


def kind_of(path: Path) -> str:
    """The kind of a pack's file, which its name says.

    Raises:
        UserError: a pack has no file of that name.
    """
    if path.suffix != ".jsonl" or path.stem not in packs.FIELDS:
        raise UserError(f"{path} {_no_kind(path.stem)}")
    return path.stem


def _no_kind(stem: str) -> str:
    near = difflib.get_close_matches(stem, packs.FIELDS, n=1)
    hint = f" (did you mean {near[0]}.jsonl?)" if near else ""
    return f"is no file of a pack{hint}: expected one of {', '.join(f'{kind}.jsonl' for kind in sorted(packs.FIELDS))}"


def read(paths: Mapping[str, Path]) -> tuple[dict[str, Rows], list[Problem]]:
    """The lines of a pack's files that have no fault, and the faults of the others.

    Args:
        paths: the files by kind.

    Raises:
        UserError: a file cannot be read.
    """
    good: dict[str, Rows] = {}
    problems: list[Problem] = []
    for kind, path in paths.items():
        lines = list(packs.lines(path, kind))
        problems += [Problem(path=path, line=number, what=fault) for number, _, faults in lines for fault in faults]
        good[kind] = [(number, row) for number, row, faults in lines if not faults]
        if not lines:
            problems.append(Problem(path=path, what="has no line"))
    return good, problems


def problems(paths: Mapping[str, Path], good: Mapping[str, Rows]) -> list[Problem]:
    """Faults that only show when lines are compared.

    An id that is used twice; the same question, passage or text twice, which is worst across splits; passages that are
    near to one of the other split; memorized passages of which half or more (see :mod:`.dedup`) is contained in a twin,
    in clean text or in the corpus; facts from which no questions can be made.

    Args:
        paths: the files by kind.
        good: their lines without faults (see :func:`read`).
    """
    problems: list[Problem] = []
    for kind, rows in good.items():
        if kind == "corpus":
            continue

        def problem(line: int, what: str, path: Path = paths[kind]) -> Problem:
            return Problem(path=path, line=line, what=what)

        problems += [problem(n, f"its id {row['id']!r} is that of line {m}") for n, m, row in _twice(rows, _id)]
        splits = {number: row["split"] for number, row in rows}
        for number, first, row in _twice(rows, asked):
            other = f", which is in {splits[first]}" if splits[first] != row["split"] else ""
            problems.append(problem(number, f"asks the same as line {first}{other}"))
        if kind in packs.PASSAGES:
            for number, first, share in _near_across(rows):
                of = f"near to line {first}, which is in {splits[first]}: {share:.0%} of its runs of words or ids"
                problems.append(problem(number, of))
    if (facts := good.get("facts")) and facts[-1][0] == len(facts):
        problems += _unaskable(paths["facts"], [row for _, row in facts])
    if memorized := good.get("memorized"):
        overlap = Overlap([row for _, row in memorized])
        for kind in WITHOUT_MEMORIZED:
            for number, row in good.get(kind, ()):
                for position, share in overlap.shares(row).items():
                    if share >= NEAR:
                        what = f"{share:.0%} of {paths['memorized'].name}, line {memorized[position][0]}, stands in it"
                        problems.append(Problem(path=paths[kind], line=number, what=what))
    return problems


def _unaskable(path: Path, facts: list[dict[str, Any]]) -> Iterator[Problem]:
    """The first fault of each kind of question that the facts are to be turned into."""
    told = set()
    for kind in world.KINDS:
        try:
            world.rows(kind, path, facts)
        except UserError as error:
            told.add(str(error).removeprefix(f"{path}, "))
    return (Problem(path=path, what=what) for what in told)


def _twice(rows: Rows, key: Callable[[Mapping[str, Any]], object]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(line, first line with the same key, row) of each line whose key an earlier line has."""
    first: dict[object, int] = {}
    for number, row in rows:
        if (before := first.setdefault(key(row), number)) != number:
            yield number, before, row


def _id(row: Mapping[str, Any]) -> object:
    return row["id"]


def _near_across(rows: Rows) -> Iterator[tuple[int, int, float]]:
    """(line, earlier line of the other split that it is near but not equal to, share of runs) of each such pair."""
    overlap = Overlap([row for _, row in rows])
    near: dict[tuple[int, int], float] = {}
    for i, (_, row) in enumerate(rows):
        for j, share in overlap.shares(row).items():
            if share >= NEAR and rows[j][1]["split"] != row["split"] and asked(rows[j][1]) != asked(row):
                pair = (max(i, j), min(i, j))
                near[pair] = max(share, near.get(pair, 0.0))
    for (later, earlier), share in near.items():
        yield rows[later][0], rows[earlier][0], share
