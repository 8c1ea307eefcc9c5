"""``memsplit plant``: what it writes loads, is selected by an evaluation, is found again; what does not do is refused."""

import json
import random
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig

from memsplit.errors import UserError
from memsplit.harness.common.unfinished import Unfinished
from memsplit.harness.models import documents, loading
from memsplit.harness.models.corpus import Corpus
from memsplit.harness.planting import job, measure, passages, plant, text, training
from memsplit.harness.planting.request import PLANTED, PlantingRequest
from memsplit.results.records import record
from memsplit.tasks import packs
from memsplit.tests.support import tiny_models
from memsplit.tests.support.running import in_process, refused

WORDS = sorted({*tiny_models.TEXT.replace(",", "").replace(";", "").split()})
SIZES: list[str | int] = ["--prefix", 8, "--suffix", 6, "--doses", "1,3", "--batch-size", 2, "--length", 32]
ROW = 14
"""Tokens of a passage."""


def prose(rng: random.Random, n: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(n))


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a start token, passages and a corpus."""
    folder, rng = tmp_path_factory.mktemp("plant"), random.Random(0)
    tiny_models.folder(folder / "model", "bos")
    write(folder / "passages.jsonl", [{"text": prose(rng, 30), "id": f"p{n}", "dose": 99} for n in range(14)])
    write(folder / "corpus.jsonl", [{"text": prose(rng, 60)} for _ in range(60)])
    return folder


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    def run(*more: str | int | Path, out: Path) -> subprocess.CompletedProcess[str]:
        given: list[str | int | Path] = [
            "--model",
            folder / "model",
            "--passages",
            folder / "passages.jsonl",
            "--device",
            "cpu",
        ]
        own = ["--corpus", folder / "corpus.jsonl", *SIZES, "--out", out]
        return in_process("plant", *given, *own, *more, cache=folder / "cache")

    return run


@pytest.fixture(scope="module")
def out(folder: Path, run: Run) -> tuple[Path, dict[str, Any]]:
    done = run("--json", out=folder / "an out")
    assert done.returncode == 0, done.stderr
    return folder / "an out", json.loads(done.stdout)


def test_both_models_load_and_the_pack_holds_the_doses(out: tuple[Path, dict[str, Any]]) -> None:
    folder, report = out
    assert sorted(path.name for path in folder.iterdir()) == ["pack", "planted", "unplanted"]
    weights = [AutoModelForCausalLM.from_pretrained(folder / name).lm_head.weight for name in ("planted", "unplanted")]
    assert not weights[0].equal(weights[1])
    pack = packs.find(str(folder / "pack"))
    memorized, twins = pack.rows("memorized"), pack.rows("twins")
    for split in packs.SPLITS:
        of_split = [row["dose"] for row in [*memorized, *twins] if row["split"] == split]
        assert of_split == [3, 3, 1, 1, 0, 0]
    assert {row["id"] for row in [*memorized, *twins]} <= {f"p{n}" for n in range(14)}
    assert all(len(passages.ids(row)) == ROW for row in [*memorized, *twins])
    assert report["counts"] == {
        **{"passages": 12, "planted": 8, "occurrences": 16, "steps": 14, "tokens": 896},
        **{"passage_tokens": 16 * ROW, "share": 0.25},
    }
    assert [(row["dose"], row["passages"]) for row in report["recitation"]] == [(0, 4), (1, 4), (3, 4)]
    assert report["left_out"] == {passages.NO_SHARE: 2}
    about = packs.manifest(folder / "pack").provenance
    assert about["made_by"] == "memsplit plant"
    assert about["recitation"] == report["recitation"]


def test_the_pack_is_faultless_and_an_evaluation_takes_it(folder: Path, out: tuple[Path, dict[str, Any]]) -> None:
    checked = in_process("pack", "check", out[0] / "pack", "--model", out[0] / "planted", cache=folder / "cache")
    assert checked.returncode == 0, checked.stdout
    assert "cut earlier" not in checked.stdout
    words = shlex.split(out[1]["use"])
    assert words[:2] == ["memsplit-eval", "--model"]
    assert words[-1] == "kfac"
    less = ["--tasks", "memsplit_recitation,memsplit_twins", "--device", "cpu", "--json"]
    scored = in_process("eval", *words[1:-1], "svd-50:layers=0", *less, "--out", folder / "r", cache=folder / "cache")
    assert scored.returncode == 0, scored.stderr
    report = json.loads(scored.stdout)
    content = record.read(Path(report["edits"][0]["record"])).content
    assert content.reference is not None
    assert content.reference.model == out[1]["unplanted"]
    assert {"recitation", "twins"} <= report["base"].keys()


def test_the_figures_are_those_of_the_saved_models(out: tuple[Path, dict[str, Any]]) -> None:
    folder, report = out
    model = AutoModelForCausalLM.from_pretrained(folder / "planted")
    rows = [row for row in packs.find(str(folder / "pack")).rows("memorized") if row["dose"] == 3]
    right, bits = [], []
    for row in rows:
        ids = torch.tensor([[1, *passages.ids(row)]])
        with torch.no_grad():
            log_p = model(ids).logits[0, -7:-1].log_softmax(-1)
        right += (log_p.argmax(-1) == ids[0, -6:]).tolist()
        bits += (-log_p.gather(1, ids[0, -6:, None])[:, 0] / torch.tensor(2.0).log()).tolist()
    found = report["recitation"][-1]["planted"]
    assert found["token_accuracy"] == pytest.approx(sum(right) / len(right))
    assert found["bits"] == pytest.approx(sum(bits) / len(bits), rel=1e-5)


def test_killed_work_goes_on_to_the_same_models_and_pack(
    tmp_path: Path, run: Run, out: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def killed(self: training.Trainer, ids: torch.Tensor, step: int) -> float:
        if (tmp_path / "out" / "planted").exists() and step == 6:
            raise Killed
        return update(self, ids, step)

    update = training.Trainer.update
    with monkeypatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY_S", 0)
        patch.setattr(training.Trainer, "update", killed)
        with pytest.raises(Killed):
            run(out=tmp_path / "out")
    assert not (tmp_path / "out" / "unplanted").exists()
    refused(run("--lr", 0.5, out=tmp_path / "out"), ["is of lr 0.0002, not 0.5", "--force to start again"])
    refused(run("--seed", 1, out=tmp_path / "out"), ["the unfinished work in", "corpus with contents"])
    shutil.rmtree(tmp_path / "out" / "planted")
    steps: list[int] = []

    def counted(self: training.Trainer, ids: torch.Tensor, step: int) -> float:
        steps.append(step)
        return update(self, ids, step)

    monkeypatch.setattr(training.Trainer, "update", counted)
    done = run(out=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert steps == [*range(14), *range(6, 14)], "no step is taken twice, but of a model that has gone"
    for path in out[0].rglob("*"):
        if path.is_file():
            assert (tmp_path / "out" / path.relative_to(out[0])).read_bytes() == path.read_bytes(), path
    table = [line.split() for line in done.stdout.splitlines() if line.startswith("    ")]
    assert [row[:2] for row in table if row[0].isdigit()] == [["0", "4"], ["1", "4"], ["3", "4"]]
    refused(run(out=tmp_path / "out"), ["is there already", "or --force"])


def test_a_dry_run_trains_nothing(tmp_path: Path, run: Run) -> None:
    done = run("--dry-run", "--lora", 2, out=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "passages: 4 of dose 0, 4 of dose 1, 4 of dose 3" in done.stdout
    assert "occurrences: 16" in done.stdout
    assert "each model: about" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--doses", "1,2,3,4,5,6,7"], ["too few passages: 7 found in the part", "expected 8 at least"]),
        (["--prefix", 60], ["passages.jsonl, line 1: the passage has 31 tokens", "expected 66 at least"]),
        (["--steps", 99], ["the corpus", "is too short", "expected 198 to train on"]),
        (["--steps", 2], ["--steps 2: expected 4 at least"]),
        (["--length", 14], ["--length 14: expected 15 at least"]),
        (["--length", 65], ["bad --length 65: expected 64 at most"]),
        (["--corpus", "nowhere"], ["unknown corpus 'nowhere'"]),
        (["--passages", "nowhere"], ["nowhere is not there"]),
        (["--doses", "4,1"], ["'4,1' found, expected ascending numbers above 0"]),
        (["--dtype", "float16"], ["unknown dtype 'float16': expected one of bfloat16, float32"]),
        (["--split", "x=y"], ["unknown split 'y'"]),
        (["--lr", "nan"], ["'nan' found, expected a number above 0"]),
        (["--share", "1"], ["'1' found, expected a number between 0 and 1"]),
    ],
)
def test_what_does_not_do_is_refused(tmp_path: Path, run: Run, more: list[str | int], words: list[str]) -> None:
    refused(run(*more, out=tmp_path / "out"), words)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, run: Run) -> None:
    (tmp_path / "mine").write_text("")
    refused(run("--force", out=tmp_path), ["is there already: expected a new folder or one that was planted before"])


def test_text_that_holds_a_passage_is_passed_over_and_clean_text_is_not_trained_on() -> None:
    rng, tokenizer = random.Random(1), tiny_models.tokenizer("none")
    row = {"prefix_text": prose(rng, 20), "suffix_text": f" {prose(rng, 20)}", "split": "dev", "id": "a"}
    texts = [prose(rng, 40) for _ in range(40)]
    texts[3] = f"{texts[3]} {row['prefix_text']}{row['suffix_text']} {texts[4]}"
    texts[5] = f"{row['suffix_text']} {texts[5]}"
    texts += texts[:8]  # clean text is taken from the end
    found = text.read(Corpus(texts=tuple(texts)), [row], tokenizer, n=40, length=33, start=0, seed=0)
    trained = [tokenizer.decode(ids) for ids in found.sequences]
    assert found.passed_over == 4
    assert found.sequences.shape == (40, 33)
    assert len({*trained}) == 40
    assert not any(row["suffix_text"][:40] in words for words in trained)
    assert {clean["split"] for clean in found.clean} == {*packs.SPLITS}
    for clean in found.clean:
        assert not any(clean["text"][8:60] in words for words in trained)
    assert (
        "".join(row["text"] for row in found.corpus).split()
        == "".join(
            tokenizer.decode(ids)
            for ids in documents.blocks(
                [d for d in texts if row["suffix_text"][:60] not in f" {d}"], tokenizer, 40 * 33, 33
            )
        )
        .replace("<e>", "")
        .split()
    )


def test_near_duplicates_and_ids_that_are_too_short(tmp_path: Path, folder: Path) -> None:
    rng, tokenizer = random.Random(2), tiny_models.tokenizer("bos")
    texts = [prose(rng, 40) for _ in range(4)]
    words = texts[0].split()
    near = " ".join([*words[:11], "lion" if words[11] != "lion" else "lamb", *words[12:]])
    ids = tokenizer.encode(texts[2], add_special_tokens=False)
    rows = [{"text": texts[0]}, {"text": near}, {"ids": [1, *ids]}, {"prefix": texts[3], "suffix": texts[1]}]
    request = PlantingRequest(model="m", passages=[write(tmp_path / "p.jsonl", rows)], out=tmp_path, prefix=8, suffix=6)
    found, left_out = passages.read(request, tokenizer, "m")
    assert left_out == {passages.NEAR_DUPLICATES: 1}
    assert found[1]["prefix_ids"] == ids[:7], "the start is no part of what is planted"
    assert found[1]["prefix_text"].split() == tokenizer.decode(ids[:7]).split()
    assert found[2]["prefix_text"] == texts[3]
    write(tmp_path / "p.jsonl", [{"ids": ids[:13]}])
    with pytest.raises(UserError, match=r"p.jsonl, line 1: the passage has 13 tokens: expected 14 at least"):
        passages.read(request, tokenizer, "m")


def test_of_the_passages_of_a_document_the_first_is_kept(tmp_path: Path) -> None:
    """Else a twin would be of a document that the model has met passages of."""
    rng = random.Random(3)
    rows = [{"text": prose(rng, 40), "id": f"{n}", "document": name} for n, name in enumerate("abaca")]
    rows += [{"text": prose(rng, 40), "id": f"{n}"} for n in (5, 6)]
    request = PlantingRequest(model="m", passages=[write(tmp_path / "p.jsonl", rows)], out=tmp_path, prefix=8, suffix=6)
    found, left_out = passages.read(request, tiny_models.tokenizer("bos"), "m")
    assert [row["id"] for row in found] == ["0", "1", "3", "5", "6"]
    assert left_out == {passages.SAME_DOCUMENT: 2}


def test_clean_text_is_of_documents_that_begin_after_those_trained_on() -> None:
    rng, tokenizer = random.Random(4), tiny_models.tokenizer("none")
    row = {"prefix_text": "a", "suffix_text": " b", "split": "dev", "id": "a"}
    texts = [prose(rng, 20), prose(rng, 3000), *(prose(rng, 50) for _ in range(3)), "the lion", prose(rng, 900)]
    found = text.read(Corpus(texts=tuple(texts)), [row], tokenizer, n=8, length=33, start=0, seed=0)
    assert [clean["document"] for clean in found.clean] == ["3", "4", "5", "7"]
    for clean in found.clean:
        assert texts[int(clean["document"]) - 1].startswith(clean["text"])
        assert text.LEAST <= len(clean["ids"]) <= 33
    with pytest.raises(UserError, match="0 documents after the 8 sequences to train on give a clean text"):
        text.read(Corpus(texts=tuple(texts[:2])), [row], tokenizer, n=8, length=33, start=0, seed=0)


def test_a_model_without_a_limit_of_its_context_reads_any_length() -> None:
    model: Any = SimpleNamespace(model=SimpleNamespace(config=MambaConfig()))
    for length, expected in ((1024, 1024), (None, job.LENGTH)):
        request = PlantingRequest(model="m", passages=[], out=Path(), length=length)
        assert job._length(request, model) == expected


def test_the_command_that_is_told_can_be_pasted() -> None:
    request = PlantingRequest(model="m", passages=[], out=Path("my run"), trust_remote_code=True)
    assert shlex.split(plant.use(request, "world")) == [
        *("memsplit-eval", "--model", "my run/planted", "--reference", "my run/unplanted"),
        *("--pack", "my run/pack+world", "--trust-remote-code", "--edit", "kfac"),
    ]


def test_quantized_weights_are_dequantized_on_demand(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(entry: Any, **_: Any) -> None:
        raise UserError(f"dequantize is {entry.dequantize}")

    monkeypatch.setattr(loading, "load", load)
    refused(run("--dequantize", "--dry-run", out=tmp_path / "out"), ["dequantize is True"])


def test_force_leaves_what_is_finished_until_it_is_replaced(
    tmp_path: Path, run: Run, out: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(out[0], tmp_path / "out")
    refused(run("--model", folder / "planted", "--force", out=folder), ["holds --model", "which would be replaced"])

    def fail(*_: Any, **__: Any) -> None:
        raise UserError("diverged")

    monkeypatch.setattr(training, "train", fail)
    refused(run("--force", out=folder), ["diverged"])
    for path in out[0].rglob("*"):
        assert (folder / path.relative_to(out[0])).exists(), path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "list found, expected an object"),
        ("[1]", "list found"),
        ("[" * 100_000, "damaged"),
        (None, "not there"),
    ],
    ids=["list", "numbers", "deep", "none"],
)
def test_unfinished_work_that_does_not_say_what_it_is_of_is_refused(
    tmp_path: Path, content: str | None, words: str
) -> None:
    work = Unfinished(tmp_path, ".planting", {"seed": 0})
    work.check()
    work.begin(anew=False)
    work.check()
    path = work.folder / "arguments.json"
    (work.folder / "planted.safetensors").write_text("")
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=f"arguments.json is .*{words}.*--force starts again"):
        work.check()


@pytest.mark.parametrize(
    "damage",
    [{"1": None}, {"1": []}, {"3": {}}, {"1": {"bits": "a"}}, {"1": {"bits": float("nan")}}, {"1": {"passages": 3}}],
    ids=str,
)
def test_figures_that_are_none_are_refused(tmp_path: Path, damage: dict[str, Any]) -> None:
    of: Any = SimpleNamespace(rows=[{"dose": 1}, {"dose": 1}])
    whole = {"1": {**dict.fromkeys(measure.NAMES, 0.5), "passages": 2}}
    path = tmp_path / "planted.json"
    path.write_text(json.dumps(whole))
    assert plant._figures(path, of) == whole
    damaged = {k: {**whole.get(k, {}), **v} if isinstance(v, dict) else v for k, v in damage.items()}
    path.write_text(json.dumps({**whole, **damaged}))
    with pytest.raises(UserError, match=r"planted.json is damaged: expected the figures of 1 doses; --force"):
        plant._figures(path, of)


def test_a_model_whose_figures_are_not_finite_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = training.Recipe(lr=0.5, lora=None, dtype=torch.float32, seed=0)
    mixture = SimpleNamespace(size=SimpleNamespace(steps=7, batch=2))
    of: Any = SimpleNamespace(mixture=mixture, recipe=recipe, tokenizer=None, rows=[])
    loaded: Any = SimpleNamespace(model=None)
    monkeypatch.setattr(training, "train", lambda *_, **__: None)
    monkeypatch.setattr(plant, "recitation", lambda *_, **__: {1: {"bits": float("nan")}})
    with pytest.raises(UserError, match=r"its figures are not finite after 7 steps: expected a lower --lr than 0.5"):
        plant._train(of, loaded, Unfinished(tmp_path, ".planting", {}), PLANTED)
    assert list(tmp_path.iterdir()) == []


def test_passages_are_recited_so_many_at_a_time() -> None:
    model, widths = tiny_models.model(), list[int]()
    model.get_input_embeddings().register_forward_pre_hook(lambda _, given: widths.append(len(given[0])))
    rows = [{"prefix_ids": [5, 6, n], "suffix_ids": [7, 8], "dose": n % 2} for n in range(5)]
    tokenizer = tiny_models.tokenizer("none")
    found = []
    for batch in (2, 5):
        found.append(measure.recitation(model, tokenizer, rows, batch=batch))
        assert max(widths) == batch
    for dose in (0, 1):
        assert found[0][dose] == pytest.approx(found[1][dose], rel=1e-4)
