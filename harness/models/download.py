"""Fetch a file over HTTP, whole and of the right hash or not at all; an interrupted download is continued."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ...errors import UserError
from ...files import PARTIAL, sha256
from ..common.progress import meter

SILENCE_S = 20.0
"""Seconds without a byte from the server after which a try is given up."""
TRIES = 5
"""Tries in a row without a new byte, after which the download is given up."""
WAIT_S = 1.0
"""Seconds before the second try; twice as long before each further one."""
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_OFFLINE = ("MEMSPLIT_OFFLINE", "HF_HUB_OFFLINE")


class _Broken(Exception):
    """A try failed, but the next may succeed."""


def offline() -> str | None:
    """The name of the environment variable that forbids every request, if one does."""
    return next((name for name in _OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")), None)


def fetch(url: str, path: Path, expected: str) -> None:
    """Fetch a file by the client that weights come by, with its proxies and certificates.

    The bytes of an interrupted download are kept beside the path, and only the rest is requested. One process at a time
    may fetch to a path.

    Args:
        url: of the file.
        path: where it goes.
        expected: its sha256.

    Raises:
        UserError: the server has no such file, or another, or falls silent time after time.
    """
    partial = path.with_name(path.name + PARTIAL)
    kept, came, fruitless = partial.exists(), False, 0
    most = partial.stat().st_size if kept else 0
    while not (partial.exists() and sha256(partial) == expected):
        if came:
            found = sha256(partial)
            partial.unlink()
            if not kept:
                raise UserError(
                    f"{url} is not the file that was expected, and was deleted: sha256 {found[:12]}… found, "
                    f"{expected[:12]}… expected"
                )
            kept = False  # the bytes of an earlier command may be to blame
        held = partial.stat().st_size if partial.exists() else 0
        try:
            _receive(url, partial, held)
            came = True
        except _Broken as error:
            came = False
            now = partial.stat().st_size if partial.exists() else 0
            fruitless = 1 if now > most else fruitless + 1
            most = max(most, now)
            if fruitless == TRIES:
                hint = "; what came is kept, and another try goes on from there" if partial.exists() else ""
                raise UserError(f"{url} could not be fetched: {error}{hint}") from error
            time.sleep(WAIT_S * 2 ** (fruitless - 1))
    os.replace(partial, path)


def _receive(url: str, partial: Path, held: int) -> None:
    """Ask for what comes after the bytes that are held, and add it to them; begin again where the server sends all."""
    from huggingface_hub import get_session  # here, so that a listing, which only asks offline(), is quick
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the client's, httpx or its successor

    headers = {"Accept-Encoding": "identity"}  # lengths and ranges are those of the file itself
    if held:
        headers["Range"] = f"bytes={held}-"
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with get_session().stream("GET", url, headers=headers, timeout=SILENCE_S) as response:
            goes_on = response.status_code == 206
            if response.status_code == 416 or (
                goes_on and not response.headers.get("Content-Range", "").startswith(f"bytes {held}-")
            ):
                partial.unlink(missing_ok=True)
                raise _Broken("the server has no such part of it")
            if response.status_code in _BUSY:
                raise _Broken(f"the server answers {response.status_code}")
            if response.status_code not in (200, 206):
                raise UserError(f"{url} could not be fetched: the server answers {response.status_code}")
            start = held if goes_on else 0
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdecimal() else None
            with (
                partial.open("ab" if goes_on else "wb") as file,
                meter(f"fetching {url.rpartition('/')[2]}", total, start, in_bytes=True) as advance,
            ):
                for piece in response.iter_raw():
                    file.write(piece)
                    advance(len(piece))
    except HTTPError as error:
        raise _Broken(" ".join(str(error).split()) or type(error).__name__) from error
