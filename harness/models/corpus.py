"""Names of calibration data: a pack's corpus, local files, a data set of the hub, or texts in memory."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...files import sha256
from ...tasks import packs

PACK = "pack"
FORMATS = {".txt": "text", ".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
"""How a local file's name ends -> its format; those of text may also be packed, and then end in ``.gz``."""
EXPECTED = f"{', '.join(FORMATS)} (or .gz after them), or a folder that datasets has saved"
COLUMN = "text"
_STATE, _PARTS = "state.json", "dataset_dict.json"
_ABOUT = frozenset({_STATE, _PARTS, "dataset_info.json", "dataset_infos.json", "pack.json", "relations.json"})
"""Files of JSON that describe the data beside them."""
_ADDRESS = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(:(?P<rest>[^:]*(:[^:]*){0,2}))?")


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Where documents come from: one of these attributes is given.

    Attributes:
        pack: the name of the pack whose corpus it is.
        path: a file of one of :data:`FORMATS`, or a folder of them, at any depth, or of saved data sets.
        column: the column of the path's files that holds the documents.
        address: a data set of the hub, ``OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]]``.
        texts: the documents themselves.
    """

    pack: str | None = None
    path: Path | None = None
    column: str = COLUMN
    address: str = ""
    texts: tuple[str, ...] | None = None

    def files(self) -> list[Path]:
        """The local files, in the order of their names."""
        if self.pack is not None:
            return [packs.find(self.pack).path("corpus")]
        return local_files(self.path) if self.path is not None else []

    def name(self) -> str:
        """What identifies it: a hash of the texts, or of local files' kinds and contents, in order; or the address."""
        if self.address:
            name, revision, config, split, column = self.parts()
            return f"{name}@{revision or ''}:{config or ''}:{split}:{column}"
        sha = hashlib.sha256()
        for text in self.texts or ():
            sha.update(b"in memory" + hashlib.sha256(text.encode()).digest())
        for path in self.files():
            sha.update(format_of(path).encode() + bytes.fromhex(sha256(path)))
        if self.column != COLUMN:
            sha.update(f"column {self.column}".encode())
        return f"sha256:{sha.hexdigest()}"

    def parts(self) -> tuple[str, str | None, str | None, str, str]:
        """Of an address: id, revision, config, split and column."""
        address = _ADDRESS.fullmatch(self.address)
        assert address is not None
        config, split, column, *_ = [*str(address["rest"] or "").split(":"), "", "", ""]
        return address["id"], address["revision"], config or None, split or "train", column or COLUMN

    def __str__(self) -> str:
        """As the user names it."""
        if self.texts is not None:
            return f"of {len(self.texts)} texts"
        column = f":{self.column}" if self.column != COLUMN else ""
        return repr(self.address or self.pack or f"{self.path}{column}")


def format_of(path: Path) -> str:
    """The format of a local file by its name, a value of :data:`FORMATS` or ``arrow``; ``""`` for another file."""
    name = path.name.lower()
    if path.suffix.lower() in (".arrow", ".parquet"):
        return path.suffix.lower()[1:]
    return FORMATS.get(Path(name.removesuffix(".gz")).suffix, "") if not name.endswith(".parquet.gz") else ""


def local_files(path: Path) -> list[Path]:
    """The files of a path in the order of their names: itself, or those in a folder that have a format.

    Files and folders within whose names begin with a dot are passed over: a file that is being written, a copy that an
    editor or a version control keeps.

    Of a folder that ``datasets`` has saved these are the files of its rows; of one with parts, those of ``train`` or of
    its only part.

    Raises:
        UserError: a saved data set has several parts and no ``train``, or does not say which files hold its rows.
    """
    if path.is_dir():
        return sorted(_inside(path))
    return [path] if format_of(path) not in ("", "arrow") else []


def _inside(folder: Path) -> Iterator[Path]:
    if (folder / _PARTS).is_file():
        parts = _listed(folder / _PARTS, "splits")
        if "train" not in parts and len(parts) != 1:
            raise UserError(f"{folder} has the parts {', '.join(parts)}: expected the folder of one, {folder}/PART")
        yield from _inside(folder / ("train" if "train" in parts else parts[0]))
        return
    if (folder / _STATE).is_file():
        yield from (folder / name for name in _listed(folder / _STATE, "_data_files"))
        return
    for child in (child for child in folder.iterdir() if not child.name.startswith(".")):
        if child.is_dir() and not child.is_symlink():
            yield from _inside(child)
        elif child.name not in _ABOUT and format_of(child) not in ("", "arrow") and child.is_file():
            yield child


def _listed(path: Path, field: str) -> list[str]:
    """The names of files or folders that a saved data set lists; each lies in its folder."""
    try:
        names = [item["filename"] if field == "_data_files" else item for item in json.loads(path.read_bytes())[field]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: expected a list {field!r}, as datasets saves it") from error
    if not all(isinstance(name, str) and name not in ("", "..") and os.path.basename(name) == name for name in names):
        raise UserError(f"{path}: expected names of this folder in {field!r}")
    return names


def find(text: str, pack: str) -> Corpus:
    """The corpus of a name: ``pack``, a local path, or a data set's address.

    Args:
        text: the name.
        pack: the model's pack.

    Raises:
        UserError: there is none of this name, or it is empty.
    """
    if text == PACK:
        if not packs.find(pack).has("corpus"):
            raise UserError(f"the pack {pack!r} has no corpus.jsonl: expected --pack, or another --corpus")
        return Corpus(pack=pack)
    found = _local(text)
    if found is not None:
        if not found.files():
            what = "is no file" if found.path and found.path.is_file() else "holds no file"
            raise UserError(f"the corpus {text!r} {what} that ends in {EXPECTED}")
        return found
    path = Path(text).expanduser()
    if not _ADDRESS.fullmatch(text) or (path.parent != Path() and path.parent.is_dir()):
        near = difflib.get_close_matches(path.name, [PACK, *(p.name for p in path.parent.glob("*"))], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(
            f"unknown corpus {text!r}{hint}; expected 'pack', a file or folder of text, JSON, CSV or parquet "
            "(PATH[:COLUMN]), or OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]] of the hub"
        )
    return Corpus(address=text)


def _local(text: str) -> Corpus | None:
    """The corpus of a path, or of a path and a column; a path that exists is a path, whatever is in its name."""
    path, colon, column = text.rpartition(":")
    if text and Path(text).expanduser().exists():
        return Corpus(path=Path(text).expanduser())
    if path and colon and Path(path).expanduser().exists():
        if not column:
            raise UserError(f"bad corpus {text!r}: expected the name of a column after {colon!r}")
        return Corpus(path=Path(path).expanduser(), column=column)
    return None
