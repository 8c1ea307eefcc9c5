"""``memsplit gate`` as a user runs it, on records, in a test by the fixture, and in CI by the example."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pandas as pd
import pytest
import yaml

from memsplit.errors import UserError
from memsplit.harness.cli import main
from memsplit.harness.evaluation import runner
from memsplit.harness.evaluation.request import Request
from memsplit.harness.pytest_plugin import Gate
from memsplit.model_edits.registry import DEFAULT_ATTACKS
from memsplit.results.gate.judge import verdict
from memsplit.results.gate.policy import Policy, given
from memsplit.results.records import record, tables
from memsplit.results.records.schema import Results
from memsplit.results.records.tables import ITEMS
from memsplit.tests.support.running import in_process, refused

ROOT = Path(__file__).parents[3]
TASKS = "memsplit_recitation,memsplit_twins,memsplit_fluency,memsplit_facts_open,memsplit_logic_chain"
SMALL = ["--tasks", TASKS, "--limit", "40", "--factor-tokens", "1024"]
NEW = "kfac-5:layers=1-3,proj=gate+up"
"""An edit that leaves next to nothing of what its matrices did, and one (OLD) that differs from it by next to nothing."""
OLD = f"{NEW}@0.00001"
POLICY = '[margins]\n"logic/chain" = 0.2\nfacts_open = 0.2\nrecitation = 0.1\n'


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that compares two edits: its policy, records, and what it said."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "gate.toml").write_text(f"removed = 0.5\nperplexity_ratio = 1.2\n{POLICY}")
    edits: list[str | Path] = ["--edit", NEW, "--against", OLD, "--policy", folder / "gate.toml"]
    done = in_process("gate", *edits, *SMALL, "--out", folder / "out", "--junit", folder / "made/gate.xml", cache=cache)
    (folder / "said").write_text(f"{done.returncode}\n{done.stdout}{done.stderr}")
    return folder


def record_of(spec: str, folder: Path) -> record.Record:
    found = [record.read(path) for path in (folder / "out").glob("*.json")]
    return next(entry for entry in found if entry.spec == spec)


def gated(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    code = main.main(["gate", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if code in (0, 1, 3) else {}, said.err


def test_one_run_scores_both_edits_and_passes(folder: Path) -> None:
    said = (folder / "said").read_text()
    lines = said.splitlines()
    assert lines[0] == "0", said
    assert f"olmo-tiny  {NEW}  against {OLD}" in lines[1]
    assert "PASS" in lines
    for name in ("removed", "perplexity_ratio", "logic/chain", "facts_open", "recitation"):
        assert any(name in line and "PASS" in line for line in lines)
    suite = ElementTree.parse(folder / "made/gate.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("5", "0")
    assert len(list((folder / "out").glob("*.json"))) == 2


def test_records_are_judged_without_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = record_of(NEW, folder), record_of(OLD, folder)
    shared = ["--out", folder / "out", "--policy", folder / "gate.toml"]
    code, against, _ = gated(capsys, "--record", new.path, "--against", old.id, *shared)
    assert (code, against["verdict"], against["against"], len(against["criteria"])) == (0, "PASS", old.spec, 5)
    code, alone, _ = gated(capsys, "--record", new.spec, *shared)
    assert (code in (0, 1, 3), alone["against"], len(alone["criteria"])) == (True, "base", 4)
    assert alone["criteria"][0]["found"] == pytest.approx(new.summary["recitation_removed"].value)
    ratio = alone["criteria"][1]
    assert ratio["found"] == pytest.approx(new.summary["perplexity_ratio"].value) or "texts clipped to" in ratio["note"]
    assert alone["criteria"][2]["found"] == pytest.approx(new.changes["logic", "chain"].value)
    assert alone["record"] == str(new.path)
    assert [c["found"] for c in against["criteria"][:1]] == [c["found"] for c in alone["criteria"][:1]]


def test_fail_and_inconclusive_have_their_codes_and_annotations(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    policy = tmp_path / "gate.toml"
    job = ["--record", record_of(NEW, folder).path, "--policy", policy, "--junit", tmp_path / "gate.xml"]
    policy.write_text("removed = 0.97")
    code, found, errors = gated(capsys, *job)
    assert (code, found["verdict"]) == (3, "INCONCLUSIVE")
    assert found["criteria"][0]["more"] > 30
    assert errors.startswith("::warning title=memsplit gate%3A removed%3A INCONCLUSIVE::kfac-5:")
    policy.write_text("perplexity_ratio = 1.001")
    assert main.main(["gate", *map(str, job)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("::error title=memsplit gate%3A perplexity_ratio%3A FAIL::kfac-5:")
    assert lines[-1].startswith("FAIL: perplexity_ratio")
    assert ElementTree.parse(tmp_path / "gate.xml").getroot()[0].get("failures") == "1"
    headings = [line for line in (tmp_path / "summary.md").read_text().splitlines() if line.startswith("#")]
    assert headings == ["### memsplit gate: INCONCLUSIVE", "### memsplit gate: FAIL"]


def test_what_cannot_be_compared_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    new = record_of(NEW, folder)
    results = Results(**{name: getattr(new.content, name) for name in Results.__struct_fields__})
    base, edit = (tables.items(new, side).assign(side=side) for side in ("base", "edit"))
    for key, value, words in [
        ("weights", "w", ["not of the same base: weights", "against w"]),
        ("fingerprint", "f", ["(f) were not asked the same", "memsplit_fluency in the first alone"]),
        ("dtype", "float16", ["dtype float32 against float16"]),
    ]:
        tasks = {task: about for task, about in new.content.tasks.items() if task != "memsplit_fluency"}
        changed = msgspec.structs.replace(results, **{key: value, "tasks": tasks})
        other = record.write(tmp_path, f"other-{key}", changed, pd.concat([base, edit], ignore_index=True))
        assert main.main(["gate", "--record", str(new.path), "--against", str(other.path)]) == 2
        error = capsys.readouterr().err
        for word in [*words, other.id]:
            assert word in error
    empty = record.write(tmp_path, "empty", results, pd.DataFrame(columns=[*ITEMS, "side"]))
    policy = tmp_path / "gate.toml"
    policy.write_text("removed = 0.9")
    assert main.main(["gate", "--record", str(empty.path), "--policy", str(policy)]) == 2
    assert "recitation/strict was not scored" in capsys.readouterr().err


def with_attacks(of: record.Record, folder: Path, attacks: dict[str, float], floors: bool = True) -> record.Record:
    """A record's copy that was attacked: after each attack so many bits of the edit's and of U's passages are known."""
    base, edit = (tables.items(of, side).assign(side=side) for side in ("base", "edit"))
    lengths = base[base["axis"].isin(["recitation", "twins"]) & (base["metric"] == "log_prob")]
    of_twins = lengths[lengths["axis"] == "twins"]["value"].mean()
    memorized = lengths["axis"] == "recitation"
    sides = {f"edit+{attack}": bits for attack, bits in attacks.items()}
    if floors:
        sides |= {"unseen": 0.0, **{f"unseen+{attack}": 0.1 for attack in attacks}}
    rng = np.random.default_rng(0)
    rows = [
        lengths.assign(value=of_twins + memorized * bits * math.log(2) + rng.normal(0, 0.1, len(lengths)), side=side)
        for side, bits in sides.items()
    ]
    results = Results(**{name: getattr(of.content, name) for name in Results.__struct_fields__})
    return record.write(folder, "attacked", results, pd.concat([base, edit, *rows], ignore_index=True))


