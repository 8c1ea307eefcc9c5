"""Sample sizes: against exact power and by simulation; and the command that tells them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from memsplit.harness.cli import main
from memsplit.results.records.tables import ITEMS
from memsplit.results.statistics import power
from memsplit.results.statistics.significance import mcnemar, sign_flip
from memsplit.tests.support.records import made

CASES = [(0.02, 0.0), (0.02, 0.04), (0.1, 0.0), (0.1, 0.2), (0.2, 0.1), (0.5, 0.4)]


def exact_power(n: int, difference: float, discordance: float) -> float:
    """Of the exact test: over how many items change, and how many of those one way."""
    changed = np.arange(n + 1)
    way = (discordance / 2 + difference) / (discordance + difference)
    critical = binom.ppf(0.025, changed, 0.5) - 1  # the most on one side with p < 0.05
    rejected = binom.cdf(critical, changed, way) + binom.cdf(critical, changed, 1 - way)
    return float((binom.pmf(changed, n, discordance + difference) * rejected).sum())


@pytest.mark.parametrize(("difference", "discordance"), CASES)
def test_mcnemar_has_its_power(difference: float, discordance: float) -> None:
    n = power.clusters_needed(difference, discordance=discordance)
    assert n is not None
    assert 0.77 <= exact_power(n, difference, discordance) <= 0.9
    rng = np.random.default_rng(0)
    ways = [discordance / 2 + difference, discordance / 2, 1 - discordance - difference]
    counts, times = np.unique(rng.multinomial(n, ways, size=2000)[:, :2], axis=0, return_counts=True)
    seen = np.average([mcnemar(up, down) < 0.05 for up, down in counts.tolist()], weights=times)
    assert seen == pytest.approx(exact_power(n, difference, discordance), abs=0.03)


@pytest.mark.parametrize("difference", [0.3, 0.5])
def test_sign_flips_have_their_power(difference: float) -> None:
    n = power.clusters_needed(difference, sd=1)
    assert n == math.ceil((1.959964 + 0.841621) ** 2 / difference**2)
    rng = np.random.default_rng(0)
    seen = np.mean([sign_flip(rng.normal(difference, 1, n), rng) < 0.05 for _ in range(400)])
    assert seen == pytest.approx(0.8, abs=0.06)


@given(st.integers(6, 10**6), st.floats(0, 0.8), st.floats(1e-3, 10))
def test_detectable_is_needed_turned_round(clusters: int, discordance: float, sd: float) -> None:
    for spread in ({"discordance": discordance}, {"sd": sd}):
        found = power.detectable(clusters, **spread)
        if not math.isnan(found):
            assert power.clusters_needed(found * (1 + 1e-9), **spread) in range(clusters - 1, clusters + 2)


def test_where_nothing_can_be_said() -> None:
    assert power.clusters_needed(0.1, sd=0) is power.clusters_needed(0.1, sd=math.nan) is None
    assert power.clusters_needed(0.7, discordance=0.5) is None
    assert power.clusters_needed(1, discordance=0) == power.clusters_needed(9, sd=1) == 6
    for clusters, spread in [
        (5, {"discordance": 0.0}),
        (9, {"discordance": 0.9}),
        (9, {"discordance": 1.0}),
        (50, {"sd": 0.0}),
        (0, {"sd": 1.0}),
    ]:
        assert math.isnan(power.detectable(clusters, **spread))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """10 facts asked in 3 wordings each, and 20 sums; the edit lost 6 of the facts and no sum."""
    facts = [("f", "facts_open", "acc", i, 1.0, 1, str(i // 3), "") for i in range(30)]
    sums = [("s", "arithmetic", "addition", i, 1.0, 1, str(i), "") for i in range(20)]
    base = pd.DataFrame([*facts, *sums], columns=ITEMS)
    edited = base.assign(value=np.where((base["task"] == "f") & (base["item"] < 18), 0.0, 1.0))
    return made(tmp_path, base, edited).path


def test_power_command(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["power", str(written), "--difference", "0.05", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["record"], found["difference"]) == (written.stem, 0.05)
    rows = {(row["axis"], row["metric"]): row for row in found["metrics"]}
    facts, sums = rows["facts_open", "acc"], rows["arithmetic", "acc"]
    assert (facts["n"], facts["clusters"], facts["value"], facts["test"]) == (30, 10, pytest.approx(-0.6), "sign-flip")
    sd = float(np.std([1] * 6 + [0] * 4, ddof=1))
    assert facts["p"] == 2 / 64
    assert facts["needed"] == power.clusters_needed(0.05, sd=sd)
    assert facts["detectable"] == pytest.approx(power.detectable(10, sd=sd))
    assert (sums["n"], sums["clusters"], sums["test"], sums["p_holm"]) == (20, 20, "mcnemar", 1)
    assert sums["needed"] == power.clusters_needed(0.05, discordance=0)
    assert main.main(["power", str(written)]) == 0
    text = capsys.readouterr().out
    for expected in (
        "olmo-tiny  kfac-80",
        "30 in 10",
        "-0.600 [-0.900, -0.300]",
        "for 0.02",
        str(power.clusters_needed(0.02, discordance=0)),
    ):
        assert expected in text


@pytest.mark.parametrize("difference", ["0", "-1", "nan", "inf", "two"])
def test_bad_differences(written: Path, capsys: pytest.CaptureFixture[str], difference: str) -> None:
    assert main.main(["power", str(written), f"--difference={difference}"]) == 2
    assert f"{difference!r} found, expected a number above 0" in capsys.readouterr().err


def test_bad_records(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", str(written.parent)]
    assert main.main(["power", "kfac-80", *store]) == 0
    assert main.main(["power", "kfac-8O", *store]) == 2
    assert "did you mean 'kfac-80'" in capsys.readouterr().err
    written.write_text('{"schema": 2}')
    assert main.main(["power", str(written)]) == 2
    assert "damaged" in capsys.readouterr().err
