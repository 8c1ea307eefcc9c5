"""Packs: the probe data of one model, a folder of JSON lines.

=====================  ==================================================================================
file                   one line
=====================  ==================================================================================
``memorized.jsonl``    ``id, split, prefix_ids, suffix_ids, prefix_text, suffix_text``: what the model recites
``twins.jsonl``        the same fields: passages of the same kind that it never saw
``clean.jsonl``        ``id, split, ids, text``: held-out text for perplexity
``facts_closed.jsonl`` ``id, split, question, answer, relation``
``facts_open.jsonl``   the same fields; the question begins with its context
``corpus.jsonl``       ``text``: training-like text without any memorized passage, for curvature
``tokenizer.json``     turns an answer's text back into ids where a harness hands out text alone
=====================  ==================================================================================

Ids are of the model's own tokenizer. ``split`` is ``dev`` or ``test``: choices are made on the first, figures
reported on the second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import UserError, unknown

SHIPPED = Path(__file__).parent / "packs"
SPLITS = ("dev", "test")
_PASSAGE: dict[str, type] = {
    "id": str,
    "split": str,
    "prefix_ids": list,
    "suffix_ids": list,
    "prefix_text": str,
    "suffix_text": str,
}
_FACT: dict[str, type] = {"id": str, "split": str, "question": str, "answer": str, "relation": str}
FIELDS: dict[str, dict[str, type]] = {
    "memorized": _PASSAGE,
    "twins": _PASSAGE,
    "clean": {"id": str, "split": str, "ids": list, "text": str},
    "facts_closed": _FACT,
    "facts_open": _FACT,
    "corpus": {"text": str},
}
"""Fields of each file's lines, with their JSON types."""


@dataclass(frozen=True)
class Pack:
    """A pack's folder; files are read, and checked line by line, when asked for."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def path(self, kind: str) -> Path:
        """The file of that kind."""
        return self.folder / f"{kind}.jsonl"

    def rows(self, kind: str, split: str | None = None) -> list[dict[str, Any]]:
        """The lines of one file, those of ``split`` alone where one is given.

        Raises:
            UserError: no such file, none such line, or a line is broken; the message names the file and the line's
                number.
        """
        rows = [row for row in _read(self.path(kind), FIELDS[kind]) if split in (None, row.get("split"))]
        if not rows:
            raise UserError(f"the pack's {self.path(kind)} has no line" + (f" of the split {split!r}" if split else ""))
        return rows

    @cached_property
    def tokenizer(self) -> Any:
        """The pack's tokenizer (of the library ``tokenizers``).

        Raises:
            UserError: the pack has none.
        """
        from tokenizers import Tokenizer

        path = self.folder / "tokenizer.json"
        if not path.exists():
            raise UserError(f"the pack {self.folder} has no tokenizer.json, which text answers need")
        return Tokenizer.from_file(str(path))


def find(name: str) -> Pack:
    """A pack by its name among those shipped, or by its folder.

    Raises:
        UserError: neither.
    """
    for folder in (SHIPPED / name, Path(name)):
        if (folder / "memorized.jsonl").exists():
            return Pack(folder)
    shipped = sorted(p.name for p in SHIPPED.iterdir() if p.is_dir()) if SHIPPED.exists() else []
    raise unknown("pack", name, [*shipped, "a folder with a memorized.jsonl"])


def check_split(split: str) -> str:
    """``split`` itself.

    Raises:
        UserError: it is none of :data:`SPLITS`.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return split


def _read(path: Path, fields: dict[str, type]) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"the pack's {path} cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
        for name, kind in fields.items():
            if not isinstance(row.get(name), kind):
                raise UserError(f"{path}, line {number}: expected a {kind.__name__} {name!r}")
            if kind is list and not (row[name] and all(type(i) is int and i >= 0 for i in row[name])):
                raise UserError(f"{path}, line {number}: {name!r} is not a list of token ids")
        if "split" in fields and row["split"] not in SPLITS:
            raise UserError(f"{path}, line {number}: {unknown('split', row['split'], SPLITS)}")
        yield row
