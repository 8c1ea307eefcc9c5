"""Memory in bits against brute force, and the ends that are known."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from memsplit.results.records.tables import ITEMS, attacked
from memsplit.results.statistics.memory import Memory, groups
from memsplit.results.statistics.paired import Paired
from memsplit.results.statistics.resampling import RESAMPLES

N = 24
TEXTS = st.lists(st.floats(0.01, 12), min_size=2 * N, max_size=2 * N)


def passages(bits: list[float] | np.ndarray, clusters: int = N) -> pd.DataFrame:
    """Items of N memorized passages and as many twins with these code lengths; half of the passages are of each dose."""
    rows = []
    for place, value in enumerate(bits):
        axis, item = ("recitation", "twins")[place // N], place % N
        group = f"dose {item % 2}" if axis == "recitation" else ""
        common = (item, 1, str(item % clusters), group)
        rows.append((axis, axis, "log_prob", common[0], -value * math.log(2), *common[1:]))
        rows.append((axis, axis, "strict", common[0], float(value < 0.1), *common[1:]))
    return pd.DataFrame(rows, columns=ITEMS)


def gap(bits: list[float] | np.ndarray) -> float:
    return float(np.mean(bits[N:]) - np.mean(bits[:N]))


@settings(max_examples=20)
@given(TEXTS, TEXTS, TEXTS)
def test_memory_is_the_gap_to_twins_less_that_of_the_unseen(
    base: list[float], edit: list[float], u: list[float]
) -> None:
    memory = Memory({"base": passages(base), "edit": passages(edit), "unseen": passages(u)}, seed=0)
    assert memory.bits("base")[0] == pytest.approx(gap(base) - gap(u), abs=1e-9)
    assert memory.bits("edit")[0] == pytest.approx(gap(edit) - gap(u), abs=1e-9)
    if memory.shown:
        assert memory.erased()[0] == pytest.approx(1 - (gap(edit) - gap(u)) / (gap(base) - gap(u)), rel=1e-6, abs=1e-9)
    elif gap(base) - gap(u) < 0:
        assert np.isnan(memory.erased()[0])


@settings(max_examples=20)
@given(TEXTS, TEXTS)
def test_distances_are_those_of_kolmogorov_and_smirnov(edit: list[float], u: list[float]) -> None:
    memory = Memory({"base": passages(u), "edit": passages(edit), "unseen": passages(u)}, seed=0)
    found = memory.distances()
    assert found is not None
    for replicates, alternative in zip(found, ("greater", "less"), strict=True):
        want = ks_2samp(edit[:N], u[:N], alternative=alternative, method="asymp").statistic
        assert replicates[0] == pytest.approx(want, abs=1e-12)
        assert replicates.min() >= 0
        assert replicates.max() <= 1


def test_damage_that_hits_all_text_alike_erases_nothing() -> None:
    rng = np.random.default_rng(0)
    base = np.concatenate([rng.uniform(0, 1, N), rng.uniform(4, 6, N)])
    memory = Memory({"base": passages(base), "edit": passages(base + 2.5)}, seed=0)
    assert memory.erased() == pytest.approx(np.zeros(1 + RESAMPLES), abs=1e-12)


def test_a_model_that_never_saw_the_passages_has_no_memory_and_an_edit_like_it_erases_all() -> None:
    rng = np.random.default_rng(1)
    base, u = (np.concatenate([rng.uniform(*low, N), rng.uniform(4, 6, N)]) for low in ((0, 1), (4, 6)))
    summary = Memory({"base": passages(base), "edit": passages(u), "unseen": passages(u)}, seed=0).summary_replicates()
    assert summary["erased"] == pytest.approx(np.ones(1 + RESAMPLES))
    assert summary["memory"] == pytest.approx(np.zeros(1 + RESAMPLES), abs=1e-12)
    assert summary["ks_shorter"][0] == summary["ks_longer"][0] == 0


def test_an_attack_is_taken_against_the_same_attack_on_the_unseen_and_the_worst_counts() -> None:
    rng = np.random.default_rng(2)

    def texts(memorized: float, twins: float) -> np.ndarray:
        return np.concatenate([rng.normal(memorized, 0.1, N), rng.normal(twins, 0.1, N)])

    base, edit, u = texts(0.5, 5), texts(5, 5), texts(5, 5)
    attacks = {"weak": (texts(4, 5), texts(5, 5)), "strong": (texts(1, 4), texts(3, 4))}
    sides = {"base": passages(base), "edit": passages(edit), "unseen": passages(u)}
    for name, pair in attacks.items():
        for side, bits in zip(("edit", "unseen"), pair, strict=True):
            sides[attacked(side, name)] = passages(bits)
    memory = Memory(sides, seed=0)
    left = {name: 1 - (gap(e) - gap(f)) / (gap(base) - gap(u)) for name, (e, f) in attacks.items()}
    assert memory.attacks == ["weak", "strong"]
    stays = memory.stays_erased()
    assert stays is not None
    assert stays[0] == pytest.approx(min(left.values()))
    assert (stays <= memory.erased(attacked("edit", "weak"))).all()


def test_what_an_attack_itself_destroys_is_not_erased_by_the_edit() -> None:
    rng = np.random.default_rng(3)
    base = np.concatenate([rng.uniform(0, 1, N), rng.uniform(4, 6, N)])
    ruined = np.full(2 * N, 9.0)
    memory = Memory({"base": passages(base), "edit": passages(base), "edit+noise:size=9": passages(ruined)}, seed=0)
    assert memory.erased("edit+noise:size=9") == pytest.approx(np.ones(1 + RESAMPLES))
    assert memory.stays_erased() == pytest.approx(np.zeros(1 + RESAMPLES))


def test_shares_of_a_memory_that_is_not_shown_are_unknown() -> None:
    rng = np.random.default_rng(4)
    bits = rng.uniform(3, 6, N)
    base, edit = (np.concatenate([bits, rng.permutation(bits) + more]) for more in (0.05, 0.01))
    assert gap(base) == pytest.approx(0.05)
    summary = Memory({"base": passages(base), "edit": passages(edit), "edit+a": passages(edit)}, 0).summary_replicates()
    for name in ("erased", "scar", "stays_erased", "net_erased"):
        assert np.isnan(summary[name]).all(), name
    assert np.isfinite(summary["memory_base"]).all()


def test_replicates_are_on_the_resamples_of_the_other_metrics() -> None:
    rng = np.random.default_rng(3)
    base, edit = rng.uniform(0, 6, 2 * N), rng.uniform(0, 6, 2 * N)
    both = Paired(passages(base, clusters=7), passages(edit, clusters=7), {}, 5)
    bits = {axis: both.metrics[axis, "log_prob"].replicates for axis in ("recitation", "twins")}
    for side, name in enumerate(("base", "edit")):
        want = (bits["recitation"][side] - bits["twins"][side]) / math.log(2)
        assert both.memory.bits(name) == pytest.approx(want, abs=1e-9)


def test_a_group_is_measured_against_all_twins() -> None:
    rng = np.random.default_rng(4)
    base, edit = rng.uniform(0, 6, 2 * N), rng.uniform(0, 6, 2 * N)
    items = passages(base)
    assert groups(items) == ["dose 0", "dose 1"]
    memory = Memory({"base": items, "edit": passages(edit)}, seed=0, group="dose 1")
    assert memory.bits("base")[0] == pytest.approx(base[N:].mean() - base[:N][1::2].mean())
    by_group = Paired(items, passages(edit), {}).by_group()
    assert by_group["dose 1"]["memory"].value == pytest.approx(edit[N:].mean() - edit[:N][1::2].mean())


def test_without_passages_or_twins_nothing_is_known() -> None:
    items = passages(np.ones(2 * N))
    for axis in ("recitation", "twins"):
        some = items[items["axis"] != axis]
        assert Memory({"base": some, "edit": some}, seed=0).summary_replicates() == {}


def test_other_passages_are_refused() -> None:
    items = passages(np.ones(2 * N))
    with pytest.raises(ValueError, match="unseen and base were not scored on the same passages"):
        Memory({"base": items, "edit": items, "unseen": items[items["item"] > 0]}, seed=0)


def test_an_attack_without_its_floor_does_not_count() -> None:
    sides = {name: passages(np.ones(2 * N)) for name in ("base", "edit", "unseen", "edit+relearn")}
    assert Memory(sides, seed=0).attacks == []
    assert Memory({name: items for name, items in sides.items() if name != "unseen"}, seed=0).attacks == ["relearn"]
