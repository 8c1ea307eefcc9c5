"""What is wrong with a pack: every fault of every line, and passages where they should not be."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import files
from ..errors import UserError, unknown
from . import packs, suite
from .dedup import NEAR, Overlap
from .items import world

Rows = list[tuple[int, dict[str, Any]]]
"""A file's lines without faults, by number."""
WITHOUT_MEMORIZED = ("twins", "clean", "corpus")


@dataclass(frozen=True, order=True, kw_only=True)
class Problem:
    """One thing that is wrong, and where; line 0 is the file as a whole."""

    path: Path
    line: int = 0
    what: str

    def __str__(self) -> str:
        """As it is told."""
        return f"{self.path}{f', line {self.line}' if self.line else ''}: {self.what}"


def folder_problems(folder: Path) -> list[Problem]:
    """What is wrong with a pack's manifest, and with which files there are."""
    manifest = folder / "pack.json"
    try:
        about = packs.manifest(folder)
    except UserError as error:
        return [Problem(path=manifest, what=str(error).removeprefix(f"{manifest}: "))]
    known = {task.family for task in suite.own().tasks.values() if task.family}
    found = [Problem(path=manifest, what=str(unknown("family", f, known))) for f in about.families if f not in known]
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem not in packs.FIELDS:
            found.append(Problem(path=path, what=_no_kind(path.stem)))
    hashes = about.provenance.get("sha256")
    for name, expected in hashes.items() if isinstance(hashes, dict) else ():
        path = folder / name
        if not path.exists():
            found.append(Problem(path=path, what="pack.json has its sha256, and it is not there"))
        elif files.sha256(path) != expected:
            found.append(Problem(path=path, what="is not the file whose sha256 pack.json has"))
    return found


def kind_of(path: Path) -> str:
    """The kind of a pack's file, by its name.

    Raises:
        UserError: a pack has no such file.
    """
    if path.suffix != ".jsonl" or path.stem not in packs.FIELDS:
        raise UserError(f"{path} {_no_kind(path.stem)}")
    return path.stem


def _no_kind(stem: str) -> str:
    near = difflib.get_close_matches(stem, packs.FIELDS, n=1)
    hint = f" (did you mean {near[0]}.jsonl?)" if near else ""
    return f"is no file of a pack{hint}: expected one of {', '.join(f'{kind}.jsonl' for kind in sorted(packs.FIELDS))}"


def read(paths: Mapping[str, Path]) -> tuple[dict[str, Rows], list[Problem]]:
    """The good lines of a pack's files, and what is wrong with the others.

    Args:
        paths: the files by kind.

    Raises:
        UserError: a file cannot be read.
    """
    good: dict[str, Rows] = {}
    found: list[Problem] = []
    for kind, path in paths.items():
        lines = list(packs.lines(path, kind))
        found += [Problem(path=path, line=number, what=fault) for number, _, faults in lines for fault in faults]
        good[kind] = [(number, row) for number, row, faults in lines if not faults]
        if not lines:
            found.append(Problem(path=path, what="has no line"))
    return good, found


def problems(paths: Mapping[str, Path], good: Mapping[str, Rows]) -> list[Problem]:
    """What is wrong with the lines of a pack's files together.

    An id twice; the same question, passage or text twice, which is worst in both splits; passages near to one of the
    other split; memorized passages that stand, by half or more (see :mod:`.dedup`), in twins, clean text or corpus;
    facts of which no questions can be made.

    Args:
        paths: the files by kind.
        good: their lines (see :func:`read`).
    """
    found: list[Problem] = []
    for kind, rows in good.items():
        if kind == "corpus":
            continue

        def problem(line: int, what: str, path: Path = paths[kind]) -> Problem:
            return Problem(path=path, line=line, what=what)

        found += [problem(n, f"its id {row['id']!r} is that of line {m}") for n, m, row in _twice(rows, _id)]
        splits = {number: row["split"] for number, row in rows}
        for number, first, row in _twice(rows, _asked):
            other = f", which is in {splits[first]}" if splits[first] != row["split"] else ""
            found.append(problem(number, f"asks the same as line {first}{other}"))
        if kind in packs.PASSAGES:
            for number, first, share in _near_across(rows):
                of = f"near to line {first}, which is in {splits[first]}: {share:.0%} of its runs of words or ids"
                found.append(problem(number, of))
    if (facts := good.get("facts")) and facts[-1][0] == len(facts):
        found += _unaskable(paths["facts"], [row for _, row in facts])
    if memorized := good.get("memorized"):
        overlap = Overlap([row for _, row in memorized])
        for kind in WITHOUT_MEMORIZED:
            for number, row in good.get(kind, ()):
                for position, share in overlap.shares(row).items():
                    if share >= NEAR:
                        what = f"{share:.0%} of {paths['memorized'].name}, line {memorized[position][0]}, stands in it"
                        found.append(Problem(path=paths[kind], line=number, what=what))
    return found


def _unaskable(path: Path, facts: list[dict[str, Any]]) -> Iterator[Problem]:
    """What keeps facts from being asked: the first thing that is wrong with each kind of question."""
    told = set()
    for kind in world.KINDS:
        try:
            world.rows(kind, path, facts)
        except UserError as error:
            told.add(str(error).removeprefix(f"{path}, "))
    return (Problem(path=path, what=what) for what in told)


def _twice(rows: Rows, key: Callable[[Mapping[str, Any]], object]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(line, the first line with the same key, row) of those that are not the first."""
    first: dict[object, int] = {}
    for number, row in rows:
        if (before := first.setdefault(key(row), number)) != number:
            yield number, before, row


def _id(row: Mapping[str, Any]) -> object:
    return row["id"]


def _asked(row: Mapping[str, Any]) -> object:
    """What equal items have in common, however their texts are spaced."""
    if "prefix_ids" in row:
        return tuple(row["prefix_ids"]), tuple(row["suffix_ids"])
    for names in ("prefix_text", "suffix_text"), ("question", "answer"), ("relation", "subject"), ("text",):
        if all(name in row for name in names):
            return tuple(" ".join(row[name].split()) for name in names)
    return json.dumps({name: value for name, value in row.items() if name not in ("id", "split")}, sort_keys=True)


def _near_across(rows: Rows) -> Iterator[tuple[int, int, float]]:
    """(line, an earlier line of the other split that it is near to, but not equal, share); the later line first."""
    overlap = Overlap([row for _, row in rows])
    near: dict[tuple[int, int], float] = {}
    for i, (_, row) in enumerate(rows):
        for j, share in overlap.shares(row).items():
            if share >= NEAR and rows[j][1]["split"] != row["split"] and _asked(rows[j][1]) != _asked(row):
                pair = (max(i, j), min(i, j))
                near[pair] = max(share, near.get(pair, 0.0))
    for (later, earlier), share in near.items():
        yield rows[later][0], rows[earlier][0], share
