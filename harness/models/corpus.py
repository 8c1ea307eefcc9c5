"""Names of calibration data: a pack's corpus, local files, a data set of the hub, or texts in memory."""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...files import sha256
from ...tasks import packs

PACK = "pack"
FORMATS = {".txt": "text", ".jsonl": "json", ".parquet": "parquet"}
"""How a local file's name ends -> the builder of ``datasets`` that reads it."""
COLUMN = "text"
_ADDRESS = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(:(?P<rest>[^:]*(:[^:]*){0,2}))?")


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Where documents come from: one of these attributes is given.

    Attributes:
        pack: the name of the pack whose corpus it is.
        path: a text, JSON lines or parquet file, or a folder of them, at any depth.
        address: a data set of the hub, ``OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]]``.
        texts: the documents themselves.
    """

    pack: str | None = None
    path: Path | None = None
    address: str = ""
    texts: tuple[str, ...] | None = None

    def files(self) -> list[Path]:
        """The local files, in the order of their names."""
        if self.pack is not None:
            return [packs.find(self.pack).path("corpus")]
        if self.path is None:
            return []
        inside = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sorted(path for path in inside if path.suffix.lower() in FORMATS and path.is_file())

    def name(self) -> str:
        """What identifies it: a hash of the texts, or of local files' kinds and contents, in order; or the address."""
        if self.address:
            name, revision, config, split, column = self.parts()
            return f"{name}@{revision or ''}:{config or ''}:{split}:{column}"
        sha = hashlib.sha256()
        for text in self.texts or ():
            sha.update(b"in memory" + hashlib.sha256(text.encode()).digest())
        for path in self.files():
            sha.update(FORMATS[path.suffix.lower()].encode() + bytes.fromhex(sha256(path)))
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
        return repr(self.address or self.pack or str(self.path))


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
    path = Path(text).expanduser()
    if text and path.exists():
        corpus = Corpus(path=path)
        if not corpus.files():
            what = "is no file" if path.is_file() else "holds no file"
            raise UserError(f"the corpus {text!r} {what} that ends in {', '.join(FORMATS)}")
        return corpus
    if not _ADDRESS.fullmatch(text) or (path.parent != Path() and path.parent.is_dir()):
        near = difflib.get_close_matches(path.name, [PACK, *(p.name for p in path.parent.glob("*"))], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(
            f"unknown corpus {text!r}{hint}; expected 'pack', a file or folder of text, JSON lines or parquet, "
            "or OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]] of the hub"
        )
    return Corpus(address=text)
