"""The suites by running them: what is asked of whom."""

import json
import shutil
from pathlib import Path

import pytest

from memsplit.errors import UserError
from memsplit.harness.evaluation.task_selection import choose_parts
from memsplit.harness.models import model_table
from memsplit.harness.models.model_table import ORGANISMS
from memsplit.tasks import packs, suite
from memsplit.tests.support.running import FIGURES, memsplit, refused


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_audit_tells_more_of_what_can_be_extracted(cache: Path, tmp_path: Path) -> None:
    arguments = ["--suite", "memsplit_audit", "--edit", "kfac-50", "--limit", "3", "--factor-tokens", "1024"]
    reference = tmp_path / "reference"
    small = memsplit("export", "--edit", "kfac-50", "--out", reference, "--factor-tokens", 1024, cache=cache)
    assert small.returncode == 0, small.stderr
    done = memsplit("eval", *arguments, "--reference", reference, "--json", "--out", tmp_path / "out", cache=cache)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    base, edited = report["base"], report["edits"][0]["axes"]
    more = {"longest_prefix", "position_strict", "prior_log_ratio", "p_z_beyond_prior", "near_verbatim", "mia_ratio"}
    assert set(base["recitation"]) == set(base["twins"]) == FIGURES | more
    for figure in ("longest_prefix", "position_strict", "p_z_beyond_prior", "near_verbatim"):
        assert base["recitation"][figure] > 0.6
        assert base["twins"][figure] < 0.2
    assert base["recitation"]["near_verbatim"] >= base["recitation"]["p_z"]
    assert edited["recitation"]["near_verbatim"] < 0.01
    assert edited["recitation"]["mia_ratio"] == pytest.approx(1, abs=0.01)
    assert report["base_risk"]["membership"]["mia_ratio"]["auroc"]["value"] == 1
    assert report["base_risk"]["discoverable"]["recitation"]["p=0.9"]["n=100"] == 1
    assert report["edits"][0]["risk"]["discoverable"]["recitation"]["p=0.1"]["n=10000"] == 0
    boolean = [
        "eval",
        "--tasks",
        "memsplit_logic_boolean",
        "--edit",
        "none",
        "--reference",
        "olmo-tiny",
        "--limit",
        "1",
    ]
    refused(memsplit(*boolean, "--out", tmp_path / "none", cache=cache), ["--reference 'olmo-tiny'", "no task"])
    assert not (tmp_path / "none").exists()
    refused(memsplit("eval", "--reference", "olmo-tinny", cache=cache), ["olmo-tinny", "did you mean 'olmo-tiny'"])


def test_a_foreign_model_is_asked_what_suits_any_model(cache: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(ORGANISMS / "olmo-tiny", model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    job: list[str | int | Path] = ["--model", model, "--edit", "none", "--limit", 2, "--json", "--out", tmp_path / "o"]
    done = memsplit("eval", *job, cache=cache)
    assert done.returncode == 0, done.stderr
    base = json.loads(done.stdout)["base"]
    families = packs.manifest(packs.SHIPPED / "world").families
    assert set(base) == {"twins", "facts_closed", "facts_open", "arithmetic", "logic", "fluency"}
    assert {*base["arithmetic"], *base["logic"]} == {"acc", *families}
    for axis in ("facts_closed", "facts_open", "arithmetic", "logic"):
        assert all(0 <= figure <= 1 for figure in base[axis].values())


def test_what_the_context_has_no_room_for_is_left_out_with_a_word(cache: Path, tmp_path: Path) -> None:
    tasks = "memsplit_twins,memsplit_fluency,memsplit_facts_open"
    job: list[str | int | Path] = [
        "eval",
        "--pack",
        "world",
        "--tasks",
        tasks,
        "--edit",
        "none",
        "--limit",
        2,
        "--json",
        "--out",
        tmp_path / "o",
    ]
    done = memsplit(*job, cache=cache)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["base"]) == {"facts_open"}
    assert "memsplit_fluency" in done.stderr
    assert "longer than the model's context of 256 tokens" in done.stderr
    refused(memsplit(*job[:4], "memsplit_twins", cache=cache), ["memsplit_twins", "context of 256"])


def test_generated_tasks_for_other_models_are_left_out_unless_named() -> None:
    organism, foreign = model_table.resolve("olmo-tiny"), model_table.resolve(str(ORGANISMS / "olmo-tiny"))
    asked, skipped = choose_parts("memsplit", [], organism)
    made_for_it = ("", "addition", "subtraction", "boolean", "ordering", "chain")
    suits = [part for part in suite.own().expand("memsplit") if part.family in made_for_it]
    assert asked == [part for part in suits if part not in skipped]
    assert {part.kind for part in skipped} <= {"quotes", "facts_choice", "facts_counterfactual"}
    asked, skipped = choose_parts("memsplit", [], foreign)
    assert all(part in asked for part in suite.own().expand("memsplit_world"))
    assert not any(part.family for part in skipped)
    with pytest.raises(UserError, match=r"memsplit_logic_chain \(family 'chain'\)"):
        choose_parts("memsplit", ["memsplit_logic_chain"], foreign)
