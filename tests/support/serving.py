"""A file server on this machine that also breaks off, falls silent and errs, as the tests tell it to."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """Serves ``files``; each request is answered as the next of ``ways`` says, rightly once there is none left."""

    files: dict[str, bytes]
    ways: list[str | int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Of each request the file and its ``Range``."""
    sent: int = 0
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(files: dict[str, bytes], *ways: str | int) -> Iterator[Server]:
    state = Server(files, list(ways))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, part = self.path.rpartition("/")[2], self.headers["Range"]
            state.asked.append((name, part))
            way = state.ways.pop(0) if state.ways else "right"
            if isinstance(way, int) or name not in state.files:
                self.answer(way if isinstance(way, int) else 404, b"", {})
                return
            content = state.files[name] if way != "wrong" else state.files[name][::-1]
            start = int(part.removeprefix("bytes=").removesuffix("-")) if part and way != "all" else 0
            if start >= len(content):
                self.answer(416, b"", {})
            elif start:
                place = f"bytes {start + (way == 'elsewhere')}-{len(content) - 1}/{len(content)}"
                self.answer(206, content[start:], {"Content-Range": place}, way)
            else:
                self.answer(200, content, {}, way)

        def answer(self, status: int, body: bytes, headers: dict[str, str], way: str | int = "right") -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if way == "slow":
                state.over.wait(0.3)
            part = body[: len(body) // 2] if way in ("breaks", "stalls") else body
            state.sent += len(part)
            self.wfile.write(part)
            self.wfile.flush()
            if way == "stalls":
                state.over.wait(20)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        state.over.set()
        server.shutdown()
        server.server_close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
