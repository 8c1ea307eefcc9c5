"""A model from a hub (one on this machine): fetched once, then taken from the cache; what cannot be fetched is named."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from memsplit.harness.models.model_table import ORGANISMS

REPOSITORY = "some-lab/tiny-model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(repository: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine that serves ``folder`` as one repository; yields its address and the files sent so far."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            before, _, rest = self.path.split("?")[0].partition("/resolve/")
            revision, _, name = rest.partition("/")
            path = folder / name
            if before != f"/{repository}" or revision not in ("main", COMMIT) or not path.is_file():
                known = before.removeprefix("/api/models").startswith(f"/{repository}")
                code = "EntryNotFound" if known else "RepoNotFound"
                self.send_response(404)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                sent.append(name)
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()


def evaluate(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "memsplit", "eval", "--limit", "3", "--json", *map(str, arguments)]
    environment = {**{k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_hub_model_goes_the_same_way(tmp_path: Path) -> None:
    out, caches = tmp_path / "out", {"HF_HOME": str(tmp_path / "hf"), "MEMSPLIT_CACHE": str(tmp_path / "cache")}
    job = ["--model", REPOSITORY, "--pack", "olmo-tiny", "--edit", "kfac-80", "--factor-tokens", "1024", "--out", out]
    with hub(REPOSITORY, ORGANISMS / "olmo-tiny") as (endpoint, sent):
        first = evaluate(*job, HF_ENDPOINT=endpoint, **caches)
        assert first.returncode == 0, first.stderr
        assert sent.count("model.safetensors") == 1
        report = json.loads(first.stdout)
        record = json.loads(Path(report["edits"][0]["record"]).read_text())
        assert (record["pretrained"], record["revision"]) == (REPOSITORY, COMMIT)
        assert report["base"]["recitation"]["strict"] == 1
    again = evaluate(*job, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1", **caches)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["base"] == report["base"]


@pytest.mark.parametrize("repository", ["some-lab/no-such-model", REPOSITORY])
def test_what_cannot_be_fetched_is_named(tmp_path: Path, repository: str) -> None:
    out, caches = tmp_path / "out", {"HF_HOME": str(tmp_path / "hf"), "MEMSPLIT_CACHE": str(tmp_path / "cache")}
    (tmp_path / "empty").mkdir()
    with hub(REPOSITORY, tmp_path / "empty") as (endpoint, _):
        done = evaluate("--model", repository, "--edit", "none", "--out", out, HF_ENDPOINT=endpoint, **caches)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert repository in done.stderr
    assert "olmo-tiny and local folders work" in done.stderr
    assert not out.exists()
