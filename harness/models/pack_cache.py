"""Packs that are made on first use, of files that are fetched or of installed packages; the cache folder keeps them."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from filelock import FileLock, Timeout

from ...errors import UserError
from ...files import PARTIAL, digest, replacing_folder, sha256
from ...tasks import packs, quotes, reference
from ..common import cache
from . import download

VARIABLE = "MEMSPLIT_PACKS_URL"
Content = tuple[Mapping[str, Iterable[Mapping[str, Any]]], packs.Manifest]
log = logging.getLogger("memsplit")


@dataclass(frozen=True, kw_only=True)
class Source:
    """How a pack is made.

    Attributes:
        version: returns the version of what ``make`` makes; a pack of another version is made again.
        make: the pack's rows by kind, and its manifest; it is given a folder that is kept until the pack is whole.
        fetched: whether it needs the network.
    """

    version: Callable[[], str]
    make: Callable[[Path], Content]
    fetched: bool = False


def _reference(name: str) -> Source:
    """The source work's files on a model, from ``$MEMSPLIT_PACKS_URL`` in place of where they were published."""

    def make(work: Path) -> Content:
        data, url = reference.DATA_SETS[name], _url()
        folder = _local(url)
        if folder is None:
            log.info("fetching the pack %r from %s", name, url)
            for file, expected in data.files.items():
                if not (work / file).exists():
                    download.fetch(f"{url}/{file}", work / file, expected)
        return reference.pack(data, {file: _content((folder or work) / file, sha) for file, sha in data.files.items()})

    return Source(version=lambda: reference.VERSION, make=make, fetched=True)


def _url() -> str:
    """Where the source work's files are.

    Raises:
        UserError: ``$MEMSPLIT_PACKS_URL`` is no address of a server or of a folder.
    """
    url = os.environ.get(VARIABLE, "").rstrip("/") or reference.URL
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, no address
        good = False
    if not good and _local(url) is None:
        raise UserError(f"bad {VARIABLE} {url!r}: expected http://HOST/…, https://HOST/… or file:///FOLDER")
    return url


def _local(url: str) -> Path | None:
    """The folder of a ``file:///…`` address; ``None`` for another address."""
    return Path(unquote(url.removeprefix("file://"))) if url.startswith("file:///") else None


def _content(path: Path, expected: str) -> bytes:
    """A file's bytes, which must have the sha256 that is expected."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); 'memsplit pack import' makes a pack of the files that are there"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(f"{path} is another file: sha256 {found[:12]}… found, {expected[:12]}… expected")
    return content


SOURCES: dict[str, Source] = {
    **{name: _reference(name) for name in reference.DATA_SETS},
    "quotes": Source(
        version=lambda: digest(msgspec.structs.asdict(quotes.about()))[:8],
        make=lambda _: (quotes.build(), quotes.about()),
    ),
}
"""By the pack's name."""


def locate(name: str) -> Path:
    """The folder of a pack of :data:`SOURCES` in the cache; a pack that is not there is made.

    The entry points of the group ``memsplit.packs`` name this function (see ``tasks.plugins``).

    Raises:
        UserError: it cannot be made, or its files are not those that were made.
    """
    source = SOURCES[name]
    folder = cache.folder() / "packs" / f"{name}-{source.version()}"
    if not folder.exists():
        variable = download.offline() if source.fetched and _local(_url()) is None else None
        if variable:
            raise UserError(
                f"the pack {name!r} is not in {folder.parent}, and {variable} is set: fetch it once without "
                f"('memsplit pack show {name}'), or name another by --pack"
            )
        _make(name, source, folder)
    _check(folder)
    return folder


def _make(name: str, source: Source, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process, which makes the pack %r", name)
        held = lock.acquire()
    with held:
        if folder.exists():  # another process was faster
            return
        work = folder.with_name(f".{folder.name}{PARTIAL}")
        try:
            files, about = source.make(work)
        except UserError as error:
            raise UserError(f"the pack {name!r} cannot be made: {error}") from error
        with replacing_folder(folder) as partial:
            packs.write(partial, files, about)
            hashes = {path.name: sha256(path) for path in sorted(partial.glob("*.jsonl"))}
            packs.write(partial, {}, msgspec.structs.replace(about, provenance={**about.provenance, "sha256": hashes}))
        shutil.rmtree(work, ignore_errors=True)


def _check(folder: Path) -> None:
    """Refuse a pack whose files are not those that were made."""
    try:
        hashes = packs.manifest(folder).provenance["sha256"]
        damaged = [
            name for name, sha in hashes.items() if _sha256(path := folder / name, path.stat().st_mtime_ns) != sha
        ]
    except (KeyError, OSError, UserError):
        damaged = ["pack.json"]
    if damaged:
        raise UserError(f"{folder / damaged[0]} is damaged: delete {folder}, and the pack is made anew")


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _: int) -> str:
    return sha256(path)
