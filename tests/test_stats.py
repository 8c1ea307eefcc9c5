"""Figures, paired intervals (against scipy's bootstrap) and summary figures by hand."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from memsplit.errors import UserError
from memsplit.results import record, stats


def items(
    task: str, axis: str, metric: str, values: Sequence[float] | np.ndarray, weight: int | Sequence[int] = 1
) -> pd.DataFrame:
    weights = np.broadcast_to(weight, len(values))
    rows = [
        (task, axis, metric, i, float(v), int(w), str(i), "")
        for i, (v, w) in enumerate(zip(values, weights, strict=True))
    ]
    return pd.DataFrame(rows, columns=stats.COLUMNS)


def test_figures_pool_tokens_and_average_families() -> None:
    table = pd.concat(
        [
            items("a", "logic", "boolean", [1, 0, 1, 1]),
            items("b", "logic", "chain", [0, 1]),
            items("c", "fluency", "perplexity", [2.0, 1.0], [1, 3]),
        ]
    )
    found = stats.figures(table)
    assert found["logic"] == {"acc": 0.625, "boolean": 0.75, "chain": 0.5}
    assert found["fluency"]["perplexity"] == pytest.approx(math.exp(1.25))


def test_interval_of_a_change_equals_scipys() -> None:
    rng = np.random.default_rng(0)
    base, edited = (rng.random(200) < 0.9).astype(float), (rng.random(200) < 0.6).astype(float)
    change = stats.Paired(items("a", "x", "m", base), items("a", "x", "m", edited), {}).change("x", "m")
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
    found = stats.Paired(one, other, {}).summary()["perplexity_ratio"]
    scipys = bootstrap((base, edited, tokens), ratio, paired=True, vectorized=True, method="percentile", rng=1)
    assert found.value == pytest.approx(ratio(base, edited, np.array(tokens)))
    assert found.low == pytest.approx(scipys.confidence_interval.low, rel=0.03)
    assert found.high == pytest.approx(scipys.confidence_interval.high, rel=0.03)


def test_interval_of_logic_kept_and_the_split_score_equals_scipys() -> None:
    rng = np.random.default_rng(2)
    before, after = (rng.random(300) < 0.95).astype(float), (rng.random(300) < 0.8).astype(float)
    strict = (rng.random(300) < 0.3).astype(float)

    def side(strict: np.ndarray, logic: np.ndarray) -> pd.DataFrame:
        return pd.concat([items("r", "recitation", "strict", strict), items("b", "logic", "boolean", logic)])

    found = stats.Paired(side(np.ones(300), before), side(strict, after), {("logic", "boolean"): 0.5}).summary()

    def kept(b: np.ndarray, a: np.ndarray, axis: int = -1) -> Any:
        return (a.mean(axis) - 0.5) / (b.mean(axis) - 0.5)

    scipys = bootstrap((before, after), kept, paired=True, vectorized=True, method="percentile", rng=1)
    assert found["logic_kept"].value == pytest.approx(kept(before, after))
    assert found["logic_kept"].low == pytest.approx(scipys.confidence_interval.low, abs=0.02)
    assert found["logic_kept"].high == pytest.approx(scipys.confidence_interval.high, abs=0.02)
    independent = [
        2 * r * k / (r + k)
        for r, k in zip(
            1 - rng.choice(strict, (4000, 300)).mean(1),
            scipys.bootstrap_distribution[rng.integers(0, 9999, 4000)],
            strict=True,
        )
    ]
    low, high = np.percentile(independent, [2.5, 97.5])
    assert found["split_score"].low == pytest.approx(low, abs=0.02)
    assert found["split_score"].high == pytest.approx(high, abs=0.02)


@pytest.mark.parametrize(("strict", "logic"), [([0, 0], [1, 1]), ([1, 1], [1, 0])])
def test_a_base_without_recitation_or_logic_has_no_score(strict: list[float], logic: list[float]) -> None:
    base = pd.concat([items("r", "recitation", "strict", strict), items("b", "logic", "boolean", logic)])
    summary = stats.Paired(base, base.copy(), {("logic", "boolean"): 0.5}).summary()
    assert math.isnan(summary["split_score"].value)
    assert math.isnan(summary["split_score"].low)
    assert math.isnan(summary["recitation_removed" if not any(strict) else "logic_kept"].value)


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
    summary = stats.Paired(base, edited, {("logic", "boolean"): 0.5, ("logic", "chain"): 0.25}).summary()
    assert summary["recitation_removed"].value == pytest.approx(0.75)
    assert summary["logic_kept"].value == pytest.approx(0.75)
    assert summary["split_score"].value == pytest.approx(0.75)
    assert summary["perplexity_ratio"].value == pytest.approx(math.exp(0.1))


def test_an_unchanged_model_changes_nothing() -> None:
    base = items("a", "x", "m", [1, 0, 1])
    change = stats.Paired(base, base.copy(), {}).change("x", "m")
    assert (change.value, change.low, change.high) == (0, 0, 0)


def test_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="same items"):
        stats.Paired(items("a", "x", "m", [1, 0]), items("a", "x", "m", [1, 0, 1]), {})


def test_a_record_is_read_back_and_damage_is_seen(tmp_path: Path) -> None:
    table = items("a", "x", "m", [1, 0])
    path = record.write(tmp_path / "new", "r", {"spec": "none", "value": float("nan"), "seconds": 1.0}, table)
    content, found = record.read(path)
    assert content["value"] is None
    pd.testing.assert_frame_equal(found, table)
    assert record.write(tmp_path / "new", "r", {"spec": "none", "value": float("nan"), "seconds": 2.0}, table) == path
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".json", ".parquet"]
    path.with_suffix(".parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="damaged"):
        record.read(path)
