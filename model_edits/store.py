"""The cache of curvature factors: a folder for each set of arguments, a safetensors file in it for each matrix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import UserError
from ..files import canonical, digest, replacing
from .factors import Factors
from .hashing import tensors_sha256

FORMAT = 2
"""Goes up when the code that collects factors changes what it finds."""
PARTIAL = "partial"
"""The subfolder of killed collections' checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The factors of one set of arguments.

    Attributes:
        id: the folder's name.
        arguments: everything that decided them, the matrix aside.
        files: by the matrix's name.
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
        """When one of its files was last written, or read for an edit, in seconds since 1970."""
        return max(path.stat().st_mtime for path in self.files.values())


class FactorStore:
    """Factors on disk, named by a hash of everything that decides their content.

    Args:
        folder: of the cache; made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, arguments: Mapping[str, str | int], matrix: str) -> Path:
        """Where the factors of ``matrix`` collected with ``arguments`` lie, or would."""
        return self.folder / digest({**arguments, "format": FORMAT})[:32] / f"{matrix}.safetensors"

    def checkpoint(self, arguments: Mapping[str, str | int], matrices: list[str]) -> Path:
        """Where a collection of these matrices keeps its sums meanwhile."""
        return self.folder / PARTIAL / f"{digest([arguments, sorted(matrices), FORMAT])[:32]}.safetensors"

    def has(self, arguments: Mapping[str, str | int], matrix: str) -> bool:
        """Whether there is a file for these factors (whole or not)."""
        return self.path(arguments, matrix).exists()

    def load(self, arguments: Mapping[str, str | int], matrix: str) -> Factors:
        """Read factors.

        Raises:
            UserError: the file is missing, damaged, or of other arguments than its name says (both are shown).
        """
        path = self.path(arguments, matrix)
        expected = _text(arguments, matrix)
        factors, found = _read(path)
        if found != expected:
            raise UserError(f"the factors {path} are of {found}, expected {expected}")
        return factors

    def save(self, arguments: Mapping[str, str | int], matrix: str, factors: Factors) -> Path:
        """Write factors in one step: a reader sees the whole file or none.

        Raises:
            UserError: the folder cannot be written to.
        """
        path = self.path(arguments, matrix)
        tensors = {name: t.float().cpu().contiguous() for name, t in factors.tensors().items()}
        metadata = {
            "arguments": _text(arguments, matrix),
            "tokens": str(factors.tokens),
            "imported": factors.imported,
            "sha256": tensors_sha256(tensors),
        }
        try:
            with replacing(path) as partial:
                save_file(tensors, partial, metadata=metadata)
        except (OSError, SafetensorError) as error:
            raise UserError(f"the factor cache {self.folder} cannot be written to ({error})") from error
        return path

    def entries(self) -> list[Entry]:
        """All that is kept, the last used first; a folder without a readable file is left out."""
        folders = self.folder.iterdir() if self.folder.is_dir() else ()
        found = [entry for folder in folders if folder.name != PARTIAL and (entry := _entry(folder))]
        return sorted(found, key=lambda entry: (-entry.used, entry.id))

    def checkpoints(self) -> list[Path]:
        """What killed collections left."""
        return sorted((self.folder / PARTIAL).glob("*.safetensors"))

    def damaged(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """The matrices whose file is not what it says, each with the reason; every byte is read."""
        for matrix, path in entry.files.items():
            try:
                _, found = _read(path)
            except UserError as error:
                yield matrix, str(error)
                continue
            if found != _text(entry.arguments, matrix) or self.path(entry.arguments, matrix) != path:
                yield matrix, f"the factors {path} are of {found}"

    def remove(self, entry: Entry) -> None:
        """Delete an entry with all its files."""
        shutil.rmtree(self.folder / entry.id)


def _entry(folder: Path) -> Entry | None:
    files = {path.name.removesuffix(".safetensors"): path for path in sorted(folder.glob("*.safetensors"))}
    for path in files.values():
        try:
            with safe_open(path, framework="pt") as file:
                arguments = json.loads((file.metadata() or {})["arguments"])
        except (SafetensorError, OSError, KeyError, ValueError):
            continue
        kept = {key: value for key, value in arguments.items() if key not in ("format", "matrix")}
        return Entry(id=folder.name, arguments=kept, files=files)
    return None


def _read(path: Path) -> tuple[Factors, str]:
    """A file's factors and the text of their arguments.

    Raises:
        UserError: the file is missing or damaged.
    """
    remedy = "delete the file to collect them again"
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        factors = Factors(tokens=int(meta["tokens"]), imported=meta["imported"], **tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the factors {path} are damaged ({error}); {remedy}") from error
    if meta.get("sha256") != factors.sha256:
        raise UserError(f"the factors {path} are damaged (hash differs); {remedy}")
    return factors, meta.get("arguments", "")


def _text(arguments: Mapping[str, str | int], matrix: str) -> str:
    return canonical({**arguments, "format": FORMAT, "matrix": matrix})
