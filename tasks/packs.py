"""Packs: the probe data of a model, as a folder of JSON lines.

=======================  ================================================================================
file                     fields of a line
=======================  ================================================================================
``memorized.jsonl``      ``id, split, prefix_text, suffix_text``: passages that the model recites. If the pack
                         is made for one tokenizer also ``prefix_ids, suffix_ids``, which are then used in
                         place of the texts; the texts may be empty if they are not known. Optionally
                         ``dose``, how often it was met in training, and ``population``, the name of
                         those that were memorized in the same way (``late``: see ``docs/data.md``)
``twins.jsonl``          the same fields: similar passages that were never in the training data
``quotes.jsonl``         the same fields: short passages of any length
``clean.jsonl``          ``id, split, text``, optionally ``ids``: held-out text for perplexity
``facts_closed.jsonl``   ``id, split, question, answer, relation``, optionally ``aliases``, other correct
                         answers, and ``fact``, the same for all questions about one fact
``facts_open.jsonl``     the same fields; the question begins with its context
``facts.jsonl``          ``id, split, relation, subject, answer``, optionally ``aliases``. With
                         ``relations.json`` it replaces the four files of questions (see ``items.world``)
``corpus.jsonl``         ``text``: calibration data for curvature, without any memorized passage
``pack.json``            the pack's description: :class:`Manifest`
``tokenizer.json``       turns answers back into ids under a harness that returns only text
=======================  ================================================================================

``facts_choice.jsonl`` has the fields of ``facts_closed``, and ``choices`` with ``gold``, the index of the correct one;
``facts_counterfactual.jsonl`` those of ``facts_open``, but ``answer`` is the false one that the context gives,
``truth`` the true one, and ``recalled`` holds it and its aliases. ``split`` is ``dev``, which edits are chosen on, or
``test``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from ..errors import UserError, unknown
from ..files import write_whole
from . import plugins
from .items import world

SHIPPED = Path(__file__).parent / "data"
SPLITS = ("dev", "test")
_PASSAGE: dict[str, type] = {"id": str, "split": str, "prefix_text": str, "suffix_text": str}
_FACT: dict[str, type] = {"id": str, "split": str, "question": str, "answer": str, "relation": str}
FIELDS: dict[str, dict[str, type]] = {
    "memorized": _PASSAGE,
    "twins": _PASSAGE,
    "quotes": _PASSAGE,
    "clean": {"id": str, "split": str, "text": str},
    "facts_closed": _FACT,
    "facts_open": _FACT,
    "facts_choice": {**_FACT, "choices": list, "gold": int},
    "facts_counterfactual": {**_FACT, "truth": str, "recalled": list},
    "facts": {"id": str, "split": str, "relation": str, "subject": str, "answer": str},
    "corpus": {"text": str},
}
"""The fields that each line of a file must have, with their types."""
_IDS = ("prefix_ids", "suffix_ids", "ids")
_TEXTS = ("aliases", "choices", "recalled")
MOST_OFTEN = 2**31 - 1
"""The largest dose."""
KNOWN = frozenset({*(name for fields in FIELDS.values() for name in fields), *_IDS, *_TEXTS, "dose", "population"})
"""Every field that is checked in a line of some file."""
PASSAGES = ("memorized", "twins", "quotes")
"""The files of passages, which a model is asked to continue."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a pack's ``pack.json``; every field may be missing.

    Attributes:
        version: of the pack's contents.
        summary: one line on what the pack is.
        families: the generated arithmetic and logic families that suit the pack's model.
        provenance: where the contents are from, and what made them.
    """

    version: str = ""
    summary: str = ""
    families: tuple[str, ...] = ()
    provenance: dict[str, Any] = {}


@dataclass(frozen=True)
class Pack:
    """A pack of one folder or several; a file that the first folder lacks is taken from the next one that has it.

    Files are read, and checked, each time that their rows are requested.
    """

    folders: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The names of the folders, joined by ``+``."""
        return "+".join(folder.name for folder in self.folders)

    @property
    def families(self) -> frozenset[str]:
        """The generated families that any of the folders lists."""
        return frozenset(family for folder in self.folders for family in manifest(folder).families)

    def has(self, kind: str) -> bool:
        """Whether a folder has the file of that kind, or facts that its rows can be made from."""
        return self.path(kind).exists()

    def path(self, kind: str) -> Path:
        """The file of that kind, or the facts that its rows are made from, in the first folder that has either."""
        names = [f"{kind}.jsonl", *([world.FACTS] if kind in world.KINDS else [])]
        paths = [folder / name for folder in self.folders for name in names]
        return next((path for path in paths if path.exists()), paths[0])

    def rows(self, kind: str, split: str | None = None) -> list[dict[str, Any]]:
        """The rows of one kind: the lines of its file, or the rows that are made from the facts.

        Args:
            kind: the file, such as ``memorized``.
            split: only the rows of that split; all by default.

        Raises:
            UserError: the file does not exist, has no such row, or a line or relation is broken; the message names the
                file and the line's number or the relation.
        """
        path = self.path(kind)
        if path.name == world.FACTS and kind in world.KINDS:
            made = world.rows(kind, path, list(_read(path, "facts")))
        else:
            made = list(_read(path, kind))
        rows = [row for row in made if split in (None, row.get("split"))]
        if not rows:
            raise UserError(f"the pack's {path} has no line" + (f" of the split {split!r}" if split else ""))
        return rows

    def encode(self, text: str) -> list[int]:
        """The token ids of a text by the pack's own tokenizer.

        Raises:
            UserError: the pack has no tokenizer.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer  # takes 60 ms to import, which listings of packs need not spend

        paths = [path for folder in self.folders if (path := folder / "tokenizer.json").exists()]
        if not paths:
            raise UserError(f"the pack {self.name!r} has no tokenizer.json, which text answers need")
        return Tokenizer.from_file(str(paths[0]))


def find(name: str) -> Pack:
    """A pack by its name or folder; several, joined by ``+``, make one pack in which the first comes first.

    Names are those of the shipped packs and of entry points in the group ``memsplit.packs``, memsplit's own among them:
    packs that are fetched or made when they are first used.

    Raises:
        UserError: there is no pack of that name, or it could not be made.
    """
    whole = _folder(name)
    return Pack((whole,) if whole else tuple(_folder(part) or _none(part) for part in name.split("+")))


def _folder(name: str) -> Path | None:
    """The folder of one pack; a folder counts as a pack if it has any file of a pack."""
    for folder in (SHIPPED / name, Path(name)):
        if name and any((folder / file).exists() for file in ("pack.json", *(f"{kind}.jsonl" for kind in FIELDS))):
            return folder
    return plugins.folder(plugins.PACKS, name)


def _none(name: str) -> NoReturn:
    raise unknown("pack", name, [*names(), "a folder with a pack.json or memorized.jsonl"])


def names() -> list[str]:
    """The names of the shipped packs and of those of installed packages."""
    return [*sorted(path.name for path in SHIPPED.iterdir() if path.is_dir()), *plugins.names(plugins.PACKS)]


def manifest(folder: Path) -> Manifest:
    """The manifest of a pack's folder; an empty one if the folder has none.

    Raises:
        UserError: it is no JSON object, or has a field of another type.
    """
    path = folder / "pack.json"
    if not path.exists():
        return Manifest()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.ValidationError as error:
        field = re.search("unknown field `(.*)`", str(error))
        problem = unknown("field", field[1], Manifest.__struct_fields__) if field else error
        raise UserError(f"{path}: {problem}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error


def write(folder: Path, files: Mapping[str, Iterable[Mapping[str, Any]]], about: Manifest) -> None:
    """Write a pack's files, by kind, and its manifest into a folder, which is created if it does not exist."""
    for kind, rows in files.items():
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        write_whole(folder / f"{kind}.jsonl", text)
    text = json.dumps(msgspec.structs.asdict(about), indent=2, ensure_ascii=False)
    write_whole(folder / "pack.json", f"{text}\n")


