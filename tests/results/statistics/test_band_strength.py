"""Relative strengths and correlations against plain resampling and scipy."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, rankdata, spearmanr, zscore

from memsplit.model_edits import bands
from memsplit.results.records.schema import Change, Interval
from memsplit.results.statistics.band_strength import ALL, MEASURES, SKEW, Finding, Measured, correlations, costs
from memsplit.results.statistics.resampling import RESAMPLES

BANDS = ["high", "low"]


@pytest.fixture
def measured() -> Measured:
    """Two layers of one and two matrices; memorized texts come in clusters."""
    rng = np.random.default_rng(0)
    kinds = ["memorized"] * 9 + ["clean"] * 7 + ["sums"] * 5
    clusters = [f"d{k // 2}" for k in range(9)] + [f"c{k}" for k in range(12)]
    texts = pd.DataFrame(
        {"kind": kinds, "text": list(map(str, range(21))), "cluster": clusters, "tokens": rng.integers(1, 9, 21)}
    )
    matrices = pd.DataFrame([("a", 0, "up"), ("b", 1, "up"), ("c", 1, "down")], columns=["name", "layer", "proj"])
    return Measured(texts=texts, matrices=matrices, bands=BANDS, ends=(0, 1), sums=rng.random((21, 3, 2, 3)) * 5)


def row(table: pd.DataFrame, kind: str, layer: int | None, proj: str, band: str, measure: str) -> "pd.Series[float]":
    at = table["layer"].isna() if layer is None else table["layer"] == layer
    chosen = (table["kind"] == kind) & (table["proj"] == proj) & (table["band"] == band)
    (found,) = (one for _, one in table[at & chosen & (table["measure"] == measure)].iterrows())
    return found


def test_relative_strength_is_that_of_plain_resampling(measured: Measured) -> None:
    table = measured.relative("clean", [0, 2], seed=3)
    means = {}
    for kind in ("memorized", "clean"):
        rows = measured.texts[measured.texts["kind"] == kind]
        clusters = list(dict.fromkeys(rows["cluster"]))
        k = len(clusters)
        times = np.random.default_rng([3, *kind.encode()]).multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
        weight = np.array([[1] * len(rows), *([one[clusters.index(c)] for c in rows["cluster"]] for one in times)])
        sums, tokens = measured.sums[rows.index, :, 1, 2], rows["tokens"].to_numpy()
        means[kind] = (weight @ sums) / (weight @ tokens)[:, None]
    ratios = means["memorized"] / means["clean"]
    for layer, proj, places in ((0, "up", [0]), (1, ALL, [1, 2]), (None, ALL, [0, 2])):
        draws = ratios[:, places].prod(axis=1) ** (1 / len(places)) - 1
        found = row(table, "memorized", layer, proj, "low", "share")
        assert found["value"] == pytest.approx(draws[0])
        assert [found["low"], found["high"]] == pytest.approx(np.percentile(draws[1:], [2.5, 97.5]))
        assert (found["texts"], found["clusters"]) == (9, 5)
    assert set(table["kind"]) == {"memorized", "sums"}
    low, high, skew = (row(table, "sums", 1, "down", band, "read")["value"] + 1 for band in (*BANDS[::-1], SKEW))
    assert skew == pytest.approx(low / high)


def test_resamples_without_a_value_are_left_out(measured: Measured) -> None:
    """Where the text that gives a band its strength is not drawn, both bands of the ratio may be 0."""
    sums = measured.sums.copy()
    of_clean = measured.texts.index[measured.texts["kind"] == "clean"]
    sums[of_clean[1:], 0] = 0  # of seven, and each is a cluster: a third of the resamples leave it out
    found = dataclasses.replace(measured, sums=sums).relative("memorized", [0], seed=3)
    one = row(found, "clean", 0, "up", SKEW, "read")
    times = np.random.default_rng([3, *b"clean"]).multinomial(7, np.full(7, 1 / 7), size=RESAMPLES)
    assert 0.2 < (times[:, 0] == 0).mean() < 0.5
    base = row(measured.relative("clean", [0], seed=3), "memorized", 0, "up", SKEW, "read")
    assert np.isfinite([base["low"], base["high"], one["low"], one["high"]]).all()
    assert one["low"] < one["value"] < one["high"]
    sums[of_clean[0], 0] = 0
    none = row(
        dataclasses.replace(measured, sums=sums).relative("memorized", [0], seed=3), "clean", 0, "up", SKEW, "read"
    )
    assert none[["value", "low", "high"]].isna().all()


def test_tidy_rows_are_means_over_tokens(measured: Measured) -> None:
    tidy = measured.tidy()
    assert len(tidy) == 21 * 3 * 2
    one = tidy[(tidy["text"] == "4") & (tidy["layer"] == 1) & (tidy["proj"] == "down") & (tidy["band"] == "low")]
    expected = measured.sums[4, 2, 1] / measured.texts["tokens"][4]
    assert one[list(MEASURES)].to_numpy()[0] == pytest.approx(expected)


def test_a_kind_alone_has_the_same_strengths(measured: Measured) -> None:
    whole = measured.relative("clean", [0])
    alone = measured.only(["sums", "clean"]).relative("clean", [0])
    pd.testing.assert_frame_equal(whole[whole["kind"] == "sums"].reset_index(drop=True), alone)


@pytest.mark.parametrize(
    ("bottom", "top", "verdict"),
    [
        ((0.2, 0.1, 0.3), (-0.2, -0.3, -0.1), "holds"),
        ((0.2, 0.1, 0.3), (0.0, -0.1, 0.1), "half holds: low curvature more"),
        ((0.2, 0.1, 0.3), (0.2, 0.1, 0.3), "half holds: low curvature more"),
        ((0.0, -0.1, 0.3), (-0.2, -0.3, -0.1), "half holds: high curvature less"),
        ((0.0, -0.1, 0.3), (0.0, -0.3, 0.1), "does not hold"),
        ((-0.2, -0.3, -0.1), (0.2, 0.1, 0.3), "is reversed"),
        ((0.2, math.nan, math.nan), (-0.2, -0.3, -0.1), "is not known"),
        ((0.2, 0.1, 0.3), (-0.2, -0.3, math.nan), "is not known"),
    ],
)
def test_verdicts(bottom: tuple[float, float, float], top: tuple[float, float, float], verdict: str) -> None:
    found = Finding(layer=0, proj="up", bottom=bottom, top=top, ordered=True)
    assert found.verdict == verdict


@pytest.mark.parametrize("n", [3, 6, 8])
def test_correlations_are_scipys(n: int) -> None:
    rng = np.random.default_rng(n)
    kinds = [f"k{i}" for i in range(n)]
    x = {band: rng.random(n) for band in BANDS}
    cost = dict(zip(kinds, rng.random(n) + x["low"], strict=True))
    rows = [
        {"kind": kind, "layer": None, "band": band, "measure": "read", "value": x[band][i]}
        for i, kind in enumerate(kinds)
        for band in BANDS
    ]
    table = pd.DataFrame([*rows, {**rows[0], "kind": "other"}, {**rows[0], "layer": 1}])
    table = pd.concat([table.assign(measure=measure) for measure in MEASURES]).astype({"layer": "Int64"})
    found = correlations(table, cost).set_index(["measure", "band"])
    logs = {band: np.log1p(x[band]) for band in BANDS}
    y = np.array(list(cost.values()))
    assert len(found) == len(MEASURES) * len(BANDS)
    for band, values in logs.items():
        one = found.loc["read", band]
        assert one["n"] == n
        assert one["pearson"] == pytest.approx(pearsonr(values, y).statistic)
        assert one["spearman"] == pytest.approx(spearmanr(values, y).statistic)
        for v, w, p in ((values, y, one["pearson_p"]), (rankdata(values), rankdata(y), one["spearman_p"])):
            all_r = np.abs(zscore(np.array(list(itertools.permutations(w))), axis=1) @ zscore(v)) / n
            expected = (all_r >= abs(pearsonr(v, w).statistic) - 1e-9).mean()
            assert p == pytest.approx(expected, abs=0.02 if n == 8 else 1e-9)


def test_too_few_kinds_have_no_correlation(measured: Measured) -> None:
    found = correlations(measured.relative("clean", [0]), {"memorized": 1.0, "sums": 0.5})
    assert found["pearson"].isna().all()
    assert (found["n"] == 2).all()
    assert correlations(measured.relative("clean", [0]), {}).empty


def change(normalized: Interval | None) -> Change:
    numbers = dict.fromkeys(("value", "low", "high", "base", "edited", "p", "p_holm", "detectable"), 0.0)
    return Change(**numbers, n=1, clusters=1, normalized=normalized, test="mcnemar")


def test_costs() -> None:
    changes = {
        ("logic", "boolean"): change(Interval(value=0.75, low=0.5, high=1)),
        ("twins", "strict"): change(Interval(value=math.nan, low=math.nan, high=math.nan)),
        ("fluency", "perplexity"): change(None),
    }
    rates = {
        "boolean": ("logic", "boolean"),
        "twins": ("twins", "strict"),
        "clean": ("fluency", "perplexity"),
        "x": ("y", "z"),
    }
    assert costs(changes, rates) == {"boolean": 0.25}


def test_measures_are_those_of_a_strength() -> None:
    assert bands.Strength._fields == MEASURES
