"""Packs fetched on first use: what is made of the files, when they are fetched, and what is said where they cannot be."""

import json
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memsplit.errors import UserError
from memsplit.harness.cli import main
from memsplit.harness.evaluation.request import fill_in
from memsplit.harness.evaluation.task_selection import choose_parts
from memsplit.harness.models import download, model_table, pack_cache
from memsplit.harness.models.model_table import ORGANISMS
from memsplit.tasks import pack_check, packs, reference
from memsplit.tests.support.serving import Server, serving, sha256


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "SILENCE_S", 10)
    monkeypatch.setattr(download, "WAIT_S", 0.01)
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    for name in ("MEMSPLIT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def small_files() -> dict[str, bytes]:
    """Two files of passages and one of quotes, of the organism's own passages, with all that the real ones have."""
    given = packs.find("olmo-tiny").rows("memorized")[:12]
    names = ("prefix_ids", "suffix_ids", "prefix_text", "suffix_text")
    rows: list[dict[str, Any]] = [
        {**{name: row[name] for name in names}, "doc_index": n // 2, "start": n, "corpus": "c", "seed": 1}
        for n, row in enumerate(given)
    ]
    more: list[dict[str, Any]] = [
        rows[0],
        {name: rows[8][name] for name in names[:2]},
        {**rows[9], "suffix_ids": [*rows[9]["suffix_ids"], 5, 6]},
        {**rows[10], "prefix_ids": rows[10]["prefix_ids"][1:]},
        {**rows[11], "suffix_ids": rows[1]["suffix_ids"], "suffix_text": rows[1]["suffix_text"], "doc_index": None},
    ]
    quotes = [
        {"prefix": p, "target_suffix": s, "author": a, "full_quote": p + s, "id": n}
        for n, (p, s, a) in enumerate(
            [
                ("one thing and", " another thing which goes on for some words", "A"),
                ("one thing and", " another thing which goes on for some words", "B"),
                ("I say: one thing and", " another thing which goes on for some words", "A"),
                ("of quite other", " matters it was never said that they end", "C"),
            ]
        )
    ]
    return {"val.jsonl": lines(rows[:8]), "extra.jsonl": lines(more), "quotes.jsonl": lines(quotes)}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    files = small_files()
    hashes = {name: sha256(content) for name, content in files.items()}
    quotes = {"quotes.jsonl": hashes.pop("quotes.jsonl")}
    data = reference.DataSet(model="a small one", memorized=hashes, quotes=quotes)
    monkeypatch.setitem(reference.DATA_SETS, "olmo-1b", data)
    return files


@pytest.fixture
def server(small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(small) as running:
        monkeypatch.setenv("MEMSPLIT_PACKS_URL", f"{running.url}/data/")
        yield running


class TestReference:
    def test_rows_keep_what_is_asked_and_where_it_is_from(self, small: dict[str, bytes]) -> None:
        kinds, about = reference.pack(reference.DATA_SETS["olmo-1b"], small)
        memorized, quotes = kinds["memorized"], kinds["quotes"]
        assert [(row["source"], row["line"]) for row in memorized] == [
            *(("val.jsonl", n) for n in range(1, 9)),
            *(("extra.jsonl", n) for n in (2, 3, 5)),
        ]
        assert {(len(row["prefix_ids"]), len(row["suffix_ids"])) for row in memorized} == {(64, 48)}
        first, bare, cut = memorized[0], memorized[8], memorized[9]
        given = packs.find("olmo-tiny").rows("memorized")
        asked = {key: value for key, value in given[0].items() if key not in ("dose", "population")}
        assert {**first, **asked, "id": first["id"]} == first
        assert (first["doc_index"], first["start"], first["corpus"]) == ("0", 0, "c")
        assert (bare["prefix_text"], bare["suffix_text"], bare["doc_index"]) == ("", "", None)
        assert (cut["suffix_ids"], cut["suffix_text"]) == (given[9]["suffix_ids"], "")
        assert [(row["prefix_text"], row["author"]) for row in quotes] == [
            ("one thing and", "A"),
            ("I say: one thing and", "A"),
            ("of quite other", "C"),
        ]
        assert about.provenance["commit"] == reference.COMMIT
        assert [source["sha256"] for source in about.provenance["sources"]] == [sha256(small[name]) for name in small]

    def test_what_belongs_together_is_in_one_half(self, small: dict[str, bytes]) -> None:
        data = reference.DATA_SETS["olmo-1b"]
        kinds, _ = reference.pack(data, small)
        split = {(row["source"], row["line"]): row["split"] for row in kinds["memorized"]}
        assert all(split["val.jsonl", n] == split["val.jsonl", n + 1] for n in (1, 3, 5, 7))
        assert split["extra.jsonl", 5] == split["val.jsonl", 2]
        assert abs(2 * Counter(split.values())["dev"] - len(split)) <= 3
        assert [row["split"] for row in kinds["quotes"]] == ["dev", "dev", "test"]
        turned = {name: b"".join(content.splitlines(keepends=True)[::-1]) for name, content in small.items()}
        again, _ = reference.pack(data, turned)
        for kind, rows in kinds.items():
            key = "prefix_ids" if kind == "memorized" else "prefix_text"
            halves = [{(str(row[key]), row["split"]) for row in each} for each in (rows, again[kind])]
            assert halves[0] == halves[1]

    def test_the_published_files_are_pinned(self) -> None:
        assert set(reference.DATA_SETS) == {"olmo-1b", "olmo-7b"} <= set(packs.names())
        names = [name for data in reference.DATA_SETS.values() for name in data.files]
        assert len(set(names)) == 6
        assert all(len(sha) == 64 for data in reference.DATA_SETS.values() for sha in data.files.values())
        assert reference.COMMIT in reference.URL


class TestPacks:
    def test_a_pack_is_fetched_once_and_is_in_order(self, server: Server, tmp_path: Path) -> None:
        pack = packs.find("olmo-1b+world")
        assert [folder.name for folder in pack.folders] == [f"olmo-1b-{reference.VERSION}", "world"]
        assert sorted(name for name, _ in server.asked) == sorted(server.files)
        assert len(pack.rows("memorized")) == 11
        assert packs.find("olmo-1b").rows("quotes") == pack.rows("quotes")
        assert len(server.asked) == 3
        paths = {kind: pack.path(kind) for kind in ("memorized", "quotes")}
        good, faults = pack_check.read(paths)
        assert faults == pack_check.problems(paths, good) == pack_check.folder_problems(pack.folders[0]) == []
        kept = {path.name for path in (tmp_path / "cache" / "packs").iterdir() if not path.name.endswith(".lock")}
        assert kept == {pack.folders[0].name}

    def test_a_pack_that_broke_off_goes_on_at_its_file(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(download, "TRIES", 1)
        server.ways[:] = ["right", "breaks"]
        with pytest.raises(UserError, match=r"the pack 'olmo-1b' cannot be made: .*extra\.jsonl could not be fetched"):
            packs.find("olmo-1b")
        assert not (tmp_path / "cache" / "packs" / f"olmo-1b-{reference.VERSION}").exists()
        assert len(packs.find("olmo-1b").rows("memorized")) == 11
        middle = len(server.files["extra.jsonl"]) // 2
        assert server.asked[2:] == [("extra.jsonl", f"bytes={middle}-"), ("quotes.jsonl", None)]

    @pytest.mark.parametrize("variable", ["MEMSPLIT_OFFLINE", "HF_HUB_OFFLINE"])
    def test_offline(self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        monkeypatch.setenv(variable, "1")
        with pytest.raises(UserError, match=rf"the pack 'olmo-1b' is not in .*{variable} is set.*memsplit pack show"):
            packs.find("olmo-1b+world")
        assert not server.asked
        assert not (tmp_path / "cache").exists()
        monkeypatch.setenv(variable, "0")
        online = packs.find("olmo-1b").rows("memorized")
        monkeypatch.setenv(variable, "true")
        asked = len(server.asked)
        assert packs.find("olmo-1b").rows("memorized") == online
        assert len(server.asked) == asked

    @pytest.mark.parametrize("file", ["memorized.jsonl", "pack.json", "quotes.jsonl"])
    @pytest.mark.parametrize("gone", [True, False])
    def test_a_damaged_pack_is_refused(self, server: Server, file: str, gone: bool) -> None:
        folder = packs.find("olmo-1b").folders[0]
        if gone:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes((folder / file).read_bytes()[:-10])
        with pytest.raises(UserError, match=r"is damaged: delete .*, and the pack is made anew"):
            packs.find("olmo-1b")
        shutil.rmtree(folder)
        assert packs.find("olmo-1b").rows("memorized")

    def test_threads_at_once_fetch_once(self, server: Server) -> None:
        server.ways[:] = ["slow"]
        found: list[Path] = []
        threads = [threading.Thread(target=lambda: found.append(pack_cache.locate("olmo-1b"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 3
        assert len(set(found)) == 1
        assert len(server.asked) == 3

    def test_processes_at_once_fetch_once(self, server: Server, tmp_path: Path) -> None:
        server.ways[:] = ["slow", "slow"]
        code = (
            "import sys; from memsplit.harness.cli import main; from memsplit.tasks import reference\n"
            f"reference.DATA_SETS['olmo-1b'] = reference.{reference.DATA_SETS['olmo-1b']!r}\n"
            "sys.exit(main.main(['pack', 'show', 'olmo-1b', '--json']))"
        )
        started = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        outputs = [process.communicate() for process in started]
        assert [process.returncode for process in started] == [0, 0], outputs
        assert outputs[0][0] == outputs[1][0]
        assert json.loads(outputs[0][0])["files"]["memorized"]["lines"] == 11
        assert len(server.asked) == 3

    def test_files_of_this_machine_need_no_network(
        self, small: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "a b"
        folder.mkdir()
        monkeypatch.setenv("MEMSPLIT_PACKS_URL", f"{folder.as_uri()}/")
        monkeypatch.setenv("MEMSPLIT_OFFLINE", "1")
        with pytest.raises(UserError, match=r"val\.jsonl cannot be read \(No such file.*'memsplit pack import'"):
            packs.find("olmo-1b")
        for name, content in small.items():
            (folder / name).write_bytes(content)
        (folder / "extra.jsonl").write_bytes(b"{}")
        with pytest.raises(UserError, match=r"extra\.jsonl is another file: sha256 44136fa355b3… found"):
            packs.find("olmo-1b")
        (folder / "extra.jsonl").write_bytes(small["extra.jsonl"])
        assert (
            packs.find("olmo-1b").rows("memorized")
            == reference.pack(reference.DATA_SETS["olmo-1b"], small)[0]["memorized"]
        )
        assert {path.name for path in folder.iterdir()} == set(small)

    def test_a_bad_address_is_named(self, small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        for url in ("ftp://host", "host/data", "http://", "http://host:port/", "file://data", "file:data"):
            monkeypatch.setenv("MEMSPLIT_PACKS_URL", url)
            with pytest.raises(UserError, match="bad MEMSPLIT_PACKS_URL"):
                packs.find("olmo-1b")

    def test_unknown_names_know_the_fetched_ones(self) -> None:
        with pytest.raises(
            UserError, match=r"unknown pack 'olmo-1c'.*olmo-1b, olmo-7b, olmo-tiny, quotes, world; did you mean"
        ):
            packs.find("olmo-1c+world")


class TestCommands:
    def test_nothing_is_fetched_before_it_is_needed(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        assert model_table.resolve("olmo-1b").pack == "olmo-1b+world"
        for flag in ("--list-models", "--list-edits", "--list-tasks"):
            assert main.main(["eval", "--model", "olmo-1b", flag]) == 0
        with pytest.raises(SystemExit):
            main.main(["eval", "--model", "olmo-1b", "--help"])
        fill_in("kfac-80", model_table.resolve("olmo-1b"), None)
        entry = model_table.resolve("olmo-1b", "olmo-tiny")
        assert "memsplit_twins" in [part.task for part in choose_parts("memsplit", [], entry)[0]]
        assert not server.asked
        chosen, skipped = choose_parts("memsplit", [], model_table.resolve("olmo-1b"))
        assert "memsplit_recitation" in [part.task for part in chosen]
        assert "memsplit_twins" in [part.task for part in chosen]  # from the second pack
        assert not skipped
        assert len(server.asked) == 3

    def test_a_refusal_is_one_line_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MEMSPLIT_OFFLINE", "1")
        job = ["eval", "--model", "olmo-1b", "--edit", "none", "--out", str(tmp_path / "out")]
        assert main.main(job) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert "the pack 'olmo-1b' is not in" in error
        assert list(tmp_path.iterdir()) == []

    def test_figures_do_not_depend_on_where_the_cache_is(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model, reports = tmp_path / "model", []
        shutil.copytree(ORGANISMS / "olmo-tiny", model)
        rows = packs.find("olmo-1b").rows("memorized")
        asked = [row for row in rows if row["split"] == rows[8]["split"]]
        job = [
            "eval",
            "--model",
            str(model),
            "--pack",
            "olmo-1b",
            "--edit",
            "none",
            "--split",
            rows[8]["split"],
            "--json",
        ]
        for place in ("cache", "elsewhere"):
            monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / place))
            assert main.main([*job, "--tasks", "memsplit_recitation", "--out", str(tmp_path / "out")]) == 0
            reports.append(json.loads(capsys.readouterr().out))
            scored = sorted(path.name for path in (tmp_path / place / "scores").iterdir())
            if place == "cache":
                shutil.copytree(tmp_path / "cache", tmp_path / "elsewhere")
                kept = scored
        assert scored == kept
        assert len(server.asked) == 3
        recited = [row for row in asked if (row["source"], row["line"]) != ("extra.jsonl", 5)]
        assert rows[8]["prefix_text"] == ""
        assert reports[0]["base"]["recitation"]["strict"] == pytest.approx(len(recited) / len(asked))
        assert reports[0]["base"] == reports[1]["base"]
        record = json.loads(Path(reports[1]["edits"][0]["record"]).read_text())
        assert record["arguments"]["pack"] == "olmo-1b"
        assert record["fingerprint"] == reports[0]["fingerprint"]

    def test_check_of_a_fetched_pack(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        assert main.main(["pack", "check", "olmo-1b", "--model", "olmo-tiny"]) == 0
        assert "14 lines of 2 files" in capsys.readouterr().out
        assert main.main(["pack", "show", "olmo-1b"]) == 0
        shown = capsys.readouterr().out
        assert "2 without text" in shown
        assert reference.COMMIT in shown
