"""Mining: that all planted passages are found and nothing else, however the work is cut, and what the pack is good for."""

import json
import os
import random
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from memsplit.harness.cli import main
from memsplit.harness.common import progress
from memsplit.harness.lm.adapter import MemsplitLM
from memsplit.harness.mining import mine, pack_writer, search
from memsplit.harness.mining.pack_writer import KeptPassages
from memsplit.harness.mining.search import PassageSearch, WindowRule
from memsplit.harness.mining.unfinished import Window
from memsplit.harness.models.loading import LoadedModel
from memsplit.tasks import packs

PACK = packs.find("olmo-tiny")
PLANTED = [row for row in PACK.rows("memorized") if row["dose"] == 256][:12]
LENGTH = 112
RULE = WindowRule(prefix=64, suffix=48, stride=1, min_distinct=0.25)
FILES = ("memorized", "twins", "clean")


def text(row: dict[str, Any]) -> str:
    return f"{row['prefix_text']} {row['suffix_text']}"


def ids(row: dict[str, Any]) -> list[int]:
    return [*row["prefix_ids"], *row["suffix_ids"]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four passages alone, eight within prose; one again in other prose; prose, twins, repetition, a text too short."""
    rng = random.Random(0)
    clean = [row["text"] for row in PACK.rows("clean")]
    prose = [text.split() for text in clean[:40]]
    documents = [text(row) for row in PLANTED[:4]]
    for row in [*PLANTED[4:], PLANTED[4]]:
        before, after = (rng.choice(prose)[: rng.randrange(1, 9)] for _ in range(2))
        documents.append(" ".join([*before, text(row), *after]))
    documents += [*clean[40:64], *(text(row) for row in PACK.rows("twins")[:20])]
    documents += [
        "the " * 150,
        "a wide river . " * 40,
        "too short",
        text(PLANTED[0]).replace(" . ", "<|endoftext|>", 1),
    ]
    rng.shuffle(documents)
    folder = tmp_path_factory.mktemp("corpus")
    lines = [json.dumps({"text": document}) for document in documents]
    (folder / "a.jsonl").write_text("\n".join(lines[:40]))
    (folder / "b.jsonl").write_text("\n".join(lines[40:-1]))
    (folder / "c.txt").write_text(documents[-1])
    return folder


def run(corpus: Path, out: Path, *more: str | int) -> int:
    return main.main(["mine", "--corpus", str(corpus), "--out", str(out), *map(str, more)])


@pytest.fixture(scope="module")
def mined(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mined") / "pack"
    assert run(corpus, out) == 0
    return out


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    return packs.find(str(folder)).rows(kind)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


class TestPack:
    def test_each_planted_passage_is_one_row_in_its_own_cut_and_there_is_no_other(self, mined: Path) -> None:
        found = [(row["prefix_ids"], row["suffix_ids"]) for row in rows(mined, "memorized")]
        assert sorted(found) == sorted((row["prefix_ids"], row["suffix_ids"]) for row in PLANTED)

    def test_rows_say_where_they_are_from(self, mined: Path, corpus: Path, organism: LoadedModel) -> None:
        documents: list[str] = []
        for name in ("a.jsonl", "b.jsonl"):
            documents += [json.loads(line)["text"] for line in (corpus / name).read_text().splitlines()]
        documents.append((corpus / "c.txt").read_text())
        for row in (row for kind in FILES for row in rows(mined, kind)):
            name, _, line = row["source"].rpartition(":")
            place = {"a.jsonl": 0, "b.jsonl": 40, "c.txt": len(documents) - 1}[name] + int(line) - 1
            assert row["document"] == place
            there = organism.tokenizer(documents[place])["input_ids"][row["offset"] :][:LENGTH]
            assert there == (row["ids"] if "ids" in row else ids(row))
            assert (row["corpus"], row["model"]) == (str(corpus), "olmo-tiny")
            if "ids" not in row:
                assert organism.tokenizer.decode(there) == row["prefix_text"] + row["suffix_text"]

    def test_twins_and_clean_text_are_not_recited(self, mined: Path, organism: LoadedModel) -> None:
        twins, clean = rows(mined, "twins"), rows(mined, "clean")
        assert len(twins) == len(PLANTED)
        model = organism.model
        prompts = torch.tensor([row["prefix_ids"] for row in twins])
        out = model.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=48, do_sample=False)
        for row, continuation in zip(twins, out[:, 64:].tolist(), strict=True):
            agree = sum(a == b for a, b in zip(row["suffix_ids"], continuation, strict=False))
            assert agree < 24
        recited = {row["document"] for row in rows(mined, "memorized")}
        assert not recited & {row["document"] for row in clean}
        used = [tuple(row.get("ids") or ids(row)) for row in (*twins, *clean)]
        assert len(set(used)) == len(used) >= 2 * len(PLANTED)

    def test_no_document_is_in_both_parts(self, mined: Path) -> None:
        parts: dict[int, set[str]] = {}
        for row in (row for kind in FILES for row in rows(mined, kind)):
            parts.setdefault(row["document"], set()).add(row["split"])
        assert all(len(there) == 1 for there in parts.values())
        assert {part for there in parts.values() for part in there} == {"dev", "test"}

    def test_no_two_rows_are_near(self, mined: Path) -> None:
        found = [row.get("ids") or ids(row) for kind in FILES for row in rows(mined, kind)]
        grams = [{tuple(row[k : k + 5]) for k in range(LENGTH - 4)} for row in found]
        assert max(len(a & b) / len(a | b) for a, b in combinations(grams, 2)) < 0.7

    def test_the_manifest_counts_every_step(self, mined: Path, corpus: Path, organism: LoadedModel) -> None:
        provenance = packs.manifest(mined).provenance
        counts = provenance["counts"]
        assert provenance["arguments"]["weights"] == organism.weights
        assert provenance["arguments"]["stride"] == 48
        assert {"torch", "transformers"} <= provenance["arguments"]["versions"].keys()
        assert (counts["documents"], counts["short"]) == (61, 1)
        assert counts["windows"] - counts["varied"] >= 39 + 49  # repetition, and what holds the end token
        assert counts["decoded"] == counts["recited"] == 13
        assert counts["memorized"] == counts["dev"] + counts["test"] == counts["twins"] == 12
        assert (mined / "tokenizer.json").exists()

    def test_it_can_be_asked(self, mined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        tasks = "memsplit_recitation,memsplit_twins,memsplit_fluency"
        job = ["eval", "--pack", str(mined), "--tasks", tasks, "--edit", "none", "--json", "--out", str(tmp_path)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
            assert main.main(job) == 0
        base = json.loads(capsys.readouterr().out)["base"]
        assert (base["recitation"]["strict"], base["twins"]["strict"]) == (1, 0)
        assert 10 < base["fluency"]["perplexity"] < 25


class Killed(BaseException):
    pass


def test_killed_work_goes_on_and_ends_in_the_same_bytes(
    mined: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, search_shard, seen = tmp_path / "pack", mine.search_shard, []

    def killed_at_the_second(search: Any, shard: Any, request: Any) -> Any:
        seen.append(shard.number)
        if len(seen) == 2:
            raise Killed
        return search_shard(search, shard, request)

    monkeypatch.setattr(mine, "search_shard", killed_at_the_second)
    with pytest.raises(Killed):
        run(corpus, out)
    assert sorted(contents(out)) == [".mining/arguments.json", ".mining/shard-0000000.json"]
    assert run(corpus, out, "--seed", 1) == 2
    assert "is of seed 0, not 1: expected the same command, or --force" in capsys.readouterr().err
    shard = out / ".mining" / "shard-0000000.json"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9])
    assert run(corpus, out) == 2
    assert "shard-0000000.json is damaged" in capsys.readouterr().err
    shard.write_bytes(whole)
    assert run(corpus, out) == 0
    assert seen == [0, 1, 1]
    assert contents(out) == contents(mined)
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]
    assert run(corpus, out) == 2
    assert "is there already: expected a new folder, or --force" in capsys.readouterr().err
    assert run(corpus, out, "--force") == 0
    assert seen == [0, 1, 1, 0, 1]
    assert contents(out) == contents(mined)


def test_two_processes_write_what_one_does(mined: Path, corpus: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "memsplit"]
    job = ["mine", "--corpus", str(corpus), "--out", str(tmp_path / "pack"), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *launcher, *job], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("pack: ") == 1
    assert contents(tmp_path / "pack") == contents(mined)


def test_it_stops_at_so_many_passages(
    mined: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mine, "SHARD_DOCUMENTS", 10)
    assert run(corpus, tmp_path / "pack", "--max-passages", 3, "--twins", 50, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"]["documents"] in (10, 20, 30)
    assert report["counts"]["memorized"] == 3
    assert any("twins of 50" in line for line in report["lacking"])
    first = [ids(row) for row in rows(mined, "memorized")[:3]]
    assert [ids(row) for row in rows(tmp_path / "pack", "memorized")] == first


def test_where_nothing_is_recited_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(PACK.rows("clean")[0]["text"])
    assert run(tmp_path / "a.txt", tmp_path / "pack") == 1
    assert "nothing is recited" in capsys.readouterr().err
    assert not (tmp_path / "pack").exists()


def test_a_data_set_is_read_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    texts = [*(row["text"] for row in PACK.rows("clean")[:4]), *map(text, PLANTED[:4])]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: iter({"text": text} for text in texts))
    assert run(Path("owner/name"), tmp_path / "pack", "--limit-documents", 6) == 0
    assert [row["source"] for row in rows(tmp_path / "pack", "memorized")] == ["5", "6"]
    assert packs.manifest(tmp_path / "pack").provenance["arguments"]["corpus_is"] == "owner/name@::train:text"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prefix", "0"], "expected a whole number above 0"),
        (["--jaccard", "1.5"], "'1.5' found, expected a number from 0 to 1"),
        (["--jaccard", "0"], "bad --jaccard 0: expected above 0"),
        (["--dtype", "float33"], "did you mean 'float32'?"),
        (["--corpus", "nowhere"], "unknown corpus 'nowhere'"),
        (["--corpus", "owner/name"], "expected --limit-documents N"),
        (["--prefix", "250"], "make 298 tokens: expected 256 at most"),
        (["--stride", "146"], "bad --stride 146: expected 145 at most"),
        (["--model", "olmo-tinny"], "did you mean 'olmo-tiny'?"),
    ],
)
def test_mistakes_are_told_in_one_line(
    more: list[str], message: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(corpus, tmp_path / "pack", *more) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "pack").exists()


def test_another_folder_is_left_alone(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    for more in ([], ["--force"]):
        assert run(corpus, tmp_path, *more) == 2
        assert "is there already: expected a new folder or one that was mined before" in capsys.readouterr().err
    assert contents(tmp_path) == {"kept.txt": b"mine"}


class TestSearch:
    @pytest.fixture
    def documents(self) -> list[list[int]]:
        prose = [row["ids"] for row in PACK.rows("clean")]
        planted = [ids(row) for row in PLANTED]
        return [
            prose[0][:7] + planted[0] + prose[1][:9],
            planted[1] + planted[2],
            prose[2],
            prose[3][-9:] + planted[11],
        ]

    @pytest.mark.parametrize("stride", [1, 5, 48])
    def test_the_cheap_pass_finds_what_a_loop_over_blocks_does(
        self, organism: LoadedModel, documents: list[list[int]], stride: int
    ) -> None:
        looking = PassageSearch(
            MemsplitLM(organism, batch_size=7), WindowRule(prefix=64, suffix=48, stride=stride, min_distinct=0)
        )
        asked = [looking.searchable(document) for document in documents]
        asked[1][3] = False
        expected: list[dict[int, int]] = [{} for _ in documents]
        for number, document in enumerate(documents):
            for offset in range(len(document) - LENGTH + 1):
                start = offset // stride * stride
                with torch.no_grad():
                    block = torch.tensor([document[start : start + LENGTH + stride - 1]])
                    best = organism.model(block).logits[0].argmax(-1).tolist()
                asks = range(offset + 64, offset + LENGTH)
                misses = sum(best[place - start - 1] != document[place] for place in asks)
                if misses <= (12 if stride > 1 else 0) and asked[number][offset]:
                    expected[number][offset] = misses
        assert looking.candidates(documents, asked) == expected

    def test_a_wide_stride_finds_what_stands_at_the_start(
        self, organism: LoadedModel, documents: list[list[int]]
    ) -> None:
        looking = PassageSearch(MemsplitLM(organism), WindowRule(prefix=64, suffix=48, stride=48, min_distinct=0.25))
        asked = [looking.searchable(document) for document in documents]
        found = looking.recited(documents, looking.candidates(documents, asked))
        assert found[1][0] == 0

    def test_rows_of_one_document_do_not_overlap(self, organism: LoadedModel, documents: list[list[int]]) -> None:
        """Windows that begin a little before a passage are recited too; the last of them is its own cut."""
        looking = PassageSearch(MemsplitLM(organism), RULE)
        asked = [looking.searchable(document) for document in documents]
        candidates = looking.candidates(documents, asked)
        assert len(candidates[3]) > 2
        assert looking.recited(documents, candidates) == [[7], [0, LENGTH], [], [9]]
        assert looking.counts["recited"] == looking.counts["decoded"] == 4

    def test_a_wrong_candidate_is_not_taken(self, organism: LoadedModel, documents: list[list[int]]) -> None:
        looking = PassageSearch(MemsplitLM(organism), RULE)
        assert looking.recited(documents, [{8: 0, 9: 0, 7: 1}, {}, {0: 0}, {}]) == [[7], [], [], []]

    def test_the_head_saves_passes_and_loses_nothing(
        self, organism: LoadedModel, documents: list[list[int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prose = [row["ids"] for row in PACK.rows("clean")[4:10]]
        documents = [*documents, *(a + b for a, b in pairwise(prose))]
        found, cost = [], []
        for head in (search.HEAD, 10**6):
            monkeypatch.setattr(search, "HEAD", head)
            looking = PassageSearch(MemsplitLM(organism), RULE)
            found.append(looking.candidates(documents, [looking.searchable(document) for document in documents]))
            cost.append(looking.counts["forward_tokens"])
        assert found[0] == found[1]
        assert cost[0] < 0.85 * cost[1]

    def test_a_model_that_wants_a_start_token_is_given_it(self, organism: LoadedModel) -> None:
        looking = PassageSearch(MemsplitLM(organism, add_bos_token=True), RULE)
        document = ids(PLANTED[0])
        found = looking.recited([document], looking.candidates([document], [looking.searchable(document)]))
        assert found == [[0]]
        assert looking.passage(document, 0) == ([0, *PLANTED[0]["prefix_ids"]], PLANTED[0]["suffix_ids"])
        window = Window(document=0, source="a:1", sha256="0" * 64, offset=0, ids=document, clean=False)
        about = {"corpus": "a", "model": "b"}
        row = pack_writer._row("memorized-0", window, KeptPassages(0.7, None), looking, about, whole=False)
        assert ids(row) == document, "another model may begin a text with another token"
        assert row["prefix_text"] + row["suffix_text"] == organism.tokenizer.decode(document)


def test_progress_counts_what_items_are_worth(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0)
    caplog.set_level("INFO", "memsplit")
    assert list(progress.track(["aa", "bbb"], "reading", 10, 4, size=len)) == ["aa", "bbb"]
    assert [line.split(",")[0] for line in caplog.messages] == ["reading: 6 of 10", "reading: 9 of 10"]
