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

from memsplit.errors import UserError
from memsplit.harness.evaluation.request import Request
from memsplit.harness.models import loading, model_table
from memsplit.harness.models.model_table import ORGANISMS
from memsplit.tests.support import tiny_models

REPOSITORY = "some-lab/tiny-model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
EARLIER = "76543210fedcba9876543210fedcba9876543210"

LOAD = """
from memsplit.errors import UserError
from memsplit.harness.models import loading, model_table
for revision in {asked}:
    try:
        loaded = loading.load(model_table.resolve({repository!r}, revision=revision), device="cpu")
        print(loaded.revision, loaded.weights)
    except UserError as error:
        print(error)
"""


@contextmanager
def hub(repository: str, folder: Path, earlier: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine that serves ``folder`` as one repository; yields its address and the files sent so far.

    Its tag ``v1`` and commit :data:`EARLIER` are of the folder ``earlier``.
    """
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            before, _, rest = self.path.split("?")[0].partition("/resolve/")
            revision, _, name = rest.partition("/")
            old = earlier is not None and revision in ("v1", EARLIER)
            path = (earlier if earlier is not None and old else folder) / name
            if before != f"/{repository}" or not (old or revision in ("main", COMMIT)) or not path.is_file():
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
            self.send_header("X-Repo-Commit", EARLIER if old else COMMIT)
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


def test_a_revision_is_loaded_and_recorded(tmp_path: Path) -> None:
    """Of another commit both the weights and the tokenizer are others."""
    latest = tiny_models.folder(tmp_path / "latest", "bos")
    earlier = tiny_models.folder(tmp_path / "earlier", "two")
    texts = {kind: [{"prefix_text": "the lion ate", "suffix_text": " the lamb"}] for kind in ("memorized", "twins")}
    pack, caches = tiny_models.pack(tmp_path / "pack", texts), {"MEMSPLIT_CACHE": str(tmp_path / "cache")}
    job = ["--pack", pack, "--tasks", "memsplit_recitation", "--edit", "none", "--out", tmp_path / "out"]
    asked = "[None, 'v1', '" + EARLIER + "', 'v3']"
    with hub(REPOSITORY, latest, earlier) as (endpoint, _):
        found = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), **caches}
        done = evaluate("--model", REPOSITORY, "--revision", "v1", *job, **found)
        command = [sys.executable, "-c", LOAD.format(repository=REPOSITORY, asked=asked)]
        loaded = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **found}, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(Path(json.loads(done.stdout)["edits"][0]["record"]).read_text())
    assert (record["revision"], record["arguments"]["revision"]) == (EARLIER, "v1")
    assert "--revision v1" in record["command"]
    assert loaded.returncode == 0, loaded.stderr
    local = [loading.load(model_table.resolve(str(each)), device="cpu").weights for each in (latest, earlier)]
    *lines, last = loaded.stdout.splitlines()
    assert lines == [f"{COMMIT} {local[0]}", *[f"{EARLIER} {local[1]}"] * 2]
    assert record["weights"] == local[1]
    assert REPOSITORY in last


@pytest.mark.parametrize("name", ["olmo-tiny", "here"])
def test_a_folder_has_no_revisions(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_models.folder(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"bad revision 'v1': '{name}' is a folder here, expected a hub id"):
        _ = Request(model=name, edits=[], revision="v1").entry


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
