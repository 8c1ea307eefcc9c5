"""Whether 95 % intervals of paired changes hold the truth in 95 % of simulated data sets, clustered or not."""

import numpy as np
import pandas as pd
import pytest

from memsplit.results.statistics.paired import Paired


def simulated(
    seed: int, clusters: int, size: int | np.ndarray, shared: float, of: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Data sets, each as a metric: of what the base knows (90 %), a cluster loses all by ``shared``, an item by 10 %."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), size)
    n = len(cluster)
    base = rng.random((of, n)) < 0.9
    edited = base & (rng.random((of, n)) > 0.1) & (rng.random((of, clusters)) > shared)[:, cluster]
    tables = []
    for side in (base, edited):
        long = {"task": "t", "axis": "x", "metric": np.repeat(np.arange(of), n), "item": np.tile(np.arange(n), of)}
        asked = {"value": side.ravel().astype(float), "weight": 1, "cluster": np.tile(cluster, of), "group": ""}
        tables.append(pd.DataFrame({**long, **asked}))
    return tables[0], tables[1]


def covered(base: pd.DataFrame, edited: pd.DataFrame, truth: float) -> float:
    changes = Paired(base, edited, {}).changes().values()
    return float(np.mean([change.low <= truth <= change.high for change in changes]))


@pytest.mark.parametrize("left", [0.002, 0.004, 0.007, 0.01, 0.02])
def test_coverage_where_hardly_a_passage_is_left(left: float) -> None:
    """Of 120 passages, of which most data sets have none left, or one: the share that is removed."""
    rng, of, n = np.random.default_rng(0), 300, 120
    base = rng.random((of, n)) < 0.98
    edited = base & (rng.random((of, n)) < left)
    names = np.repeat(np.char.mod("%d", np.arange(of)), n)
    long = {"task": "t", "axis": "x", "metric": names, "item": np.tile(np.arange(n), of)}
    asked = {"weight": 1, "cluster": np.tile(np.arange(n), of), "group": ""}
    before, after = (pd.DataFrame({**long, "value": side.ravel().astype(float), **asked}) for side in (base, edited))
    changes = Paired(before, after, {("x", name): 0.0 for name in set(names)}).changes().values()
    kept = [change.normalized for change in changes if change.normalized]
    coverage = float(np.mean([ends.low <= left <= ends.high for ends in kept]))
    print(f"{left}: {coverage:.3f} of {len(kept)}")
    assert coverage >= 0.95


def test_coverage_of_single_items() -> None:
    base, edited = simulated(0, clusters=200, size=1, shared=0, of=400)
    assert 0.92 <= covered(base, edited, -0.09) <= 0.98


@pytest.mark.parametrize("size", [4, np.arange(60) % 7 + 1], ids=["equal", "unequal"])
def test_coverage_of_clusters_which_single_items_would_miss(size: int | np.ndarray) -> None:
    base, edited = simulated(1, clusters=60, size=size, shared=0.3, of=400)
    truth = 0.9 * (0.9 * 0.7 - 1)
    assert 0.92 <= covered(base, edited, truth) <= 0.98
    assert covered(base.assign(cluster=base["item"]), edited.assign(cluster=edited["item"]), truth) < 0.85
