"""A leaderboard goes to a hub (one on this machine) in one commit, to the last byte; figures go into a model card."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard, ModelCard, constants

from memsplit.errors import UserError
from memsplit.harness.cli import main
from memsplit.harness.publishing import publish
from memsplit.results.board import formats, page
from memsplit.results.board.ranking import boards
from memsplit.results.records import record, tables
from memsplit.results.records.store import Store
from memsplit.tests.support.board_records import made
from memsplit.tests.support.running import refused

REPOSITORY = "some-lab/board"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")  # huggingface_hub's uploads


@dataclass
class Hub:
    """A hub that takes commits.

    Attributes:
        refuses: the answer to whatever comes, instead of taking it.
        public: whether the dataset is there, for all to see.
        url: its address.
        created: what was asked to be made.
        commits: of each its header and its files.
        stored: large files by their sha256.
        tokens: all that were shown.
    """

    refuses: dict[str, int] = field(default_factory=dict)
    public: bool = False
    url: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    commits: list[tuple[dict[str, Any], dict[str, bytes]]] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        for part, status in self.refuses.items():
            if part in path:
                return status, {"error": "not with this token"}
        if path.startswith("/large/"):
            self.stored[path.removeprefix("/large/")] = body
            return 200, {}
        if path == f"/api/datasets/{REPOSITORY}":
            return (200 if self.public or self.created else 404), {
                "id": REPOSITORY,
                "private": not self.public,
                "sha": "0" * 40,
            }
        asked = json.loads(body) if "/commit/" not in path else {}
        if path == "/api/repos/create":
            self.created.append(asked)
            return (409 if self.public else 200), {"url": f"{self.url}/datasets/{REPOSITORY}", "name": REPOSITORY}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/objects/batch"):
            files = [
                {**each, "actions": {"upload": {"href": f"{self.url}/large/{each['oid']}"}}}
                for each in asked["objects"]
            ]
            return 200, {"transfer": "basic", "objects": files}
        if "/preupload/" in path:
            modes = [
                {
                    "path": f["path"],
                    "shouldIgnore": False,
                    "uploadMode": "lfs" if f["path"].endswith("parquet") else "regular",
                }
                for f in asked["files"]
            ]
            return 200, {"files": modes}
        assert path == f"/api/datasets/{REPOSITORY}/commit/main", path
        header, *lines = map(json.loads, body.splitlines())
        values = [(line["key"], line["value"]) for line in lines]
        sent = {
            value["path"]: base64.b64decode(value["content"]) if kind == "file" else self.stored[value["oid"]]
            for kind, value in values
        }
        self.commits.append((header["value"], sent))
        return 200, {
            "success": True,
            "commitOid": "c" * 40,
            "commitUrl": f"{self.url}/datasets/{REPOSITORY}/commit/{'c' * 40}",
        }


@contextmanager
def hub(**settings: Any) -> Iterator[Hub]:
    state = Hub(**settings)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.tokens.add(self.headers["Authorization"])
            status, answer = state.answer(self.path.split("?")[0], self.body())
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET = do_POST

        def body(self) -> bytes:
            if self.headers["Transfer-Encoding"] != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"] or 0))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made(tmp_path / "store", "svd-50", stays=0.6, created=1)
    made(tmp_path / "store", "kfac-80", stays=0.1, created=2)
    made(tmp_path / "store", "kfac-80", stays=0.9, created=3)
    return Store(tmp_path / "store")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Online, with a token, and without the transfer that needs a server of its own."""
    for name in ("HF_HUB_OFFLINE", "MEMSPLIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def push(
    store: Store, monkeypatch: pytest.MonkeyPatch, state: Hub, repository: str = REPOSITORY, **options: Any
) -> str:
    monkeypatch.setattr(constants, "ENDPOINT", state.url)
    return publish.push(boards(store.records()), repository, **options)


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("with_answers", [False, True])
def test_one_commit_holds_records_tables_and_page(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_answers: bool
) -> None:
    options: dict[str, Any] = {"private": True, "with_answers": True, "message": "Ours"} if with_answers else {}
    with hub() as state:
        assert push(store, monkeypatch, state, **options) == f"{state.url}/datasets/{REPOSITORY}/commit/{'c' * 40}"
    ((header, files),) = state.commits
    assert state.tokens - {None} == {"Bearer hf_secret"}
    assert [(asked["organization"], asked["name"], asked["type"]) for asked in state.created] == [
        (*REPOSITORY.split("/"), "dataset")
    ]
    assert [asked.get("visibility") for asked in state.created] == (["private"] if with_answers else [None])
    assert header["summary"] == ("Ours" if with_answers else "Leaderboard by memsplit 0.1.0")
    shown = [store.find("svd-50"), store.records()[-1]]
    kinds = ["items", "answers"] if with_answers else ["items"]
    paths = [path for found in shown for path in (found.path, *(found.files()[kind] for kind in kinds))]
    expected = {f"records/{path.name}": path.read_bytes() for path in paths}
    assert {name: content for name, content in files.items() if name.startswith("records/")} == expected
    ranked = boards(store.records())
    made_here = {"csv": formats.csv(ranked), "json": formats.as_json(ranked), "html": page.html(ranked)}
    assert {end: files[f"leaderboard.{end}"].decode() for end in made_here} == made_here
    assert len(files) == len(expected) + len(made_here) + 1
    card = DatasetCard(files["README.md"].decode())
    assert [config["config_name"] for config in card.data.get("configs")] == ["leaderboard", "items"]
    score = ranked[0].rows[1].score()
    assert f"| 1 | kfac | 80 % | {score.value:.3f} [{score.low:.3f}, {score.high:.3f}] |" in card.text
    for name, content in files.items():  # what was published is a store
        (tmp_path / "got" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "got" / name).write_bytes(content)
    found = Store(tmp_path / "got" / "records").records()
    assert [entry.spec for entry in found] == ["svd-50", "kfac-80"]
    assert len(tables.items(found[0], "base")) == len(tables.items(store.find("svd-50"), "base")) > 0


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("refuses", "settings", "options", "expected"),
    [
        ({"create": 401}, {}, {}, "does not take the token .*HF_TOKEN"),
        ({"create": 403}, {}, {}, "may not write there .not with this token"),
        ({"/commit/": 403}, {}, {}, "may not write there"),
        ({"/preupload/": 404}, {}, {}, "404"),
        ({"validate": 400}, {}, {}, "README"),
        ({"/large/": 403}, {}, {}, "items.parquet"),
        ({}, {}, {"repository": "not a name"}, "'not a name' is no name .* expected OWNER/NAME"),
        ({}, {"public": True}, {"private": True}, "public already"),
    ],
)
def test_a_refusal_is_told(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    refuses: dict[str, int],
    settings: dict[str, Any],
    options: dict[str, Any],
    expected: str,
) -> None:
    with hub(refuses=refuses, **settings) as state, pytest.raises(UserError, match=expected):
        push(store, monkeypatch, state, **options)
    assert state.commits == []


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HF_TOKEN", "", "a token"),
        ("MEMSPLIT_OFFLINE", "1", "MEMSPLIT_OFFLINE"),
        ("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE"),
    ],
)
def test_without_token_or_network_nothing_is_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(
        publish, "get_token", lambda: os.environ["HF_TOKEN"] or None
    )  # none from this machine's own login
    with hub() as state, pytest.raises(UserError, match=expected):
        push(store, monkeypatch, state)
    assert state.tokens == set()


