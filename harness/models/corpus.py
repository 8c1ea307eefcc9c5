"""The text that a command reads: a pack's corpus, local files, or a data set of the hub."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...tasks import packs

PACK = "pack"
FORMATS = {".txt": "text", ".jsonl": "json", ".parquet": "parquet"}
"""How a local file's name ends -> the builder of ``datasets`` that reads it."""
COLUMN = "text"
_ADDRESS = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(:(?P<rest>[^:]*(:[^:]*){0,2}))?")
_TOKENIZED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Where documents come from: one of these.

    Attributes:
        pack: the name of the pack whose corpus it is.
        path: a text, JSON lines or parquet file, or a folder of them, at any depth.
        address: a data set of the hub, ``OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]]``.
    """

    pack: str | None = None
    path: Path | None = None
    address: str = ""

    def files(self) -> list[Path]:
        """The local files, in the order of their names."""
        if self.pack is not None:
            return [packs.find(self.pack).path("corpus")]
        if self.path is None:
            return []
        inside = self.path.rglob("*") if self.path.is_dir() else [self.path]
        return sorted(path for path in inside if path.suffix.lower() in FORMATS and path.is_file())

    def name(self) -> str:
        """What identifies it: a hash of local files' kinds and contents in order; the whole address of a data set."""
        if self.address:
            name, revision, config, split, column = self.parts()
            return f"{name}@{revision or ''}:{config or ''}:{split}:{column}"
        sha = hashlib.sha256()
        for path in self.files():
            with path.open("rb") as file:
                sha.update(FORMATS[path.suffix.lower()].encode() + hashlib.file_digest(file, "sha256").digest())
        return f"sha256:{sha.hexdigest()}"

    def parts(self) -> tuple[str, str | None, str | None, str, str]:
        """Of an address: id, revision, config, split and column."""
        address = _ADDRESS.fullmatch(self.address)
        assert address is not None
        config, split, column, *_ = [*str(address["rest"] or "").split(":"), "", "", ""]
        return address["id"], address["revision"], config or None, split or "train", column or COLUMN

    def documents(self) -> Iterator[str]:
        """The documents, in order; a text file is one, empty ones are left out.

        Raises:
            UserError: the corpus cannot be read or fetched, or has no such column.
        """
        return (text for _, text in self.located())

    def located(self) -> Iterator[tuple[str, str]]:
        """The documents with where each stands, ``FILE:ROW``; of a data set, ``ROW``. Rows count from 1.

        Raises:
            UserError: as for :meth:`documents`.
        """
        column = self.parts()[4] if self.address else COLUMN
        for file, rows in self._files():
            for number, row in enumerate(rows, 1):
                if not isinstance(row.get(column), str):
                    raise UserError(
                        f"a row of the corpus {self} has no text in {column!r}: its columns are {', '.join(row)}"
                    )
                if row[column].strip():
                    yield f"{file}:{number}" if file else str(number), row[column]

    def _files(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """Each file's name in its folder and its rows; a data set is one without a name."""
        if self.pack is not None:
            yield "corpus.jsonl", iter(packs.find(self.pack).rows("corpus"))
        elif self.address:
            name, revision, config, split, _ = self.parts()
            yield "", self._rows(name, config, split=split, revision=revision)
        elif self.path is not None:
            for path in self.files():
                kind = FORMATS[path.suffix.lower()]
                options = {"sample_by": "document"} if kind == "text" else {}
                name = path.name if path == self.path else path.relative_to(self.path).as_posix()
                yield name, self._rows(kind, data_files=[str(path)], split="train", **options)

    def _rows(self, *arguments: str | None, **options: Any) -> Iterator[dict[str, Any]]:
        import datasets
        from pyarrow import ArrowException

        try:
            yield from datasets.load_dataset(*arguments, streaming=True, **options)
        except StopIteration:  # what the library says of an empty file
            return
        except (OSError, ValueError, ArrowException, datasets.exceptions.DatasetsError) as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            hint = "; without a network, --corpus takes local files" if self.address else ""
            raise UserError(f"the corpus {self} cannot be read: {reason}{hint}") from error

    def __str__(self) -> str:
        """As the user names it."""
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


def blocks(documents: Iterable[str], tokenizer: Any, tokens: int, length: int, *, must_have_all: bool = True) -> Any:
    """``tokens // length`` full sequences [n, length]: the documents one after the other, an end token after each.

    Documents that hold fewer tokens give what they hold, unless all are a must.

    Raises:
        UserError: the documents hold fewer tokens than they must, or not one sequence.
    """
    import numpy as np
    import torch

    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    need = tokens // length * length
    found: list[Any] = []
    held = 0
    rest = iter(documents)
    while held < need and (some := list(itertools.islice(rest, _TOKENIZED_AT_ONCE))):
        for ids in tokenizer(some, add_special_tokens=False)["input_ids"]:
            found.append(np.asarray(ids + end, dtype=np.int64))
            held += len(found[-1])
    held = min(held, need)
    if held < length or not need:
        raise UserError(f"the corpus holds {held} tokens: expected {length} at least, one sequence")
    if held < need and must_have_all:
        raise UserError(f"--factor-tokens {tokens}: expected {length} to {held}, what the corpus holds")
    return torch.from_numpy(np.concatenate(found)[: held // length * length]).view(-1, length)
