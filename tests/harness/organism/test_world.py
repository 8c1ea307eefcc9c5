"""The organism's world: exact round trip, parts that never overlap, batches that are a function of the step."""

import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memsplit.harness.organism.mixture import SHARES, Mixture
from memsplit.harness.organism.tokenizer import build
from memsplit.harness.organism.world import DOSES, LATE, PREFIX, SUFFIX, World

WORLD = World()
TOKENIZER = build(WORLD.vocabulary)
STEPS = 2000


def mixture(**changed: Any) -> Mixture:
    given = {"world": WORLD, "tokenizer": TOKENIZER, "seed": 0, "steps": STEPS, "late": 0.1, "batch": 32, "length": 256}
    return Mixture(**{**given, "shares": SHARES, **changed})


MIXTURE = mixture()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_round_trip_of_any_text(text: str) -> None:
    if "<|" not in text:
        assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@pytest.mark.parametrize("kind", SHARES)
def test_documents_are_whole_words_and_round_trip(kind: str) -> None:
    ids = [token for token, _ in MIXTURE.document(random.Random(5), kind)]
    assert TOKENIZER(TOKENIZER.decode(ids))["input_ids"] == ids
    assert all(t.startswith("Ġ") or t.isdigit() for t in TOKENIZER.convert_ids_to_tokens(ids))


def test_passages_and_twins() -> None:
    both = [*(passage.words for passage in WORLD.passages), *WORLD.twins]
    assert len(WORLD.passages) == len(WORLD.twins) >= 200
    assert len({tuple(words) for words in both}) == len(both)
    assert {len(words) for words in both} == {PREFIX + SUFFIX}
    halves = [Counter((p.population, p.dose) for p in WORLD.passages[first::2]) for first in (0, 1)]
    assert halves[0] == halves[1]  # every dose is in dev and test alike
    assert {(population, dose): 2 * n for (population, dose), n in halves[0].items()} == {
        (population, dose): n for population, dose, n in DOSES
    }


def test_batches_are_a_function_of_the_step() -> None:
    again = mixture(world=World())
    for a, b in zip(MIXTURE[7], again[7], strict=True):
        assert a.shape == (32, 256)
        assert torch.equal(a, b)
    assert not torch.equal(MIXTURE[7][0], MIXTURE[8][0])


def test_each_passage_is_met_as_often_as_its_dose_and_late_ones_late() -> None:
    met = Counter(index for indices in MIXTURE.schedule.values() for index in indices)
    assert [met[i] for i in range(len(WORLD.passages))] == [passage.dose for passage in WORLD.passages]
    steps = {i: step for step, indices in MIXTURE.schedule.items() for i in indices}
    late = {step for i, step in steps.items() if WORLD.passages[i].population == LATE}
    assert min(late) >= STEPS - STEPS // 10
    ids, _ = MIXTURE[STEPS - 1]
    first, *rest = MIXTURE.schedule[STEPS - 1]
    assert rest
    text = " ".join(WORLD.passages[first].words[PREFIX:])
    assert sum(text in TOKENIZER.decode(row) for row in ids.tolist()) == 1


def test_the_unseen_counterpart_reads_the_same_but_for_the_passages() -> None:
    seen, unseen = MIXTURE[3][0], mixture(passages=False)[3][0]
    differ = (seen != unseen).any(dim=1).tolist()
    met = len(MIXTURE.schedule[3])
    assert 0 < met < 32
    assert differ == [True] * met + [False] * (32 - met)
    known = {" ".join(p.words[i : i + 12]) for p in WORLD.passages for i in range(0, PREFIX + SUFFIX - 12)}
    assert not any(words in TOKENIZER.decode(row) for row in unseen.tolist() for words in known)


def test_a_passage_stands_anywhere_in_its_row() -> None:
    passage = [(i, 1.0) for i in TOKENIZER(" ".join(WORLD.passages[0].words))["input_ids"]]
    ids = [token for token, _ in passage]
    places = []
    for seed in range(300):
        row = [token for token, _ in MIXTURE.row(random.Random(seed), [passage])]
        assert len(row) == 256
        end = next(i for i in range(len(row), 0, -1) if row[:i][-8:] == ids[-8:])
        places.append(end)
    cut = [end for end in places if end < len(ids)]
    assert 0.1 < len(cut) / 300 < 0.3  # the row begins within the passage
    assert sum(end == len(ids) for end in places) > 10  # the passage begins the row
    assert len({end // 16 for end in places}) >= 10


def test_open_book_parts_never_share_a_fact() -> None:
    told: dict[str, set[tuple[str, str, str]]] = {"train": set(), "dev": set(), "test": set()}
    rng = random.Random(0)
    for split, facts in told.items():
        for _ in range(500):
            context, questions = WORLD.open_book(rng, split)
            subjects = {w for q, _ in questions for w in q.split() if w in WORLD.names["guests"]}
            assert len(subjects) == 3
            assert not set(context.split()) & set(WORLD.names["people"])
            for question, value in questions:
                who = next(w for w in question.split() if w in subjects)
                kind = next(k for k in ("places", "trades", "pets") if value in WORLD.values[k])
                facts.add((kind, who, value))
    assert not told["train"] & told["test"]
    assert not told["train"] & told["dev"]
    assert not told["dev"] & told["test"]


def test_facts_keep_one_wording_back() -> None:
    for fact in WORLD.facts:
        assert fact.value in WORLD.values[fact.relation.values]
        assert 0 <= fact.held_out < 4
    assert {f.split for f in WORLD.facts} == {"dev", "test"}