def test_what_stays_erased_is_judged_from_a_records_sides(folder: Path, tmp_path: Path) -> None:
    policy = Policy(erased=0.02, stays_erased=0.5)
    memory = record_of(NEW, folder).content.changes  # of the base and the edit, in bits

    def of(side: str) -> float:
        nats = [getattr(memory[f"{axis}/log_prob"], side) for axis in ("recitation", "twins")]
        return float(nats[0] - nats[1]) / math.log(2)

    attacked = with_attacks(record_of(NEW, folder), tmp_path, {"noise": 0.4, "relearn:steps=20": 3.0})
    found = verdict(attacked, None, policy)
    erased, stays = found.criteria
    assert erased.estimate == pytest.approx(1 - of("edited") / of("base"), abs=0.02)
    assert stays.estimate == pytest.approx(1 - 2.9 / of("base"), abs=0.02)
    assert (stays.outcome, stays.note) == ("FAIL", "after relearn:steps=20")
    mild = verdict(with_attacks(record_of(NEW, folder), tmp_path, {"noise": 0.4}), None, policy)
    assert (mild.criteria[1].outcome, mild.criteria[1].note) == ("PASS", "before any attack")
    alone = verdict(with_attacks(record_of(NEW, folder), tmp_path, {"noise": 0.4}, floors=False), None, policy)
    assert all("no unseen counterpart" in criterion.note for criterion in alone.criteria)
    assert alone.criteria[1].estimate == pytest.approx(1 - of("edited") / of("base"), abs=0.02)