@pytest.mark.usefixtures("token")
def test_a_damaged_record_is_not_published(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.records()[-1].files()["items"]
    path.write_bytes(path.read_bytes()[:-1])
    with hub() as state, pytest.raises(UserError, match="damaged"):
        push(store, monkeypatch, state)
    assert state.tokens == set()


def test_the_command_asks_the_hub_of_the_environment(store: Store) -> None:
    command = [sys.executable, "-m", "memsplit", "leaderboard", "--store", str(store.folder), "--push", REPOSITORY]
    own = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "MEMSPLIT_OFFLINE"))}
    with hub(refuses={"create": 403}) as state:
        own |= {"HF_ENDPOINT": state.url, "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=own, check=False)
    refused(done, [REPOSITORY, "may not write there"])
    assert "Bearer hf_secret" in state.tokens
    done = subprocess.run(
        command, capture_output=True, text=True, env={**own, "HF_ENDPOINT": "http://127.0.0.1:9"}, check=False
    )
    refused(done, ["http://127.0.0.1:9", "does not answer"])


CARD = """---
license: apache-2.0
base_model: some-lab/base
custom_field: kept
model-index:
- name: mine
  results:
  - task: {type: text-generation}
    dataset: {name: GSM8K, type: gsm8k}
    metrics: [{type: acc, value: 0.5}]
  - task: {type: text-generation}
    dataset: {name: memsplit memsplit, type: memsplit, config: logic}
    metrics: [{type: acc, value: 0.123}]
---
# A model

Its text.
"""


@pytest.mark.parametrize("by_folder", [False, True])
def test_a_cards_figures_are_the_records_and_all_else_is_kept(
    store: Store, tmp_path: Path, by_folder: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model" / "README.md"
    file.parent.mkdir()
    file.write_text(CARD)
    for _ in range(2):  # a second time changes nothing
        job = ["--card", str(file.parent if by_folder else file), "--record", "svd-50"]
        assert main.main(["leaderboard", "--store", str(store.folder), *job]) == 0
        assert capsys.readouterr().out == f"{file}\n"
        card = ModelCard.load(file)
        data: dict[str, Any] = card.data.to_dict()
        assert (data["license"], data["base_model"], data["custom_field"]) == ("apache-2.0", "some-lab/base", "kept")
        assert data["model-index"][0]["name"] == "mine"
        assert card.text.strip() == "# A model\n\nIts text."
        results = card.data.eval_results
        found = {(r.dataset_config, r.metric_type): r.metric_value for r in results if r.dataset_type == "memsplit"}
        axes = store.find("svd-50").content.edited
        assert found == {(axis, metric): value for axis, metrics in axes.items() for metric, value in metrics.items()}
        assert [(r.dataset_name, r.metric_value) for r in results if r.dataset_type != "memsplit"] == [("GSM8K", 0.5)]
        assert {r.dataset_revision for r in results if r.dataset_type == "memsplit"} == {"0123456789abcdef"}


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (None, ["README.md", "expected a model's README.md"]),
        ("---\nmodel-index: [\n---\n", ["metadata", "cannot be read"]),
        ("---\nmodel-index:\n- results: 3\n---\n", ["metadata", "cannot be read"]),
        ("---\nlicense: mit\n---\n- edited weights: `abcdef`\n", ["edited by s", "does not name"]),
    ],
)
def test_a_card_that_does_not_fit_is_left_as_it_is(
    store: Store, tmp_path: Path, card: str | None, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "README.md"
    if card is not None:
        file.write_text(card)
    assert main.main(["leaderboard", "--store", str(store.folder), "--card", str(file), "--record", "svd-50"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
    assert (file.read_text() if card is not None else None) == card


def test_a_card_without_metadata_gets_them(store: Store, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A model\n")
    path = store.find("svd-50").path
    assert main.main(["leaderboard", "--card", str(tmp_path), "--record", str(path)]) == 0
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.model_name == tmp_path.name
    assert len(card.data.eval_results) == sum(map(len, record.read(path).content.edited.values()))
