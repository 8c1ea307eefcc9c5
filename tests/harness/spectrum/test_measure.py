"""``memsplit spectrum`` on the organism: its files, its figures against the model's own inputs, and what it refuses."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from memsplit.errors import UserError
from memsplit.harness.evaluation import runner
from memsplit.harness.evaluation.request import Request
from memsplit.harness.models.loading import LoadedModel
from memsplit.harness.spectrum import measure as spectrum
from memsplit.harness.spectrum import report as spectrum_report
from memsplit.model_edits.bands import BOTTOM_HALF
from memsplit.model_edits.curvature.store import FactorStore
from memsplit.results.records import record
from memsplit.results.records.tables import ITEMS
from memsplit.results.views import spectrum_charts as charts
from memsplit.tasks import packs

from ...conftest import SMALL
from ...support.browsing import Opened, check_page
from ...support.records import made as recorded
from ...support.running import in_process, refused

TABLES = ("matrices", "curves", "strengths", "relative", "costs", "correlations")
TASKS = "memsplit_recitation,memsplit_facts_closed,memsplit_arithmetic_addition,memsplit_logic_chain"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """The command run once: its cache, its folder, and what it printed."""
    tmp = tmp_path_factory.mktemp("spectrum")
    settings = ("--factor-tokens", SMALL, "--limit", 8, "--layers", "2-3", "--tasks", TASKS, "--edit", "kfac")
    done = in_process("spectrum", *settings, "--out", tmp / "out", "--json", cache=tmp / "cache")
    assert done.returncode == 0, done.stderr
    return tmp / "cache", tmp / "out", json.loads(done.stdout)


@pytest.fixture(scope="module")
def tables(made: tuple[Path, Path, dict[str, Any]]) -> dict[str, pd.DataFrame]:
    return {name: pd.read_parquet(made[1] / f"{name}.parquet") for name in TABLES}


def test_files_are_whole(made: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, printed = made
    figures = {"mass", "bands", "bands_twins", "kinds", "cost"}
    expected = {f"{name}.{kind}" for name in figures for kind in ("svg", "png")}
    expected |= {"spectrum.html", "spectrum.json", *(f"{name}.parquet" for name in TABLES)}
    assert {path.name for path in out.iterdir()} == expected
    assert json.loads((out / "spectrum.json").read_text()) == printed
    for name in figures:
        assert (out / f"{name}.svg").read_text().startswith("<svg")
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_charts_and_asks_for_nothing(made: tuple[Path, Path, dict[str, Any]], browser: Any) -> None:
    path = made[1] / "spectrum.html"
    check_page(browser, path, charts=3 + 4 + 4 + 1 + 2)
    opened = Opened(browser, path)
    assert "layer 3: the finding holds" in opened.tab.locator("main").inner_text()
    opened.tab.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true; })")
    assert opened.tab.locator("details").nth(1).locator("tbody tr").count() == 2 * 4
    opened.tab.close()


def test_names_on_the_page_are_no_markup_and_old_pictures_go(
    tables: dict[str, pd.DataFrame], browser: Any, tmp_path: Path
) -> None:
    hostile = "<!--<script>alert(1)</script><img src=x onerror=alert(2)>"
    own = tmp_path / "own.svg"
    for path in (own, *(tmp_path / f"{name}.{kind}" for name in charts.FIGURES for kind in ("svg", "png"))):
        path.touch()
    table = tables["costs"].replace({"kind": {"memorized": hostile}})
    written = charts.write(tmp_path, {"cost": charts.cost(table, hostile)}, hostile, [hostile])
    assert [path.name for path in written] == ["spectrum.html", "cost.svg", "cost.png"]
    assert {*tmp_path.iterdir()} == {*written, own}
    check_page(browser, written[0], charts=2)
    opened = Opened(browser, written[0])
    assert [opened.tab.title(), opened.tab.locator("main p").inner_text()] == [hostile, hostile]
    assert opened.tab.locator("img").count() == 0
    assert opened.said == []
    opened.tab.close()


def test_an_interval_that_is_not_finite_is_not_drawn(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["costs"].assign(high=math.inf)
    (band, *_), panel = charts.cost(table, "t").panels.keys(), next(iter(charts.cost(table, "t").on_page()))[1]
    (rows,) = panel["datasets"].values()
    assert {row["low"] for row in rows} == {row["high"] for row in rows} == {None}
    assert {row["band"] for row in rows} == {band}


def test_what_is_counted(tables: dict[str, pd.DataFrame]) -> None:
    texts = tables["strengths"].drop_duplicates(["kind", "text"]).groupby("kind")["tokens"].agg(["size", "min", "max"])
    assert texts.loc["memorized"].tolist() == texts.loc["twins"].tolist() == texts.loc["clean"].tolist() == [8, 48, 48]
    assert set(texts.index) == {
        *("memorized", "twins", "clean"),
        *("memsplit_facts_closed", "memsplit_arithmetic_addition", "memsplit_logic_chain"),
    }
    assert texts.loc["memsplit_facts_closed"].tolist() == [8, 1, 1]
    assert texts.loc["memsplit_arithmetic_addition", "max"] <= 3
    assert len(tables["strengths"]) == 6 * 8 * 6 * 14
    assert set(tables["strengths"]["layer"]) == {2, 3}


def test_the_summary_is_of_the_tables(made: tuple[Path, Path, dict[str, Any]], tables: dict[str, pd.DataFrame]) -> None:
    printed, relative = made[2], tables["relative"]
    found = {(one["layer"], one["proj"]): one for one in printed["findings"]["read"]["clean"]}
    assert list(found) == [(layer, proj) for layer in (2, 3) for proj in ("gate", "up", "down", "all")]
    rows = relative[(relative["kind"] == "memorized") & (relative["against"] == "clean") & (relative["layer"] == 3)]
    one = rows[(rows["proj"] == "down") & (rows["measure"] == "read") & (rows["band"] == BOTTOM_HALF.name)].iloc[0]
    assert found[3, "down"]["bottom"] == pytest.approx([one["value"], one["low"], one["high"]])
    assert found[3, "all"]["verdict"] == "holds"
    assert set(printed["cost"]) == {"memorized", *(task for task in TASKS.split(",") if "recitation" not in task)}
    assert printed["cost"]["memorized"] == 1
    assert printed["edit"] == "kfac-80:layers=1-3,proj=gate+up"
    assert printed["together"] == [
        f"model.layers.{layer}.mlp.{proj}_proj" for layer in (2, 3) for proj in ("gate", "up")
    ]
    assert tables["costs"].set_index("kind")["cost"].to_dict() == pytest.approx(printed["cost"])
    assert (tables["correlations"]["n"] == 4).all()


@pytest.mark.parametrize("everywhere", [False, True])
def test_strengths_are_of_the_models_own_inputs(
    everywhere: bool,
    made: tuple[Path, Path, dict[str, Any]],
    organism: LoadedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one passage, from the projection's input at each place, one place and band at a time."""
    monkeypatch.setenv("MEMSPLIT_CACHE", str(made[0]))
    asked = Request(model="olmo-tiny", edits=[], limit=2, factor_tokens=SMALL, tasks=["memsplit_twins"])
    report = spectrum.run(
        spectrum.SpectrumRequest(evaluation=asked, layers=(3,), proj=("down",), everywhere=everywhere)
    )
    passage = packs.find("olmo-tiny").rows("memorized", "test")[1]
    name = "model.layers.3.mlp.down_proj"
    kept: dict[str, torch.Tensor] = {}
    hook = organism.model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.update(a=i[0][0], y=o[0]))
    with torch.inference_mode():
        organism.model(torch.tensor([passage["prefix_ids"] + passage["suffix_ids"]]))
    hook.remove()
    factors = FactorStore(made[0] / "factors").load(report.about["curvature"], name)
    basis = factors.eigenbasis
    value_n, place_n = (basis.lam_o[:, None].double() * basis.mu_i.double()).flatten().sort(descending=True)
    mask = torch.zeros(len(value_n), dtype=torch.bool)
    mask[place_n[len(value_n) // 2 :]] = True
    mask = mask.reshape(len(factors.ggT), -1)
    weight = organism.model.get_parameter(f"{name}.weight").detach()
    part = basis.U_oo @ (basis.U_oo.T @ weight @ basis.V_ii * mask) @ basis.V_ii.T
    places = range(0 if everywhere else 63, 111)
    components = mask.sum(0).float()
    read = [float((basis.V_ii.T @ kept["a"][t]).abs() @ components / components.sum()) for t in places]
    write = [float((part @ kept["a"][t]).norm()) for t in places]
    share = [(w / float(kept["y"][t].norm())) ** 2 for w, t in zip(write, places, strict=True)]
    rows = report.strengths
    one = rows[(rows["text"] == passage["id"]) & (rows["band"] == BOTTOM_HALF.name)].iloc[0]
    assert one["tokens"] == len(places)
    for measure, values in (("read", read), ("write", write), ("share", share)):
        assert one[measure] == pytest.approx(sum(values) / len(values), rel=1e-3), measure


def test_a_record_tells_the_same_cost(
    made: tuple[Path, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(made[0]))
    asked = Request(
        model="olmo-tiny", edits=["kfac"], limit=8, factor_tokens=SMALL, tasks=TASKS.split(","), out=tmp_path
    )
    (written,) = runner.run(asked).records
    told, asked_again = record.read(written.path), dataclasses.replace(asked, edits=[])
    report = spectrum.run(spectrum.SpectrumRequest(evaluation=asked_again, layers=(1, 2), proj=("up",), record=told))
    assert report.cost == pytest.approx(made[2]["cost"])
    assert report.about["edit"] == made[2]["edit"]
    assert report.about["together"] == report.about["changed"] == [f"model.layers.{n}.mlp.up_proj" for n in (1, 2)]
    assert report.about["cost_of"] == {
        "source": f"record {told.id}",
        "items": {kind: told.content.tasks[kind].n if kind in told.content.tasks else 8 for kind in report.cost},
    }
    assert all(line.split(":")[0] != "no correlation with it" for line in spectrum_report.cost_lines(report, "read"))
    said = "left out, longer than the model's context: 1 of twins, 2 of a"
    assert (report.about["left_out"], said in spectrum_report.lines(report, "read")) == ({}, False)
    report.about["left_out"] = {"twins": 1, "a": 2}
    assert said in spectrum_report.lines(report, "read")


def test_an_edit_of_other_matrices_has_no_correlation(made: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = ("--factor-tokens", SMALL, "--limit", 8, "--layers", "0", "--proj", "up", "--tasks", TASKS)
    done = in_process("spectrum", *settings, "--edit", "kfac", "--out", out, cache=made[0])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "cost of kfac-80:layers=1-3,proj=gate+up: of 32 items of 4 kinds (scored in this run)" in lines
    assert "no correlation with it: none of the matrices that the edit changes is among those looked at" in lines
    assert not any("Spearman" in line for line in lines)
    assert json.loads((out / "spectrum.json").read_text())["correlations"] == []
    assert not (out / "cost.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layers", "x"], ["'x'", "0+2-3"]),
        (["--layers", "4"], ["layer 4", "0-3"]),
        (["--proj", "gaet"], ["'gaet'", "'gate'"]),
        (["--measure", "reed"], ["'reed'", "'read'"]),
        (["--positions", "al"], ["'al'", "'all'"]),
        (["--tasks", "memsplit_logic"], ["memsplit_logic"]),
        (["--split", "tset"], ["'tset'", "'test'"]),
        (["--edit", "kfca"], ["'kfca'", "'kfac'"]),
        (["--edit", "kfac", "--record", "r.json"], ["--edit", "--record"]),
        (["--record", "none.json"], ["none.json"]),
        (["--pack", "world"], ["'world'", "memorized.jsonl", "--pack"]),
    ],
)
def test_refused(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    done = in_process("spectrum", *arguments, "--out", tmp_path / "out", cache=tmp_path / "cache")
    refused(done, words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "asked", "words"),
    [
        ({"weights": "0" * 64}, {}, "other weights"),
        (
            {"suite": "memsplit_paper"},
            {},
            "of the suite 'memsplit_paper', not 'memsplit': expected --suite memsplit_paper",
        ),
        ({}, {"split": "dev"}, "of the split 'test', not 'dev': expected --split test"),
        ({}, {"pack": "olmo-tiny+world"}, "of the pack 'olmo-tiny', not 'olmo-tiny.world': expected --pack olmo-tiny"),
        ({"arguments": {"split": "test", "seed": 0, "pack": "/packs/own"}}, {}, "of the pack 'own', not 'olmo-tiny'"),
    ],
)
def test_a_record_of_other_items_or_weights_is_refused(
    changed: dict[str, Any], asked: dict[str, Any], words: str, tmp_path: Path
) -> None:
    items = pd.DataFrame([("t", "logic", "acc", 0, 1.0, 1, "0", "")], columns=ITEMS)
    of_it = recorded(tmp_path, items, items, **changed)
    evaluation = Request(model="olmo-tiny", edits=[], limit=1, factor_tokens=SMALL, tasks=["memsplit_twins"], **asked)
    with pytest.raises(UserError, match=words):
        spectrum.run(spectrum.SpectrumRequest(evaluation=evaluation, layers=(0,), record=of_it))
