"""The command by running it: the main job, its repeatability, and the user's mistakes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from memsplit.harness.models.model_table import ORGANISMS
from memsplit.tasks import packs
from memsplit.tests.support.running import FIGURES, in_process, memsplit, refused

SMALL = ["--limit", "12", "--factor-tokens", "1024"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def report(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("out")
    edits = ["--edit", "none", "--edit", "kfac-50", "--edit", "random:match=kfac-50"]
    done = memsplit("eval", *edits, *SMALL, "--json", "--out", out, cache=cache)
    assert done.returncode == 0, done.stderr
    assert all("left" in line or line.startswith("not asked") for line in done.stderr.splitlines()), done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def figures(report: dict[str, Any]) -> dict[str, Any]:
    return {"base": report["base"], **{e["spec"]: (e["axes"], e["summary"]) for e in report["edits"]}}


def test_json_has_the_promised_shape(report: dict[str, Any]) -> None:
    axes = {
        "recitation": FIGURES,
        "twins": FIGURES,
        "facts_closed": {"acc"},
        "facts_open": {"acc"},
        "arithmetic": {"acc", "addition", "subtraction"},
        "logic": {"acc", "boolean", "ordering", "chain"},
        "fluency": {"perplexity", "kl", "ndcg"},
    }
    assert set(report) == {
        "model",
        "suite",
        "fingerprint",
        "skipped",
        "left_out",
        "notes",
        "base",
        "base_risk",
        "edits",
    }
    left_out = ["memsplit_quotes", "memsplit_facts_choice", "memsplit_facts_counterfactual"]
    assert [part["task"] for part in report["skipped"]] == left_out
    axes |= {axis: {*FIGURES, "mia_ratio"} for axis in ("recitation", "twins")}
    assert {axis: set(metrics) for axis, metrics in report["base"].items()} == axes
    for edit in report["edits"]:
        assert set(edit) == {"spec", "axes", "summary", "attacks", "by_group", "risk", "seconds", "record", "notes"}
        assert {axis: set(metrics) for axis, metrics in edit["axes"].items()} == axes
        kept = {"logic_kept", "arithmetic_kept", "facts_closed_kept", "facts_open_kept"}
        kept |= {"reasoning_kept", "knowledge_kept", "fluency_kept"}
        memory = {"memory_base", "memory", "erased", "scar", "ks_shorter", "ks_longer"}
        assert set(edit["summary"]) >= {"recitation_removed", "perplexity_ratio", *kept, *memory}
        assert "split_score" not in edit["summary"]
        assert os.path.exists(edit["record"])


def test_the_edit_removes_recitation_and_none_nothing(report: dict[str, Any]) -> None:
    none, kfac, _ = report["edits"]
    assert none["axes"] == report["base"]
    assert report["base"]["recitation"]["strict"] >= 0.95
    assert report["base"]["twins"]["strict"] == 0
    assert kfac["summary"]["recitation_removed"] >= 0.97
    assert kfac["summary"]["logic_kept"] >= 0.3


def test_a_record_says_what_changed_and_whether_it_could_be_chance(report: dict[str, Any]) -> None:
    content = json.loads(Path(report["edits"][1]["record"]).read_text())
    changes = content["changes"]
    assert set(changes) == {f"{axis}/{metric}" for axis, metrics in content["base"].items() for metric in metrics}
    no_rates = {"levenshtein", "median_rank", "log_prob", "mia_ratio"}
    no_rates |= {name for name in FIGURES if name.startswith("mia_")}
    unkept = {f"{axis}/{name}" for axis in ("recitation", "twins") for name in no_rates}
    unkept |= {"fluency/perplexity", "fluency/kl"}
    assert {name for name, change in changes.items() if change["retained"] is None} == unkept
    assert {name for name, change in changes.items() if change["p"] is None} == {"fluency/kl", "fluency/ndcg"}
    flipped = {name for name, change in changes.items() if change["test"] == "sign-flip"}
    assert flipped > {*unkept, "arithmetic/acc", "logic/acc"}
    assert not flipped & {"recitation/strict", "twins/loose", "facts_closed/acc", "logic/boolean"}
    strict = changes["recitation/strict"]
    assert (strict["base"], strict["edited"], strict["retained"]["value"]) == (1, 0, 0)
    assert strict["p"] == pytest.approx(2 / 2**12)
    assert strict["p"] < strict["p_holm"] < 0.05
    boolean = changes["logic/boolean"]
    kept = (boolean["edited"] - 0.5) / (boolean["base"] - 0.5)
    assert boolean["retained"]["value"] == pytest.approx(kept)
    assert set(content["groups"]) == {"base", "edit"}
    assert sum(cell["n"] for cell in content["groups"]["edit"]["memsplit_facts_closed"]["acc"].values()) == 12


def test_batch_size_and_repetition_change_nothing(report: dict[str, Any], cache: Path, tmp_path: Path) -> None:
    """Repeated in another process, to the last bit; with another batch size, but for rounding."""
    for run, batch in ((memsplit, 32), (in_process, 1)):
        arguments: list[str | int | Path] = [
            "--edit",
            "kfac-50",
            "--batch-size",
            batch,
            "--rescore",
            "--json",
            "--out",
            tmp_path,
        ]
        done = run("eval", *arguments, *SMALL, cache=cache)
        assert done.returncode == 0, done.stderr
        again = figures(json.loads(done.stdout))
        if batch == 32:
            assert again == {key: value for key, value in figures(report).items() if key in again}
        else:
            first = figures(report)
            for side in again:
                flat, other = (json.dumps(found[side], sort_keys=True) for found in (again, first))
                numbers = [[float(x) for x in re.findall(r"[0-9][0-9.e-]*", text)] for text in (flat, other)]
                assert numbers[0] == pytest.approx(numbers[1], rel=1e-6)


def test_the_table_and_the_record(cache: Path, tmp_path: Path) -> None:
    done = in_process(
        "eval", "--edit", "kfac-50", "--tasks", "memsplit_recitation", *SMALL, "--out", tmp_path / "new", cache=cache
    )
    assert done.returncode == 0, done.stderr
    assert "recitation removed" in done.stdout
    assert "strict" in done.stdout
    path = done.stdout.split("record: ")[1].strip()
    content = json.loads(Path(path).read_text())
    assert content["spec"] == "kfac-50:layers=1-3,proj=gate+up"
    assert content["arguments"]["limit"] == 12
    assert {"weights", "factors", "fingerprint", "versions", "matrices", "seconds", "summary"} <= set(content)
    assert "p (Holm)" in done.stdout
    shown = in_process("power", path, cache=cache)
    assert shown.returncode == 0, shown.stderr
    assert "needed" in shown.stdout


def test_dry_run_computes_nothing(cache: Path, tmp_path: Path) -> None:
    edits = ["--edit", "kfac-50", "--edit", "none"]
    done = in_process("eval", *edits, "--dry-run", "--out", tmp_path / "o", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "collects factors of 6 matrices" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_edits_are_told_with_their_keys(cache: Path) -> None:
    every, one = in_process("edits", cache=cache), in_process("edits", "kfac", cache=cache)
    assert every.returncode == one.returncode == 0
    assert one.stdout in every.stdout
    for line in ("needs: curvature", "source: arXiv 2510.24256", "select=top|bottom [top]", "layers=such as 0+2-3"):
        assert line in one.stdout
    for name, words in {"relearn": "relearn: attack: train", "noise": "noise: attack and control: add"}.items():
        assert words in in_process("edits", name, cache=cache).stdout
    assert "random-PERCENT: control: keep" in every.stdout
    assert "layers=such as 0+2-3 [every linear map]" in in_process("edits", "quantize", cache=cache).stdout
    refused(in_process("edits", "kfca", cache=cache), ["unknown edit 'kfca'", "did you mean 'kfac'"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "olmo-tny"], ["unknown model 'olmo-tny'", "did you mean 'olmo-tiny'"]),
        (["--atack", "relearn"], ["unknown option '--atack'", "did you mean '--attack'"]),
        (["--refrence=none"], ["unknown option '--refrence'", "did you mean '--reference'"]),
        (["--edit", "kfc-50"], ["unknown edit 'kfc'", "did you mean 'kfac'"]),
        (["--edit", "kfac-500"], ["'500' found", "0 to 100"]),
        (["--edit", "kfac-50:laers=1"], ["unknown key 'laers'", "did you mean 'layers'"]),
        (["--edit", "kfac-50:layers=9"], ["layer 9 is out of range", "0-3"]),
        (["--tasks", "memsplit_twin"], ["unknown task 'memsplit_twin'", "did you mean 'memsplit_twins'"]),
        (["--suite", "memsplt"], ["unknown suite", "did you mean 'memsplit'"]),
        (["--split", "tset"], ["unknown split", "did you mean 'test'"]),
        (["--dtype", "float3"], ["unknown dtype", "did you mean 'float32'"]),
        (["--batch-size", "0"], ["'0' found"]),
        (["--limit", "x"], ["'x' found"]),
        (["--factor-tokens", "3"], ["bad --factor-tokens 3"]),
        (["--factor-tokens", "999999999", "--edit", "kfac-50"], ["--factor-tokens 999999999"]),
        (["--device", "cpuu"], ["unknown device 'cpuu'", "did you mean 'cpu'"]),
        (["--seed", "-1"], ["--seed"]),
        (["--tasks", ","], ["unknown task ''"]),
        (["--out", ""], ["'' found"]),
        (["--model", ""], ["unknown model ''"]),
        (["--edit", "kfac-50:proj=upp"], ["bad edit 'kfac-50:proj=upp'", "did you mean 'up'"]),
        (["--edit", "random:match=kfca-50"], ["bad match 'kfca-50'", "did you mean 'kfac'"]),
        (["--nonsense"], ["--nonsense"]),
        (["--pack", "olmo-tny"], ["unknown pack 'olmo-tny'", "did you mean 'olmo-tiny'"]),
        (["--out", "/proc/nowhere"], ["cannot be written to"]),
        (["--model", "owner/model-that-is-nowhere"], ["could not be fetched", "olmo-tiny"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = in_process("eval", "--out", tmp_path / "out", *arguments, cache=tmp_path / "cache")
    refused(done, words)
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(in_process("eval", "--model", tmp_path / "empty", cache=cache), ["is no model", "config.json"])
    model = tmp_path / "model"
    shutil.copytree(ORGANISMS / "olmo-tiny", model)
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:-1000])
    done = in_process("eval", "--model", model, "--edit", "none", "--out", tmp_path / "out", cache=cache)
    refused(done, ["damaged"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", "[]", ["config.json is no object"]),
        ("config.json", "{", ["config.json is not JSON"]),
        ("tokenizer.json", "{", ["the tokenizer in"]),
        ("tokenizer.json", None, ["the tokenizer in"]),
        ("model.safetensors", None, ["the model in"]),
        ("model.safetensors", "a tensor less", ["lack model.layers.1.mlp.up_proj.weight", "1 tensor"]),
    ],
)
def test_broken_models_are_refused(tmp_path: Path, file: str, content: str | None, words: list[str]) -> None:
    model = tmp_path / "model"
    shutil.copytree(ORGANISMS / "olmo-tiny", model)
    if content is None:
        (model / file).unlink()
    elif file == "model.safetensors":
        tensors = load_file(model / file)
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, model / file, metadata={"format": "pt"})
    else:
        (model / file).write_text(content)
    refused(
        in_process("eval", "--model", model, "--edit", "none", "--out", tmp_path / "o", cache=tmp_path / "c"), words
    )
    assert not (tmp_path / "o").exists()


def test_a_closed_pipe_is_no_error(cache: Path) -> None:
    command = f"{sys.executable} -m memsplit eval --list-tasks | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_packs_that_do_not_fit_are_refused(cache: Path, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(packs.SHIPPED / "olmo-tiny", pack)
    clean = (pack / "clean.jsonl").read_text()
    (pack / "clean.jsonl").write_text(clean.replace("\n", "\n{broken\n", 1))
    job: list[str | Path] = ["eval", "--pack", pack, "--edit", "none", *SMALL, "--out", tmp_path / "out"]
    refused(in_process(*job, cache=cache), ["clean.jsonl, line 2", "not JSON"])
    (pack / "clean.jsonl").write_text(clean)
    memorized = [json.loads(line) for line in (pack / "memorized.jsonl").read_text().splitlines()]
    for row in memorized:
        row["prefix_ids"] = row["prefix_ids"][::-1]
    (pack / "memorized.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in memorized))
    refused(in_process(*job, cache=cache), ["memorized.jsonl", "spell another text under olmo-tiny's tokenizer"])
    assert not (tmp_path / "out").exists()


def test_truncated_factors_are_refused(tmp_path: Path) -> None:
    arguments = ["--edit", "kfac-50", "--tasks", "memsplit_twins", *SMALL]
    first = in_process("eval", *arguments, "--out", tmp_path / "a", cache=tmp_path / "cache")
    assert first.returncode == 0, first.stderr
    file = next((tmp_path / "cache").rglob("*up_proj.safetensors"))
    file.write_bytes(file.read_bytes()[:-10])
    done = in_process("eval", *arguments, "--out", tmp_path / "b", cache=tmp_path / "cache")
    refused(done, ["damaged", "delete the file"])
    assert not (tmp_path / "b").exists()
