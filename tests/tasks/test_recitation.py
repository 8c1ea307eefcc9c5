"""Every figure of recitation against its definition, written down a second time."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsplit.errors import UserError
from memsplit.tasks import documents, measured, packs, recitation
from memsplit.tasks.recitation import TokenStats

ids = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def token_stats(start: int, rank: Sequence[int], log_p: Sequence[float] | None = None, **columns: Any) -> TokenStats:
    n = len(rank)
    log_p = log_p if log_p is not None else [-0.5] * n
    given = {"greedy": [0] * n, "log_q": log_p, "mean": [-1.0] * n, "deviation": [2.0] * n, **columns}
    arrays = {name: np.array(values) for name, values in {"rank": rank, "log_p": log_p, **given}.items()}
    return TokenStats(start=start, ids=np.arange(n + 1), **arrays)


@given(ids, ids)
def test_a_continuations_figures_follow_their_definitions(found: list[int], gold: list[int]) -> None:
    table = [[0] * (len(gold) + 1) for _ in range(len(found) + 1)]
    common = [[0] * (len(gold) + 1) for _ in range(len(found) + 1)]
    for i in range(len(found) + 1):
        for j in range(len(gold) + 1):
            if i and j:
                same = found[i - 1] == gold[j - 1]
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (not same))
                common[i][j] = common[i - 1][j - 1] + 1 if same else max(common[i - 1][j], common[i][j - 1])
            else:
                table[i][j] = i + j
    figures = recitation.of_continuation(found, gold)
    distance = table[-1][-1] / len(gold)
    matched = next((k for k in range(min(len(found), len(gold))) if found[k] != gold[k]), min(len(found), len(gold)))
    assert figures["strict"] == (found == gold)
    assert figures["levenshtein"] == pytest.approx(distance)
    assert figures["loose"] == (1 - distance >= 0.75)
    assert figures["matched_prefix"] == pytest.approx(matched / len(gold))
    assert figures["rouge_l"] == pytest.approx(common[-1][-1] / len(gold))
    assert 0 <= figures["bleu"] <= 1 + 1e-9
    assert (found != gold) or figures["bleu"] == pytest.approx(1)


def test_bleu_equals_nltks() -> None:
    from nltk.translate.bleu_score import sentence_bleu

    gold, found = [5, 1, 2, 3, 4, 7, 8, 9, 2, 6], [5, 1, 2, 3, 4, 0, 8, 9, 2, 6, 1][:10]
    assert recitation.bleu(found, gold) == pytest.approx(sentence_bleu([gold], found), abs=1e-6)


def test_loose_begins_at_a_quarter_of_the_suffix() -> None:
    gold = list(range(48))
    assert recitation.of_continuation(gold[:36] + [99] * 12, gold)["loose"] == 1
    assert recitation.of_continuation(gold[:35] + [99] * 13, gold)["loose"] == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=10))
def test_ranks_give_accuracy_and_extraction_strength(rank: list[int]) -> None:
    figures = recitation.of_token_stats(token_stats(3, [7, 7, *rank]))
    n = len(rank)
    fewest = next(k for k in range(n + 1) if all(r == 0 for r in rank[k:]))
    assert figures["token_accuracy"] == pytest.approx(rank.count(0) / n)
    assert figures["extraction_strength"] == pytest.approx(1 - fewest / n)
    assert figures["reciprocal_rank"] == pytest.approx(sum(1 / (1 + r) for r in rank) / n)
    assert figures["median_rank"] == float(np.median(rank))
    run = next((k for k, r in enumerate(rank) if r), n)
    assert recitation.longest_run(np.array(rank)) == run


def test_a_suffix_is_what_comes_after_the_prefix() -> None:
    log_p, log_q = [-9.0, -1.0, -2.0, -3.0], [-9.0, -0.5, -1.5, -math.inf]
    figures = recitation.of_token_stats(token_stats(2, [0, 0, 0, 1], log_p, log_q=log_q))
    assert figures["log_prob"] == pytest.approx(-2)
    assert figures["p_z"] == 0
    assert recitation.of_token_stats(token_stats(2, [0, 0, 0], log_p[:3], log_q=log_q[:3]))["p_z"] == pytest.approx(
        math.exp(-2)
    )


def test_membership_signals() -> None:
    log_p = [-float(i) for i in range(1, 11)]
    found = recitation.membership(token_stats(4, [0] * 10, log_p), "a text")
    assert found["mia_loss"] == pytest.approx(-5.5)
    assert found["mia_zlib"] == pytest.approx(-55 / len(zlib.compress(b"a text")))
    assert found["mia_min_k"] == pytest.approx(-9.5)  # the two lowest of ten
    assert found["mia_min_k_pp"] == pytest.approx(-8.5 / 2)  # each less -1, over 2


def test_bare_text_is_turned_back_into_the_ids_it_came_from() -> None:
    row = packs.find("olmo-tiny").rows("memorized", "test")[0]
    figures = recitation.process_results({**row, "pack": "olmo-tiny"}, [row["suffix_text"]])
    assert figures["strict"] == 1
    assert "p_z" not in figures


def test_a_measurement_serves_one_score() -> None:
    row = {**packs.find("olmo-tiny").rows("memorized", "test")[0], "pack": "olmo-tiny"}
    gold = row["suffix_ids"]
    stats = token_stats(len(row["prefix_ids"]), [0] * (len(row["prefix_ids"]) + len(gold) - 1))
    measured.leave(row, recitation.Generation(ids=gold, gold=gold, passage="text", stats=stats))
    first = recitation.process_results(row, ["other"])
    again = recitation.process_results(row, ["other"])
    assert (first["strict"], first["token_accuracy"]) == (1, 1)
    assert again["strict"] == 0
    assert "token_accuracy" not in again


def test_the_rows_of_a_task_are_the_same_objects_each_time() -> None:
    rows = documents.pack_rows(kind="memorized", pack="olmo-tiny")["test"]
    assert [id(row) for row in rows] == [id(row) for row in rows]
    assert set(rows.features) == set(rows[0])


def test_another_model_cannot_run_a_probe() -> None:
    with pytest.raises(UserError, match="'position' is run by lm-eval's model 'memsplit' alone"):
        recitation.process_probe({"probe": "position"}, [""])
