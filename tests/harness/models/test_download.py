"""A file is fetched whole and right, or not at all, whatever the server does; what came is not asked for again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memsplit.errors import UserError
from memsplit.harness.common import progress
from memsplit.harness.models import download
from memsplit.tests.support.serving import Server, serving, sha256

CONTENT = bytes(range(256)) * 64
HALF = len(CONTENT) // 2


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SILENCE_S", 10)
    monkeypatch.setattr(download, "WAIT_S", 0.01)


def fetch(server: Server, folder: Path) -> Path:
    download.fetch(f"{server.url}/file", folder / "file", sha256(CONTENT))
    return folder / "file"


@pytest.mark.parametrize(
    ("ways", "parts", "sent"),
    [
        ([], [None], len(CONTENT)),
        (["breaks"], [None, f"bytes={HALF}-"], len(CONTENT)),
        (["breaks", "breaks"], [None, f"bytes={HALF}-", f"bytes={HALF + HALF // 2}-"], len(CONTENT)),
        (["stalls"], [None, f"bytes={HALF}-"], len(CONTENT)),
        (["breaks", "all"], [None, f"bytes={HALF}-"], HALF + len(CONTENT)),
        (["breaks", "elsewhere"], [None, f"bytes={HALF}-", None], 2 * HALF + len(CONTENT)),
        ([503, 429, 500], [None] * 4, len(CONTENT)),
    ],
)
def test_what_broke_off_goes_on(
    tmp_path: Path,
    ways: list[str | int],
    parts: list[str | None],
    sent: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "stalls" in ways:
        monkeypatch.setattr(download, "SILENCE_S", 0.5)
    with serving({"file": CONTENT}, *ways) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert [part for _, part in server.asked] == parts
        assert server.sent == sent
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("left", "parts"),
    [
        (CONTENT[:100], ["bytes=100-"]),
        (CONTENT, []),
        (CONTENT + b"more", [f"bytes={len(CONTENT) + 4}-", None]),
        (b"x" * 100, ["bytes=100-", None]),
    ],
)
def test_what_an_earlier_command_left_is_used_if_it_is_right(
    tmp_path: Path, left: bytes, parts: list[str | None]
) -> None:
    (tmp_path / "file.partial").write_bytes(left)
    with serving({"file": CONTENT}) as server:
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert [part for _, part in server.asked] == parts


@pytest.mark.parametrize(
    ("ways", "words", "requests", "left"),
    [
        (["wrong"], "is not the file that was expected, and was deleted", 1, []),
        (["breaks", "wrong"], "is not the file that was expected, and was deleted", 2, []),
        ([404], "the server answers 404", 1, []),
        ([403], "the server answers 403", 1, []),
        ([503] * 9, "the server answers 503", 5, []),
        (["stalls", 503, 503, 503, 503, 503], "answers 503; what came is kept", 5, ["file.partial"]),
    ],
)
def test_what_cannot_be_had_is_refused(
    tmp_path: Path,
    ways: list[str | int],
    words: str,
    requests: int,
    left: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "stalls" in ways:
        monkeypatch.setattr(download, "SILENCE_S", 0.5)
    with serving({"file": CONTENT}, *ways) as server:
        with pytest.raises(UserError, match=words) as caught:
            fetch(server, tmp_path)
        assert len(server.asked) == requests
        assert f"{server.url}/file" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == left


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with serving({}) as server:
        pass
    with pytest.raises(UserError, match="could not be fetched"):
        fetch(server, tmp_path)


def test_an_interrupted_command_keeps_what_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def interrupted(*_: Any, **__: Any) -> Iterator[Any]:
        yield lambda _: (_ for _ in ()).throw(KeyboardInterrupt)

    with serving({"file": CONTENT}) as server:
        with monkeypatch.context() as patch:
            patch.setattr(download, "meter", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fetch(server, tmp_path)
        held = (tmp_path / "file.partial").stat().st_size
        assert held > 0
        assert fetch(server, tmp_path).read_bytes() == CONTENT
        assert [part for _, part in server.asked][1:] in ([f"bytes={held}-"], [])


def test_progress_counts_bytes_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    caplog.set_level("INFO", logger="memsplit")
    with progress.meter("fetching x", 1000, 400, in_bytes=True) as advance:
        advance(600)
    with progress.meter("fetching y", None, in_bytes=True) as advance:
        advance(7)
    assert list(progress.track("ab", "z", 3, 1)) == ["a", "b"]
    said = [record.getMessage() for record in caplog.records]
    assert said == ["fetching x: 1000 of 1000, 0 s left", "fetching y: 7", *said[2:]]
    assert [one.split(",")[0] for one in said[2:]] == ["z: 2 of 3", "z: 3 of 3"]