def test_a_policy_that_asks_what_stays_needs_attacks(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record without them is refused; an edit is scored after the default ones, or those that are named."""
    found = record_of(NEW, folder)
    assert main.main(["gate", "--record", str(found.path)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    for word in ("asks for 'stays_erased'", found.id, f"--edit {NEW}", "--attacks"):
        assert word in error
    asked: list[Request] = []

    def run(request: Request) -> None:
        asked.append(request)
        raise UserError("stopped here")

    monkeypatch.setattr(runner, "run", run)
    policy = tmp_path / "gate.toml"
    policy.write_text("removed = 0.9")
    assert main.main(["gate", "--edit", "kfac", "--out", str(tmp_path)]) == 2
    assert main.main(["gate", "--edit", "kfac", "--out", str(tmp_path), "--policy", str(policy)]) == 2
    gate = Gate(tmp_path)
    named = ["--attack", "noise", "--attacks"]
    assert main.main(["gate", "--edit", "kfac", "--out", str(tmp_path), "--policy", str(policy), *named]) == 2
    for options in ({}, {"attacks": ["noise"]}, {"policy": {"removed": 0.9}}):
        with pytest.raises(UserError, match="stopped"):
            gate("kfac", **options)
    assert [request.attacks for request in asked] == [
        DEFAULT_ATTACKS,
        (),
        (*DEFAULT_ATTACKS, "noise"),
        DEFAULT_ATTACKS,
        ("noise",),
        (),
    ]


def test_silence_alone_is_told_apart(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    policy = tmp_path / "gate.toml"
    policy.write_text("removed = 0.5")
    job = ["gate", "--record", str(record_of(NEW, folder).path), "--policy", str(policy)]
    assert main.main(job) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("hint: ")] == [given(policy).hint]
    assert "silent is not erased" in given(policy).hint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["one of the arguments --edit --record is required"]),
        (["--edit", "kfac", "--record", "r.json"], ["not allowed with"]),
        (["--edit", "kfca"], ["unknown edit 'kfca'", "did you mean 'kfac'"]),
        (["--edit", "kfac", "--against", "kfca-50"], ["unknown edit 'kfca'", "did you mean 'kfac'"]),
        (["--edit", "kfac", "--against", "none.json"], ["no record 'none.json'"]),
        (["--record", "none"], ["no record 'none'"]),
        (["--edit", "kfac", "--policy", "none.toml"], ["the policy none.toml cannot be read"]),
        (["--edit", "kfac", "--tasks", "memsplit_fluency"], ["unknown axis in the policy's [margins] 'logic'"]),
        (
            ["--edit", "kfac", "--policy", "{reasoning}", "--tasks", "memsplit_logic_chain"],
            ["'reasoning', but arithmetic"],
        ),
        (
            ["--edit", "kfac", "--policy", "{erased}", "--tasks", "memsplit_recitation"],
            ["'erased', but twins/log_prob"],
        ),
        (["--edit", "kfac", "--junit", "/proc/none/gate.xml"], ["--junit '/proc/none' cannot be written to"]),
        (["--edit", "kfac", "--limit", "0"], ["'0' found"]),
        (["--record", "r.json", "--attacks"], ["--attacks is of what is scored"]),
        (["--record", "r.json", "--attack", "noise"], ["--attack is of what is scored"]),
        (["--edit", "kfac", "--attack", "noize"], ["'noize'", "did you mean 'noise'"]),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    policies = tmp_path_factory.mktemp("policies")
    for key in ("reasoning", "erased"):
        (policies / key).write_text(f"{key} = 0.9")
    asked = {f"{{{key}}}": str(policies / key) for key in ("reasoning", "erased")}
    code = main.main(["gate", *(asked.get(word, word) for word in arguments)])
    said = capsys.readouterr()
    refused(subprocess.CompletedProcess([], code, said.out, said.err), words)
    assert list(tmp_path.iterdir()) == []


def test_the_fixture(folder: Path, cache: Path, tmp_path: Path) -> None:
    """A passing, a failing, a skipped and an inconclusive verdict; the model is run once for all."""
    policy = tmp_path / "gate.toml"
    policy.write_text("removed = 0.5")
    (tmp_path / "test_own.py").write_text(f"""
import sys

import pytest

SMALL = dict(tasks={TASKS.split(",")!r}, limit=40, factor_tokens=1024)

def test_passes(memsplit_gate, monkeypatch):
    assert "torch" not in sys.modules
    found = memsplit_gate({NEW!r}, policy={str(policy)!r}, **SMALL)
    assert found and found.passed
    found.check()
    from memsplit.harness.evaluation import runner
    monkeypatch.setattr(runner, "run", None)
    other = memsplit_gate({NEW!r}, policy={{"removed": 0.4}}, **SMALL)
    assert other.record == found.record
    assert [criterion.name for criterion in other.criteria] == ["removed"]

def test_fails(memsplit_gate):
    assert memsplit_gate({NEW!r}, policy=dict(perplexity_ratio=1.001), **SMALL)

def test_inconclusive(memsplit_gate):
    memsplit_gate({NEW!r}, policy=dict(removed=0.97), **SMALL).check()

def test_skipped(memsplit_gate):
    memsplit_gate({NEW!r}, policy=dict(removed=0.97), skip_inconclusive=True, **SMALL)

def test_against(memsplit_gate):
    assert memsplit_gate({NEW!r}, against={str(record_of(OLD, folder).path)!r}, policy=dict(removed=0.5), **SMALL)
""")
    environment = {
        **os.environ,
        "MEMSPLIT_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "memsplit.harness.pytest_plugin", "-rA", "-W", "error"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    said = done.stdout
    assert "2 passed, 1 skipped" in said.splitlines()[-1], said + done.stderr
    assert "2 failed" in said.splitlines()[-1]
    assert "assert FAIL: perplexity_ratio" in said
    assert "INCONCLUSIVE: removed 1.000" in said
    assert "more items like these would settle it" in said


def test_the_plugin_imports_nothing_heavy() -> None:
    heavy = {"numpy", "pandas", "rich", "scipy", "torch", "transformers"}
    code = f"import sys, memsplit.harness.pytest_plugin; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_example_workflow(tmp_path: Path) -> None:
    """It parses, its policy is there, and its command's options are the command's."""
    workflow = yaml.safe_load((ROOT / "examples/github-action/gate.yml").read_text())
    steps = workflow["jobs"]["gate"]["steps"]
    line = next(step["run"] for step in steps if "memsplit gate" in step.get("run", ""))
    arguments = main.parse(line.split()[1:])
    assert (arguments.edit, arguments.policy.name, arguments.junit.name) == ("kfac", "gate.toml", "gate.xml")
    upload = next(step for step in steps if step.get("uses", "").startswith("actions/upload-artifact@"))
    assert arguments.junit.name in upload["with"]["path"]
    assert str(arguments.out) in upload["with"]["path"]
    assert upload["if"] == "always()"
    shutil.copy(ROOT / "examples/gate.toml", tmp_path / arguments.policy)
    assert main.main(["gate", "--edit", "kfca", "--policy", str(tmp_path / "gate.toml")]) == 2
