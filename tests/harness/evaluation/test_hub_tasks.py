"""The suite of the paper: lm-eval's own tasks, by reference, with their data from a hub on this machine."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import lm_eval.tasks
import pytest
from lm_eval.tasks import TaskManager

from memsplit.harness.cli import main
from memsplit.harness.evaluation import hub_tasks, scoring
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.models import model_table
from memsplit.harness.models.loading import LoadedModel
from memsplit.results.records import record
from memsplit.results.records.encoding import plain
from memsplit.results.records.schema import RecordContent
from memsplit.results.records.score_cache import ScoreStore
from memsplit.tasks import suite
from memsplit.tests.support.hub_rows import DATA, HUB, write, write_arithmetic

LM_EVAL = Path(lm_eval.tasks.__file__).parent
PAPER = suite.own().expand("memsplit_paper")
ASKED = [part for part in PAPER if not part.note]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def mirror(folder: Path) -> Iterator[str]:
    """A hub on this machine that serves each ``OWNER/NAME`` of the folder as a data set; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            where, _, rest = (
                self.path.split("?")[0].removeprefix("/api").removeprefix("/datasets/").partition("/resolve/")
            )
            owner, name, *more = [*where.split("/"), ""]
            repository = folder / owner / name
            if not repository.is_dir():
                self.answer(404, b"", "RepoNotFound")
            elif (repository / "gated").exists():
                self.answer(403, b"", "GatedRepo")
            elif rest:
                file = repository / rest.partition("/")[2]
                self.answer(200, file.read_bytes()) if file.is_file() else self.answer(404, b"", "EntryNotFound")
            elif more[0] == "tree":
                files = [path for path in (repository / "/".join(more[2:])).glob("*") if path.is_file()]
                entries = [(path.relative_to(repository).as_posix(), path.stat().st_size) for path in files]
                tree = [{"type": "file", "oid": COMMIT, "path": path, "size": size} for path, size in entries]
                self.answer(200, json.dumps(tree).encode())
            else:
                self.answer(200, json.dumps({"id": f"{owner}/{name}", "sha": COMMIT, "siblings": []}).encode())

        def answer(self, status: int, data: bytes, error: str = "") -> None:
            self.send_response(status)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data)))
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def run(tmp_path: Path, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A module's command, with caches of its own."""
    own = {"HF_HOME": str(tmp_path / "hf"), "MEMSPLIT_CACHE": str(tmp_path / "cache")}
    environment = {**{k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}, **own, **environment}
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, env=environment, check=False
    )


def paper(tmp_path: Path, *arguments: object, **environment: str) -> tuple[dict[str, Any], RecordContent, list[str]]:
    """The suite's report, its record, and what stderr says was not asked."""
    command = ["memsplit", "eval", "--suite", "memsplit_paper", "--edit", "none", "--json", "--out", tmp_path / "out"]
    done = run(tmp_path, *command, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    content = record.read(Path(report["edits"][0]["record"])).content
    assert plain(content.skipped) == report["skipped"]
    return report, content, [line for line in done.stderr.splitlines() if "not asked" in line]


def long_organism(folder: Path) -> Path:
    """olmo-tiny with room for long answers, every eighth token ending a text so that they are short all the same."""
    shutil.copytree(model_table.ORGANISMS / "olmo-tiny", folder)
    for file, key, value in (
        ("config.json", "max_position_embeddings", 4096),
        ("generation_config.json", "eos_token_id", [0, *range(5, 1147, 8)]),
    ):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, key: value}))
    return folder


def test_the_group_is_made_of_lm_evals_own_tasks() -> None:
    known = hub_tasks.index(HUB).task_index
    group = TaskManager(include_path=str(suite.FOLDER), include_defaults=False).task_index["memsplit_paper"].cfg
    assert group is not None
    assert group["task"] == [part.task for part in ASKED]
    assert len(HUB) >= 24
    for part in HUB:
        entry = known[part.task]
        assert entry.yaml_path is not None
        assert entry.yaml_path.is_relative_to(LM_EVAL)
        assert entry.cfg is not None
        assert set(part.metrics) <= {metric["metric"] for metric in entry.cfg["metric_list"]}
        assert part.filter in [entry["name"] for entry in entry.cfg.get("filter_list", [{"name": "none"}])]
        choosing = entry.cfg["output_type"] == "multiple_choice"
        assert choosing == bool({"acc", "acc_norm"} & set(part.metrics) and part.axis != "arithmetic"), part.task
        assert not choosing or part.chance
    names = [(part.axis, name) for part in PAPER for name in part.metrics.values()]
    assert len(set(names)) == len(names)
    assert len(known) < 200, "the index of all of lm-eval's tasks was needed"
    assert not list(LM_EVAL.rglob("*popqa*"))


