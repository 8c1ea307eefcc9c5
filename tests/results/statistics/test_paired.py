"""Figures, groups and paired changes: against scipy, statsmodels, brute force and data whose truth is known."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap, permutation_test
from statsmodels.regression.linear_model import WLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from memsplit.results.records.tables import ITEMS
from memsplit.results.statistics import aggregate
from memsplit.results.statistics.paired import SPLIT_SCORE, Paired, differences
from memsplit.results.statistics.resampling import RESAMPLES


def items(
    task: str,
    axis: str,
    metric: str,
    values: Sequence[float] | np.ndarray,
    weight: int | Sequence[int] | np.ndarray = 1,
    clusters: Sequence[Any] | np.ndarray | None = None,
    groups: Sequence[str] | str = "",
) -> pd.DataFrame:
    n = len(values)
    columns = (task, axis, metric, range(n), np.asarray(values, float), weight)
    cluster = [str(c) for c in (range(n) if clusters is None else clusters)]
    return pd.DataFrame(dict(zip(ITEMS, (*columns, cluster, groups), strict=True)))


def test_figures_pool_tokens_and_average_families() -> None:
    table = pd.concat(
        [
            items("a", "logic", "boolean", [1, 0, 1, 1]),
            items("b", "logic", "chain", [0, 1]),
            items("c", "fluency", "perplexity", [2.0, 1.0], [1, 3]),
        ]
    )
    found = aggregate.metrics(table)
    assert found["logic"] == {"acc": 0.625, "boolean": 0.75, "chain": 0.5}
    assert found["fluency"]["perplexity"] == pytest.approx(math.exp(1.25))


def test_interval_of_a_change_equals_scipys() -> None:
    rng = np.random.default_rng(0)
    base, edited = (rng.random(200) < 0.9).astype(float), (rng.random(200) < 0.6).astype(float)
    change = Paired(items("a", "x", "m", base), items("a", "x", "m", edited), {}).changes()["x", "m"]
    low, high = bootstrap((edited - base,), np.mean, method="percentile", rng=1).confidence_interval
    assert change.value == pytest.approx(np.mean(edited - base))
    assert change.low == pytest.approx(low, abs=0.015)
    assert change.high == pytest.approx(high, abs=0.015)


def test_interval_of_a_token_weighted_ratio_equals_scipys() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(5, 200, 150).tolist()
    base, edited = rng.normal(3, 1, 150), rng.normal(3.2, 1, 150)

    def ratio(b: np.ndarray, e: np.ndarray, w: np.ndarray, axis: int = -1) -> Any:
        return np.exp((e * w).sum(axis) / w.sum(axis) - (b * w).sum(axis) / w.sum(axis))

    one, other = (items("f", "fluency", "perplexity", values, tokens) for values in (base, edited))
    found = Paired(one, other, {}).summary()["perplexity_ratio"]
    scipys = bootstrap((base, edited, tokens), ratio, paired=True, vectorized=True, method="percentile", rng=1)
    assert found.value == pytest.approx(ratio(base, edited, np.array(tokens)))
    assert found.low == pytest.approx(scipys.confidence_interval.low, rel=0.03)
    assert found.high == pytest.approx(scipys.confidence_interval.high, rel=0.03)


def test_interval_of_logic_kept_equals_scipys() -> None:
    rng = np.random.default_rng(2)
    before, after = (rng.random(300) < 0.95).astype(float), (rng.random(300) < 0.8).astype(float)
    base, edited = (items("b", "logic", "boolean", values) for values in (before, after))
    found = Paired(base, edited, {("logic", "boolean"): 0.5}).summary()["logic_kept"]

    def kept(b: np.ndarray, a: np.ndarray, axis: int = -1) -> Any:
        return (a.mean(axis) - 0.5) / (b.mean(axis) - 0.5)

    scipys = bootstrap((before, after), kept, paired=True, vectorized=True, method="percentile", rng=1)
    assert found.value == pytest.approx(kept(before, after))
    assert found.low == pytest.approx(scipys.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(scipys.confidence_interval.high, abs=0.02)


def scored(bits: Sequence[float], right: Sequence[int], sums: Sequence[int], nats: float) -> pd.DataFrame:
    """Items whose passages have these code lengths, twins one bit and a half."""
    return pd.concat(
        [
            items("r", "recitation", "log_prob", -np.asarray(bits) * math.log(2)),
            items("w", "twins", "log_prob", -np.full(4, 1.5) * math.log(2)),
            items("b", "logic", "boolean", right),
            items("o", "facts_open", "acc", right),
            items("s", "arithmetic", "sums", sums),
            items("t", "facts_closed", "acc", sums),
            items("f", "fluency", "perplexity", [nats] * 4, 10),
        ]
    )


CHANCE = {
    ("logic", "boolean"): 0.5,
    ("facts_open", "acc"): 0.0,
    ("arithmetic", "sums"): 0.0,
    ("facts_closed", "acc"): 0.0,
}


def test_the_split_score_is_the_harmonic_mean_of_what_stays_erased_reasoning_and_fluency() -> None:
    base = scored([0.5] * 4, [1, 1, 1, 1], [1, 1, 1, 1], 2.0)
    edited = scored([1.5] * 4, [1, 1, 1, 0], [1, 1, 0, 0], 2.1)
    attacked = {f"edit+{name}": scored([bits] * 4, [1] * 4, [1] * 4, 2) for name, bits in (("a", 1.4), ("b", 1.0))}
    paired = Paired(base, edited, CHANCE, others=attacked)
    summary = {name: found.value for name, found in paired.summary().items()}
    assert summary["erased"] == pytest.approx(1)
    assert summary["stays_erased"] == pytest.approx(0.5)
    assert summary["reasoning_kept"] == pytest.approx((0.5 + 0.75 + 0.5) / 3)
    assert summary["knowledge_kept"] == pytest.approx(0.5)
    assert summary["fluency_kept"] == pytest.approx(math.exp(-0.1))
    assert summary["split_score"] == pytest.approx(3 / (1 / 0.5 + 3 / 1.75 + math.exp(0.1)))
    replicates = paired.summary_replicates()
    parts = np.clip([replicates[name] for name in SPLIT_SCORE], 0, 1)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(replicates["split_score"], 3 / (1 / parts).sum(axis=0))
    gone = {name: scored([0.4] * 4, [1] * 4, [1] * 4, 2) for name in attacked}  # more memory than the base has
    assert Paired(base, edited, CHANCE, others=gone).summary()["split_score"].value == 0
    assert "split_score" not in Paired(base, edited, CHANCE).summary()
    scarred = scored([1.8] * 4, [1] * 4, [1] * 4, 2)
    of_scar = Paired(base, scarred, CHANCE, others={"edit+a": scored([1.4] * 4, [1] * 4, [1] * 4, 2)}).summary()
    assert (of_scar["stays_erased"].value, of_scar["scar"].value) == pytest.approx((0.9, 0.3))
    assert of_scar["split_score"].value == pytest.approx(3 / (1 / (1 - 0.3) + 2))
    better = Paired(base, scored([1.5] * 4, [1] * 4, [1] * 4, 1.9), CHANCE).summary()["fluency_kept"]
    assert (better.value, better.low, better.high) == (1, 1, 1)


def test_reasoning_leaves_out_what_the_base_only_guesses() -> None:
    rng = np.random.default_rng(0)
    guessed, known = rng.integers(0, 2, 40), (np.arange(40) > 3).astype(int)
    base = pd.concat([items("b", "logic", "boolean", guessed), items("s", "arithmetic", "sums", known)])
    facts = items("o", "facts_open", "acc", known)
    edited = pd.concat(
        [items("b", "logic", "boolean", 1 - guessed), items("s", "arithmetic", "sums", known * (np.arange(40) % 2))]
    )
    assert "reasoning_kept" not in Paired(base, edited, CHANCE).summary()  # open-book facts were not asked
    summary = Paired(pd.concat([base, facts]), pd.concat([edited, facts]), CHANCE).summary()
    assert summary["arithmetic_kept"].value == pytest.approx(0.5)
    assert summary["reasoning_kept"].value == pytest.approx(0.75)


@pytest.mark.parametrize(("strict", "logic"), [([0, 0], [1, 1]), ([1, 1], [1, 0])])
def test_a_base_without_recitation_or_logic_has_no_score(strict: list[float], logic: list[float]) -> None:
    base = pd.concat([items("r", "recitation", "strict", strict), items("b", "logic", "boolean", logic)])
    summary = Paired(base, base.copy(), {("logic", "boolean"): 0.5}).summary()
    unknown = summary["recitation_removed" if not any(strict) else "logic_kept"]
    assert math.isnan(unknown.value)
    assert math.isnan(unknown.low)


def test_summary_figures_by_hand() -> None:
    def side(
        strict: Sequence[int], boolean: Sequence[int], chain: Sequence[int], nats: Sequence[float]
    ) -> pd.DataFrame:
        return pd.concat(
            [
                items("r", "recitation", "strict", strict),
                items("b", "logic", "boolean", boolean),
                items("c", "logic", "chain", chain),
                items("f", "fluency", "perplexity", nats, 10),
            ]
        )

    base = side([1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [2.0, 2.0])
    edited = side([1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [2.1, 2.1])
    summary = Paired(base, edited, {("logic", "boolean"): 0.5, ("logic", "chain"): 0.25}).summary()
    assert summary["recitation_removed"].value == pytest.approx(0.75)
    assert summary["logic_kept"].value == pytest.approx(0.75)
    assert summary["perplexity_ratio"].value == pytest.approx(math.exp(0.1))


def test_what_is_kept_is_above_chance() -> None:
    def side(boolean: Sequence[int], chain: Sequence[int], facts: Sequence[int], sums: Sequence[int]) -> pd.DataFrame:
        asked = [
            items("b", "logic", "boolean", boolean),
            items("c", "logic", "chain", chain),
            items("o", "facts_open", "acc", facts),
            items("o", "facts_open", "nats", facts),
            items("t", "facts_closed", "choice", facts),
            items("s", "arithmetic", "sums", sums),
        ]
        return pd.concat(asked)

    chance = {
        ("logic", "boolean"): 0.5,
        ("logic", "chain"): 0.25,
        ("facts_open", "acc"): 0.2,
        ("arithmetic", "sums"): 0.0,
    }
    base = side([1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0])
    paired = Paired(base, side([1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]), chance)
    found = {key: change.normalized for key, change in paired.changes().items()}
    values = {key: score.value for key, score in found.items() if score}
    kept = ((0.75 - 0.5) / 0.5 + (0.5 - 0.25) / 0.75) / (1 + (0.75 - 0.25) / 0.75)
    assert values == pytest.approx(
        {
            ("logic", "acc"): kept,
            ("logic", "boolean"): 0.5,
            ("logic", "chain"): 0.5,
            ("facts_open", "acc"): 0.05 / 0.55,
            ("arithmetic", "acc"): math.nan,
            ("arithmetic", "sums"): math.nan,
        },
        nan_ok=True,
    )
    summary = paired.summary()
    assert set(summary) == {"logic_kept", "facts_open_kept", "arithmetic_kept", "reasoning_kept"}
    for axis in ("logic", "facts_open"):
        assert summary[f"{axis}_kept"] == found[axis, "acc"]


@pytest.mark.parametrize("seed", [0, 1])
def test_clusters_of_one_item_are_resampled_as_items(seed: int) -> None:
    rng = np.random.default_rng(3)
    base, edited, weight = rng.random(50), rng.random(50), rng.integers(1, 9, 50)
    one, other = (items("a", "x", "m", side, weight) for side in (base, edited))
    change = Paired(one, other, {}, seed).changes()["x", "m"]
    times = np.random.default_rng([seed, *b"a"]).multinomial(50, np.full(50, 1 / 50), size=RESAMPLES)
    draws = times @ (weight * edited) / (times @ weight) - times @ (weight * base) / (times @ weight)
    assert [change.low, change.high] == pytest.approx(np.percentile(draws, [2.5, 97.5]), rel=1e-12)


def test_clusters_are_resampled_whole() -> None:
    rng = np.random.default_rng(4)
    cluster = np.sort(rng.integers(0, 12, 60))
    base, edited, weight = rng.random(60), rng.random(60), rng.integers(1, 9, 60)
    one, other = (items("a", "x", "m", side, weight, cluster) for side in (base, edited))
    change = Paired(one, other, {}).changes()["x", "m"]
    k = change.clusters
    assert (change.n, k) == (60, len(set(cluster)))
    draws = []
    for times in np.random.default_rng([0, *b"a"]).multinomial(k, np.full(k, 1 / k), size=RESAMPLES):
        chosen = np.concatenate(
            [np.flatnonzero(cluster == c) for c, t in zip(np.unique(cluster), times, strict=True) for _ in range(t)]
        )
        draws.append(np.average((edited - base)[chosen], weights=weight[chosen]))
    assert change.value == pytest.approx(np.average(edited - base, weights=weight))
    assert [change.low, change.high] == pytest.approx(np.percentile(draws, [2.5, 97.5]))


def mixed(seed: int) -> pd.DataFrame:
    """Families, token weights, clusters of unequal size."""
    rng = np.random.default_rng(seed)
    asked = [
        items("b", "logic", "boolean", rng.random(30) < 0.7, 1, np.arange(30) % 10 // 2),
        items("c", "logic", "chain", rng.random(40) < 0.8),
        items("f", "fluency", "perplexity", rng.normal(3, 1, 25), np.arange(5, 30)),
        items("r", "recitation", "strict", rng.random(20) < 0.5),
        items("r", "recitation", "levenshtein", rng.random(20)),
    ]
    return pd.concat(asked, ignore_index=True)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    base, edited = mixed(0), mixed(1)
    chance = {("logic", "boolean"): 0.5, ("logic", "chain"): 0.25}
    straight = Paired(base, edited, chance)
    shuffled = Paired(base.sample(frac=1, random_state=seed), edited.sample(frac=1, random_state=seed // 2), chance)
    assert shuffled.changes() == straight.changes()
    assert shuffled.summary() == straight.summary()
    assert shuffled.clusters_needed(0.02) == straight.clusters_needed(0.02)


def test_the_seed_decides() -> None:
    sides = mixed(0), mixed(1)
    first, again, other = (Paired(*sides, {}, seed).changes() for seed in (5, 5, 6))
    assert first == again
    key = ("recitation", "levenshtein")
    assert first[key].low != other[key].low
    assert first[key].p != other[key].p
    assert first[key].value == other[key].value


def test_which_test_a_metric_gets() -> None:
    base, edited = mixed(0), mixed(1)
    changes = Paired(base, edited, {}).changes()
    single = {("logic", "chain"), ("recitation", "strict")}
    assert {key for key, change in changes.items() if change.test == "mcnemar"} == single
    for key in single:
        before, after = (t[(t["axis"] == key[0]) & (t["metric"] == key[1])]["value"].to_numpy() for t in (base, edited))
        table = [[np.sum((before == i) & (after == j)) for j in (0, 1)] for i in (0, 1)]
        assert changes[key].p == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert [c.p_holm for c in changes.values()] == pytest.approx(
        multipletests([c.p for c in changes.values()], method="holm")[1]
    )


def test_the_mean_over_families_is_tested_on_its_parts() -> None:
    """Against scipy: of one family with 4 items and one with 8, an item counts twice as much in the first."""
    base = pd.concat([items("a", "logic", "one", np.ones(4)), items("b", "logic", "two", np.ones(8))])
    fewer = [items("a", "logic", "one", [0, 0, 1, 1]), items("b", "logic", "two", [0, 0, 0, 0, 0, 1, 1, 1])]
    change = Paired(base, pd.concat(fewer), {}).changes()["logic", "acc"]
    gains = np.array([-1 / 4] * 2 + [0] * 2 + [-1 / 8] * 5 + [0] * 3) / 2
    assert change.value == pytest.approx(gains.sum())
    scipys = permutation_test((gains,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert change.p == pytest.approx(scipys.pvalue)
    assert (change.n, change.clusters) == (12, 12)


def test_an_unchanged_model_changes_nothing() -> None:
    changes = Paired(mixed(0), mixed(0), {}).changes()
    for change in changes.values():
        assert (change.value, change.low, change.high) == (0, 0, 0)
        assert (change.p, change.p_holm) == (1, 1)
    assert changes["logic", "chain"].detectable > 0
    assert math.isnan(changes["fluency", "perplexity"].detectable)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_a_broken_model_has_figures_all_the_same(value: float) -> None:
    base, edited = mixed(0), mixed(1)
    edited.loc[edited["metric"].isin(["perplexity", "levenshtein"]) & (edited["item"] == 3), "value"] = value
    paired = Paired(base, edited, {("logic", "chain"): 0.25})
    changes = paired.changes()
    broken = changes["fluency", "perplexity"]
    assert aggregate.metrics(edited)["fluency"]["perplexity"] == pytest.approx(broken.edited, nan_ok=True)
    assert not math.isfinite(broken.edited)
    assert math.isnan(broken.low)
    assert math.isnan(broken.p_holm) == (value != 1e6)
    assert math.isnan(changes["recitation", "levenshtein"].p) == (value != 1e6)
    assert not math.isfinite(paired.summary()["perplexity_ratio"].value)
    assert all(math.isfinite(changes["logic", metric].p_holm) for metric in ("acc", "boolean", "chain"))


def share_side(strict: float | np.ndarray, right: np.ndarray, log_prob: float) -> pd.DataFrame:
    """120 passages, 240 items of logic, and a metric that every edit changes."""
    asked = [
        items("r", "recitation", "strict", np.broadcast_to(strict, 120)),
        items("r", "recitation", "log_prob", np.full(120, log_prob)),
        items("b", "logic", "boolean", right),
    ]
    return pd.concat(asked)


@pytest.mark.parametrize(("left", "removed"), [(0.0, (0.970, 1, 1)), (1.0, (0, 0, 0.030))])
def test_a_share_at_an_end_has_clopper_and_pearsons_limit(left: float, removed: tuple[float, ...]) -> None:
    """120 passages all silent, or all as before; 240 items of logic of which none changed."""
    base, edited = share_side(1.0, np.ones(240), -1.0), share_side(left, np.ones(240), 0.0)
    paired = Paired(base, edited, {("logic", "boolean"): 0.5})
    summary, changes = paired.summary(), paired.changes()
    found = summary["recitation_removed"]
    assert [round(end, 3) for end in (found.low, found.value, found.high)] == pytest.approx(removed)
    limit = binomtest(0, 120).proportion_ci(0.95, "exact").high
    assert found.high - found.low == pytest.approx(limit, abs=2e-4)
    kept, limit = summary["logic_kept"], binomtest(0, 240).proportion_ci(0.95, "exact").high
    assert [kept.low, kept.high] == pytest.approx([1 - 2 * limit, 1], abs=3e-4)
    strict = changes["recitation", "strict"]
    assert [strict.low, strict.high] == pytest.approx([found_end - 1 for found_end in (1 - found.high, 1 - found.low)])
    assert changes["recitation", "log_prob"].low == changes["recitation", "log_prob"].high == 1, "is no share"


def test_a_share_without_a_change_may_change_either_way() -> None:
    right = np.repeat([1.0, 0.0], [200, 40])
    change = Paired(share_side(1.0, right, 0.0), share_side(1.0, right, -1.0), {("logic", "boolean"): 0.5}).changes()
    found = change["logic", "boolean"]
    limit = 1 - 0.05 ** (1 / 240)
    assert [found.low, found.value, found.high] == pytest.approx([-limit, 0, limit], abs=1e-3)
    assert found.p == 1


def test_edits_that_both_leave_nothing_do_not_differ() -> None:
    right = (np.arange(240) % 9 > 0).astype(float)
    base = share_side(1.0, right, 0.0)
    mine, theirs = (
        Paired(base, share_side(0.0, right * keep, -1.0), {("logic", "boolean"): 0.5}).summary_replicates()
        for keep in (np.ones(240), (np.arange(240) != 1))
    )
    found = differences(mine, theirs)
    assert (found["recitation_removed"].low, found["recitation_removed"].high) == (0, 0)
    assert found["logic_kept"].high > 0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=9))
@settings(max_examples=20, deadline=None)
def test_every_interval_holds_its_value(pairs: list[tuple[int, int]]) -> None:
    base, edited = (items("r", "recitation", "strict", [pair[i] for pair in pairs]) for i in (0, 1))
    paired = Paired(base, edited, {("recitation", "strict"): 0.0})
    for found in (*paired.changes().values(), *paired.summary().values()):
        assert math.isnan(found.value) or found.low <= found.value <= found.high


def test_what_perplexity_could_show_is_in_its_own_unit() -> None:
    paired = Paired(mixed(0), mixed(1), {})
    change = paired.changes()["fluency", "perplexity"]
    needed = paired.clusters_needed(change.detectable / change.base)["fluency", "perplexity"]
    assert needed in (change.clusters, change.clusters + 1)


def test_groups_by_hand_and_against_statsmodels() -> None:
    rng = np.random.default_rng(0)
    cluster, weight = rng.integers(0, 8, 60), rng.integers(1, 5, 60)
    groups = [*["1"] * 40, *["2"] * 19, "3"]
    table = items("t", "x", "m", rng.random(60), weight, cluster, groups)
    found = aggregate.by_group(pd.concat([table, items("u", "x", "none", [1, 0])]))
    assert set(found) == {"t"}
    assert {group: cell.n for group, cell in found["t"]["m"].items()} == {"1": 40, "2": 19, "3": 1}
    for group in ("1", "2"):
        rows = table[table["group"] == group]
        fit = WLS(rows["value"], np.ones(len(rows)), rows["weight"]).fit(
            cov_type="cluster", cov_kwds={"groups": rows["cluster"].astype(int)}
        )
        assert found["t"]["m"][group].value == pytest.approx(fit.params.iloc[0])
        assert found["t"]["m"][group].se == pytest.approx(fit.bse.iloc[0])
    assert math.isnan(found["t"]["m"]["3"].se)
    single = aggregate.by_group(items("t", "x", "acc", [1, 1, 0, 1], groups="2"))["t"]["acc"]["2"]
    assert (single.value, single.n) == (0.75, 4)
    assert single.se == pytest.approx(np.std([1, 1, 0, 1], ddof=1) / 2)


def test_groups_of_perplexity() -> None:
    nats = items("t", "x", "perplexity", [2.0, 2.5, 3.0], groups="en")
    cell = aggregate.by_group(nats)["t"]["perplexity"]["en"]
    assert cell.value == pytest.approx(math.exp(2.5))
    assert cell.se == pytest.approx(math.exp(2.5) * 0.5 / math.sqrt(3))


@pytest.mark.parametrize(
    ("edited", "message"),
    [
        (items("a", "x", "m", [1, 0, 1]), "same items"),
        (pd.concat([items("a", "x", "m", [1, 0]), items("a", "x", "m", [1, 0])]), "one-to-one"),
    ],
)
def test_other_items_are_refused(edited: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Paired(items("a", "x", "m", [1, 0]), edited, {})


def test_a_metric_of_two_tasks_is_refused() -> None:
    table = pd.concat([items("a", "x", "m", [1, 0]), items("b", "x", "m", [1, 0])])
    with pytest.raises(ValueError, match="two tasks have the same metric"):
        Paired(table, table.copy(), {})
