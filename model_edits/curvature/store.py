"""The cache of curvature factors: a folder for each set of arguments, a safetensors file in it for each matrix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ...errors import UserError
from ...files import PARTIAL, canonical, check_writable, digest, replacing
from .. import tensor_file
from .factors import Factors

FORMAT = 3
"""Version of the collected statistics: raised when the code that collects them changes their values."""
REMEDY = "delete the file to collect them again"
UNFINISHED = "unfinished"
"""The subfolder with the partial sums of killed collections, which continue from them."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The factors of one set of arguments.

    Attributes:
        id: name of the folder.
        arguments: everything that the factors depend on, except the matrix; empty if no file could be read.
        files: the files by matrix name.
    """

    id: str
    arguments: dict[str, str | int]
    files: dict[str, Path]

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.files.values())

    @property
    def used(self) -> float:
        """When one of the files was last written, or read for an edit, in seconds since 1970."""
        return max(path.stat().st_mtime for path in self.files.values())


class FactorStore:
    """Factors on disk, in folders named by a hash of everything that the factors depend on.

    Args:
        folder: folder of the cache; it is created on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, arguments: Mapping[str, str | int], matrix: str) -> Path:
        """The path of the factors of ``matrix`` that are collected with ``arguments``, whether or not it exists."""
        return self.folder / digest({**arguments, "format": FORMAT})[:32] / f"{matrix}.safetensors"

    def partial(self, *arguments: object) -> Path:
        """The path of the partial sums of a collection with these arguments."""
        return self.folder / UNFINISHED / f"{digest([*arguments, FORMAT])[:32]}.safetensors"

    def has(self, arguments: Mapping[str, str | int], matrix: str) -> bool:
        """Whether there is a file for these factors; its contents are not checked."""
        return self.path(arguments, matrix).exists()

    def check(self, arguments: Mapping[str, str | int], matrix: str) -> None:
        """Check, before any work, that an existing file is not cut short, or that a missing one can be written.

        Raises:
            UserError: the file is cut short, or cannot be written.
        """
        path = self.path(arguments, matrix)
        if path.exists():
            tensor_file.check(path, "factors", REMEDY)
            return
        try:
            check_writable(self.folder)
        except OSError as error:
            raise UserError(f"the factor cache {self.folder} cannot be written to ({error})") from error

    def load(self, arguments: Mapping[str, str | int], matrix: str) -> Factors:
        """Read factors.

        Raises:
            UserError: the file is missing, damaged, or of other arguments than its name says (both are shown).
        """
        path = self.path(arguments, matrix)
        expected = _text(arguments, matrix)
        factors, found = read(path)
        if found != expected:
            raise UserError(f"the factors {path} are of {found}, expected {expected}")
        return factors

    def save(self, arguments: Mapping[str, str | int], matrix: str, factors: Factors) -> Path:
        """Write factors in one step: a reader sees the whole file or none.

        Raises:
            UserError: the folder cannot be written to.
        """
        path = self.path(arguments, matrix)
        header = {
            "arguments": _text(arguments, matrix),
            "tokens": str(factors.tokens),
            "imported": factors.imported,
            "errors": canonical(dict(factors.errors)),
        }
        try:
            with replacing(path) as partial:
                tensor_file.write(partial, {name: t.float() for name, t in factors.moments.items()}, header)
        except OSError as error:
            raise UserError(f"the factor cache {self.folder} cannot be written to ({error})") from error
        return path

    def entries(self) -> list[Entry]:
        """All entries, the last used first."""
        folders = self.folder.iterdir() if self.folder.is_dir() else ()
        found = [entry for folder in folders if folder.name != UNFINISHED and (entry := _entry(folder))]
        return sorted(found, key=lambda entry: (-entry.used, entry.id))

    def orphans(self) -> list[Path]:
        """Files of killed commands: partial sums, and files that were being written."""
        return sorted([*(self.folder / UNFINISHED).glob("*.safetensors"), *self.folder.rglob(f".*{PARTIAL}")])

    def damaged(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """The matrices whose file is damaged or misplaced, each with the reason. Every byte is read."""
        for matrix, path in entry.files.items():
            try:
                _, found = read(path)
            except UserError as error:
                yield matrix, str(error)
                continue
            if digest({k: v for k, v in json.loads(found).items() if k != "matrix"})[:32] != entry.id:
                yield matrix, f"the factors {path} are of {found}"

    def remove(self, entry: Entry) -> None:
        """Delete an entry with all its files."""
        shutil.rmtree(self.folder / entry.id)


def _entry(folder: Path) -> Entry | None:
    files = {path.name.removesuffix(".safetensors"): path for path in sorted(folder.glob("[!.]*.safetensors"))}
    for path in files.values():
        try:
            with safe_open(path, framework="pt") as file:
                arguments = json.loads((file.metadata() or {})["arguments"])
        except (SafetensorError, OSError, KeyError, ValueError):
            continue
        kept = {key: value for key, value in arguments.items() if key not in ("format", "matrix")}
        return Entry(id=folder.name, arguments=kept, files=files)
    return Entry(id=folder.name, arguments={}, files=files) if files else None


def read(path: Path) -> tuple[Factors, str]:
    """A file's factors and the text of their arguments.

    Raises:
        UserError: the file is missing or damaged.
    """
    tensors, header = tensor_file.read(path, "factors", REMEDY)
    try:
        errors = {str(name): float(error) for name, error in json.loads(header["errors"]).items()}
        return Factors(tensors, int(header["tokens"]), header["imported"], errors), header["arguments"]
    except KeyError as error:
        raise UserError(f"the factors {path} are damaged (they lack {error}); {REMEDY}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"the factors {path} are damaged ({error}); {REMEDY}") from error


def _text(arguments: Mapping[str, str | int], matrix: str) -> str:
    return canonical({**arguments, "format": FORMAT, "matrix": matrix})