def test_the_whole_suite_scores_as_stock_lm_eval_does(tmp_path: Path) -> None:
    write(tmp_path / "data", list(DATA))
    write_arithmetic(tmp_path / "data")
    model = long_organism(tmp_path / "long")
    with mirror(tmp_path / "data") as address:
        ours, content, words = paper(
            tmp_path, "--model", model, "--pack", "olmo-tiny", "--limit", 6, "--batch-size", 8, HF_ENDPOINT=address
        )
        stock = ["lm_eval", "--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
        stock += ["--include_path", str(suite.FOLDER), "--tasks", "memsplit_paper", "--limit", "6"]
        done = run(tmp_path, *stock, "--batch_size", "8", "--output_path", tmp_path / "stock", HF_ENDPOINT=address)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (tmp_path / "stock").rglob("results_*.json")
    results = json.loads(path.read_text())["results"]
    figures = ours["base"]
    for part in HUB:
        for metric, name in part.metrics.items():
            assert figures[part.axis][name] == pytest.approx(results[part.task][f"{metric},{part.filter}"]), part.task
    assert {about.n for task, about in content.tasks.items() if not task.startswith("memsplit")} == {6}
    for axis, name in (("arithmetic", "gsm8k"), ("facts_closed", "triviaqa"), ("facts_open", "boolq")):
        assert 0 <= figures[axis][name] < 1, name
    commonsense = [
        figures["commonsense"][name] for part in HUB for name in part.metrics.values() if "common" in part.axis
    ]
    assert figures["commonsense"]["acc"] == pytest.approx(sum(commonsense) / 6)
    assert ours["skipped"] == [{"task": "popqa", "reason": "lm-eval has no task of it"}]
    assert words == ["not asked, for lm-eval has no task of it: popqa"]


def test_what_cannot_be_had_is_left_out_with_a_word(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write(data, ["aps/super_glue", "allenai/openbookqa", "baber/piqa", "allenai/ai2_arc", "allenai/winogrande"])
    (data / "allenai/openbookqa/gated").touch()
    (data / "baber/piqa/piqa.py").touch()
    (data / "allenai/ai2_arc/ARC-Easy/test.jsonl").write_text('{"question": ')
    (data / "allenai/winogrande/README.md").write_text("---\nconfigs:\n- config_name: small\n---\n")
    reasons = {
        "popqa": "lm-eval has no task",
        "gsm8k": "an answer may take 256 tokens and the model's context is 256",
        "openbookqa": "gated",
        "piqa": "scripts are no longer supported",
        "hellaswag": "doesn't exist on the Hub",
        "arc_easy": "error",
        "winogrande": "doesn't contain any data files",
    }
    with mirror(data) as address:
        asked = ",".join(["memsplit_twins", "boolq", *reasons])
        report, content, words = paper(tmp_path, "--tasks", asked, "--limit", 2, HF_ENDPOINT=address)
    assert {task: about.n for task, about in content.tasks.items()} == {"memsplit_twins": 2, "boolq": 2}
    told = {part["task"]: part["reason"] for part in report["skipped"]}
    assert sorted(told) == sorted(reasons)
    for task, reason in reasons.items():
        assert reason in told[task], told[task]
        assert [line for line in words if line.startswith("not asked, for") and line.endswith(f": {task}")]
    assert len(words) == len(reasons)


def test_offline_the_rest_is_scored(organism: LoadedModel, tmp_path: Path) -> None:
    start = time.monotonic()
    report, content, words = paper(tmp_path, "--limit", 2, HF_HUB_OFFLINE="1")
    assert time.monotonic() - start < 120
    assert [part.task for part in content.skipped] == ["popqa", *(part.task for part in HUB)]
    assert {line.split(":")[0].removeprefix("not asked, for ") for line in words} == {
        "lm-eval has no task of it",
        "HF_HUB_OFFLINE is set and the data set is not in the cache",
        *(f"an answer may take {n} tokens and the model's context is 256" for n in (256, 1024, 2048)),
    }
    assert list(report["base"]) == ["recitation", "twins", "fluency"]
    ours = [part for part in ASKED if part.own]
    tasks = scoring.load_tasks(ours, "olmo-tiny", "test")
    scorer = scoring.Scorer(MemsplitLM(organism), ours, tasks, limit=2, store=ScoreStore(tmp_path / "scores"))
    assert report["fingerprint"] == scorer.fingerprint


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("unreachable")
def test_a_hub_that_does_not_answer_is_asked_once(organism: LoadedModel) -> None:
    start = time.monotonic()
    parts = [part for part in HUB if part.task in ("boolq", "piqa", "arithmetic_2da")]
    tasks, _, skipped = hub_tasks.load(parts, MemsplitLM(organism))
    assert time.monotonic() - start < 120
    assert tasks == {}
    assert {part.note for part in skipped} == {
        "http://127.0.0.1:9 does not answer and the data set is not in the cache"
    }
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize("tasks", ["arc_easy,popqa", "popqa"])
def test_nothing_left_to_ask_is_an_error(tmp_path: Path, tasks: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main.main(["eval", "--suite", "memsplit_paper", "--tasks", tasks, "--edit", "none", "--out", str(out)]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith("memsplit: error: no task is left to ask; not asked, for ")
    assert not out.exists()


def test_what_lm_eval_scores_otherwise_is_left_out(organism: LoadedModel) -> None:
    boolq = next(part for part in HUB if part.task == "boolq")
    others: list[dict[str, Any]] = [{"metrics": {"f1": "boolq"}}, {"filter": "strict"}]
    *_, skipped = hub_tasks.load([dataclasses.replace(boolq, **other) for other in others], MemsplitLM(organism))
    assert [("f1" in part.note, "strict" in part.note) for part in skipped] == [(True, False), (False, True)]


def test_a_task_that_lm_eval_no_longer_has_is_left_out(organism: LoadedModel) -> None:
    boolq = next(part for part in HUB if part.task == "boolq")
    *_, skipped = hub_tasks.load([boolq, dataclasses.replace(boolq, task="boolq_of_old")], MemsplitLM(organism))
    assert "has no such task" in skipped[-1].note


def test_worked_examples_are_the_same_for_base_and_edit(
    organism: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {name: datasets.Dataset.from_list([DATA["openai/gsm8k"]["main"][1](i) for i in range(k)]) for name, k in
            (("train", 40), ("test", 3))}  # fmt: skip
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: dict(rows))
    gsm8k = next(part for part in HUB if part.task == "gsm8k")
    lm, asked = MemsplitLM(organism, max_length=4096), list[str]()  # five examples fit

    def answer(requests: list[Any], **_: object) -> list[str]:
        asked.extend(request.args[0] for request in requests)
        return ["#### 61, or rather 16"] * len(requests)

    monkeypatch.setattr(lm, "generate_until", answer)

    def scorer(filter_name: str = gsm8k.filter) -> scoring.Scorer:
        part = dataclasses.replace(gsm8k, filter=filter_name)
        tasks = hub_tasks.index([part]).load(["gsm8k"])["tasks"]
        return scoring.Scorer(lm, [part], tasks, limit=None, store=ScoreStore(tmp_path))

    first = scorer()
    base, edited = (first.score(weights, weights).items for weights in ("base", "edit"))
    assert asked[:3] == asked[3:]
    assert len(set(asked[0].split("\n\n"))) == 6
    assert base["value"].tolist() == edited["value"].tolist() == [0, 1, 0]
    assert scorer("strict-match").score("base", "").items["value"].tolist() == [1, 0, 1]
    assert scorer().fingerprint == first.fingerprint
    rows["train"] = rows["train"].select(range(20))
    assert scorer().fingerprint != first.fingerprint
