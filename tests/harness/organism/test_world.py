"""The organism's world: exact round trip, parts that never overlap, batches that are a function of the step."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memsplit.harness.organism.mixture import SHARES, Mixture
from memsplit.harness.organism.tokenizer import build
from memsplit.harness.organism.world import PREFIX, SUFFIX, World

WORLD = World()
TOKENIZER = build(WORLD.vocabulary)
MIXTURE = Mixture(world=WORLD, tokenizer=TOKENIZER, seed=0, batch=4, length=128, shares=SHARES)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_round_trip_of_any_text(text: str) -> None:
    if "<|" not in text:
        assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@pytest.mark.parametrize("kind", SHARES)
def test_sequences_are_whole_words_and_round_trip(kind: str) -> None:
    ids, weights = MIXTURE.sequence(random.Random(5), kind)
    assert len(ids) == len(weights) == 128
    assert TOKENIZER(TOKENIZER.decode(ids))["input_ids"] == ids
    tokens = TOKENIZER.convert_ids_to_tokens(ids)
    assert all(t.startswith(("Ġ", "<|")) or t.isdigit() for t in tokens)


def test_passages_and_twins() -> None:
    both = WORLD.passages + WORLD.twins
    assert len(WORLD.passages) == len(WORLD.twins) >= 200
    assert len({tuple(p) for p in both}) == len(both)
    assert {len(p) for p in both} == {PREFIX + SUFFIX}


def test_batches_are_a_function_of_the_step() -> None:
    again = Mixture(world=World(), tokenizer=TOKENIZER, seed=0, batch=4, length=128, shares=SHARES)
    for a, b in zip(MIXTURE[7], again[7], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(MIXTURE[7][0], MIXTURE[8][0])


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
