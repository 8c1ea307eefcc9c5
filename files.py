"""Write files whole or not at all, and hash contents."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
"""The end of the name of a file that is being written."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a partial file, which takes ``path``'s place at the end, or is deleted on an error.

    The folder is created. Readers and other writers see the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file in one step (see :func:`replacing`); text is written as UTF-8."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON in one step.

    Raises:
        ValueError: a number is not finite.
    """
    write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield the path of a partial folder, which takes the place of the folder ``path`` and all that is in it."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent))
    partial, before = work / "new", work / "before"
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            os.replace(path, before)
        os.replace(partial, path)
    except BaseException:
        if before.exists():
            os.replace(before, path)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Raise ``OSError`` if ``folder``, or the nearest folder above it that exists, cannot be written to."""
    parent = folder
    while not parent.exists():
        parent = parent.parent
    tempfile.TemporaryFile(dir=parent).close()


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(value: object) -> str:
    """A value as JSON with sorted keys, so that equal values have equal texts."""
    return json.dumps(value, sort_keys=True)


def digest(value: object) -> str:
    """The sha256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
