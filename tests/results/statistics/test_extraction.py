"""Extraction risk against simulation, sklearn and brute force."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from memsplit.results.records.tables import ITEMS
from memsplit.results.statistics import extraction


def table(axis: str, metric: str, values: list[float]) -> pd.DataFrame:
    rows = [(f"t_{axis}", axis, metric, i, v, 1, str(i), "") for i, v in enumerate(values)]
    return pd.DataFrame(rows, columns=ITEMS)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(0.01, 0.99))
def test_samples_needed_is_the_first_that_is_enough(p_z: float, certainty: float) -> None:
    n = float(extraction.samples_needed(np.array([p_z]), certainty)[0])
    assert -math.expm1(n * math.log1p(-p_z)) >= certainty - 1e-6
    assert n == 1 or -math.expm1((n - 1) * math.log1p(-p_z)) < certainty + 1e-9


def test_samples_needed_at_the_ends() -> None:
    assert extraction.samples_needed(np.array([0.0, 1.0, 0.5]), 0.5).tolist() == [math.inf, 1, 1]


def test_discoverable_shares_agree_with_sampling() -> None:
    rng = np.random.default_rng(0)
    p_z = [0.0, 0.001, 0.02, 0.3, 0.9]
    found = extraction.discoverable(table("recitation", "p_z", p_z), "recitation", samples=(10, 100))
    for n in (10, 100):
        emitted = [np.mean((rng.random((4000, n)) < p).any(1)) for p in p_z]
        assert found["p=0.5"][f"n={n}"] == np.mean(np.array(emitted) >= 0.5)
    assert extraction.discoverable(table("recitation", "p_z", p_z), "quotes") == {}


signals = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=30)


@given(signals, signals)
def test_auroc_and_tpr_equal_sklearns(members: list[float], others: list[float]) -> None:
    labels, values = [1] * len(members) + [0] * len(others), members + others
    sides = np.array(members), np.array(others), np.ones((1, len(members))), np.ones((1, len(others)))
    assert extraction.auroc(*sides)[0] == pytest.approx(roc_auc_score(labels, values))
    fpr, tpr, _ = roc_curve(labels, values, drop_intermediate=False)
    for limit in (0.01, 0.3):
        expected = tpr[fpr <= limit].max()
        assert extraction.tpr_at_fpr(*sides, limit)[0] == pytest.approx(expected)
    often = [2, *[1] * (len(members) - 1)]  # an item that counts twice is two items
    twice = extraction.auroc(*sides[:2], np.array([often]), sides[3])[0]
    assert twice == pytest.approx(roc_auc_score([1, *labels], [members[0], *values]))


def test_membership_has_an_interval_around_its_value() -> None:
    rng = np.random.default_rng(1)
    items = pd.concat(
        [
            table("recitation", "mia_loss", (rng.normal(1, 1, 100)).tolist()),
            table("twins", "mia_loss", rng.normal(0, 1, 100).tolist()),
        ]
    )
    found = extraction.membership(items)
    assert set(found) == {"mia_loss"}
    area = found["mia_loss"]["auroc"]
    assert area.low < area.value < area.high
    a, q1, q2 = (
        area.value,
        area.value / (2 - area.value),
        2 * area.value**2 / (1 + area.value),
    )  # Hanley and McNeil 1982
    deviation = math.sqrt((a * (1 - a) + 99 * (q1 - a**2) + 99 * (q2 - a**2)) / 100**2)
    assert (area.high - area.low) / 2 / 1.96 == pytest.approx(deviation, rel=0.2)
    assert found == extraction.membership(items.sample(frac=1, random_state=3))
    paired = items.assign(cluster=(items["item"] // 10).astype(str))
    wide = extraction.membership(paired)["mia_loss"]["auroc"]
    assert wide.value == area.value
    assert wide != area


def test_the_ratio_is_to_the_reference_models_loss() -> None:
    items, reference = table("twins", "mia_loss", [-2.0, -4.0]), table("twins", "mia_loss", [-3.0, -2.0])
    found = extraction.with_reference(items, reference)
    assert found[found["metric"] == "mia_ratio"]["value"].tolist() == [1.5, 0.5]
    assert len(found) == 4