def check_split(split: str) -> str:
    """``split`` itself.

    Raises:
        UserError: it is none of :data:`SPLITS`.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return split


def lines(path: Path, kind: str) -> Iterator[tuple[int, dict[str, Any], list[str]]]:
    """The number of each line of a pack's file, its row, and what is wrong with it.

    The row of a line that is not a JSON object is empty.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        content = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"the pack's {path} cannot be read ({error.strerror})") from error
    for number, line in enumerate(content, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, {}, [f"not JSON ({error})"]
            continue
        if isinstance(row, dict):
            yield number, row, list(faults(row, kind))
        else:
            yield number, {}, [f"expected an object, found {type(row).__name__}"]


def _read(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    for number, row, wrong in lines(path, kind):
        if wrong:
            raise UserError(f"{path}, line {number}: {wrong[0]}")
        yield row


def faults(row: Mapping[str, Any], kind: str) -> Iterator[str]:
    """What is wrong with a row of a file, one sentence a fault."""
    fields = FIELDS[kind]
    for name, expected in fields.items():
        if not isinstance(row.get(name), expected):
            yield f"expected a {expected.__name__} {name!r}"
    for name in _IDS:
        if name in row and not _are_ids(row[name]):
            yield f"{name!r} is not a list of token ids"
    for name in _TEXTS:
        if name in row and not _are_texts(row[name]):
            yield f"{name!r} is not a list of texts"
    if "dose" in row and not (type(row["dose"]) is int and 0 <= row["dose"] <= MOST_OFTEN):
        yield f"'dose' is not a whole number of times, {MOST_OFTEN} at most"
    if "population" in row and not (isinstance(row["population"], str) and row["population"]):
        yield "'population' is not a name"
    gold, choices = row.get("gold"), row.get("choices")
    if "gold" in fields and isinstance(gold, int) and isinstance(choices, list) and not 0 <= gold < len(choices):
        yield "'gold' is not the index of one of the choices"
    if ("prefix_ids" in row) != ("suffix_ids" in row):
        yield "expected 'prefix_ids' and 'suffix_ids', or neither"
    if (
        kind in PASSAGES
        and "prefix_ids" not in row
        and not (_has_text(row, "prefix_text") and _has_text(row, "suffix_text"))
    ):
        yield "expected text in 'prefix_text' and 'suffix_text', or 'prefix_ids' and 'suffix_ids'"
    if kind == "clean" and "ids" not in row and not _has_text(row, "text"):
        yield "expected text in 'text', or 'ids'"
    if isinstance(row.get("split"), str) and "split" in fields and row["split"] not in SPLITS:
        yield str(unknown("split", row["split"], SPLITS))


def _has_text(row: Mapping[str, Any], name: str) -> bool:
    """Whether the field is more than white space; a field that is not a text is another fault."""
    return not isinstance(row.get(name), str) or bool(row[name].strip())


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(i) is int and i >= 0 for i in value)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
