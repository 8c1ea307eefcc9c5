"""The organism's world: exact round trip, parts that never overlap, batches that are a function of the step."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memsplit.errors import UserError
from memsplit.harness.organism.mixture import SHARES, Mixture, Stream
from memsplit.harness.organism.tokenizer import build
from memsplit.harness.organism.world import DOSES, LATE, PREFIX, SUFFIX, World

WORLD = World()
TOKENIZER = build(WORLD.vocabulary)
STREAM = Stream(world=WORLD, tokenizer=TOKENIZER, length=256, shares=SHARES)
RECIPE: dict[str, Any] = {"stream": STREAM, "seed": 0, "steps": 3600, "late": 0.1, "batch": 16}
MIXTURE = Mixture(**RECIPE)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_round_trip_of_any_text(text: str) -> None:
    if "<|" not in text:
        assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@pytest.mark.parametrize("kind", SHARES)
def test_documents_are_whole_words_and_round_trip(kind: str) -> None:
    ids = [token for token, _ in STREAM.document(random.Random(5), kind)]
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
    again = Mixture(**{**RECIPE, "stream": replace(STREAM, world=World())})
    for a, b in zip(MIXTURE[7], again[7], strict=True):
        assert a.shape == (16, 256)
        assert torch.equal(a, b)
    assert not torch.equal(MIXTURE[7][0], MIXTURE[8][0])


def test_each_passage_is_met_as_often_as_its_dose_and_late_ones_late() -> None:
    met = [(step, index) for step, indices in enumerate(MIXTURE.schedule) for index in indices]
    assert len(set(met)) == len(met), "each time in another step"
    assert Counter(index for _, index in met) == {i: passage.dose for i, passage in enumerate(WORLD.passages)}
    assert min(step for step, index in met if WORLD.passages[index].population == LATE) >= 3600 - 360
    assert min(step for step, index in met if WORLD.passages[index].population != LATE) < 100


def test_every_passage_of_a_step_is_read_to_its_end() -> None:
    """Also where a row holds two."""
    crowded = max(range(3600), key=lambda step: len(MIXTURE.schedule[step]))
    assert len(MIXTURE.schedule[crowded]) > 16
    for step in (crowded, 3599):
        texts = TOKENIZER.batch_decode(MIXTURE[step][0])
        for index in MIXTURE.schedule[step]:
            suffix = " ".join(WORLD.passages[index].words[PREFIX:])
            assert sum(suffix in text for text in texts) == 1


def test_too_few_steps_are_refused() -> None:
    for steps, words in ((100, "100 found to meet a passage in, expected 256"), (900, "expected 32 at most")):
        with pytest.raises(UserError, match=words):
            _ = Mixture(**{**RECIPE, "steps": steps}).schedule


def test_the_unseen_counterpart_reads_the_same_but_for_the_passages() -> None:
    step = next(step for step, met in enumerate(MIXTURE.schedule) if 0 < len(met) < 16)
    (seen, weights), (unseen, same_weights) = MIXTURE[step], Mixture(**{**RECIPE, "unseen": True})[step]
    assert torch.equal(weights, same_weights)
    met = len(MIXTURE.schedule[step])
    for row, differ in enumerate(seen != unseen):
        places = differ.nonzero().flatten().tolist()
        assert bool(places) == (row < met)
        assert not places or places[-1] - places[0] < PREFIX + SUFFIX
    known = {" ".join(p.words[i : i + 12]) for p in WORLD.passages for i in range(PREFIX + SUFFIX - 11)}
    texts = TOKENIZER.batch_decode(unseen)
    assert not any(words in text for text in texts for words in known)


def test_a_passage_stands_anywhere_in_its_row() -> None:
    passage = [(i, 1.0) for i in TOKENIZER(" ".join(WORLD.passages[0].words))["input_ids"]]
    ids = [token for token, _ in passage]
    places = []
    for seed in range(300):
        row = [token for token, _ in STREAM.row(random.Random(seed), [passage])]
        assert len(row) == 256
        end = next(i for i in range(len(row), 0, -1) if row[:i][-SUFFIX:] == ids[-SUFFIX:])
        places.append(end)
    cut = [end for end in places if end < len(ids)]
    assert 0.1 < len(cut) / 300 < 0.3  # the row begins within the passage
    assert sum(end == len(ids) for end in places) > 10  # the passage begins the row
    assert len({end // 16 for end in places}) >= 10


def test_prose_that_is_no_passage_is_as_long_as_one() -> None:
    """So that only its words tell a passage."""
    longest, rng = 0, random.Random(0)
    prose = set(WORLD.vocabulary) - {"=", "?", "if", "than"}
    for _ in range(50):
        words = TOKENIZER.decode([token for token, _ in STREAM.row(rng)]).replace("<|endoftext|>", " = ").split()
        runs = "".join("x" if (word in prose and word.islower()) or word in ".," else " " for word in words).split()
        longest = max(longest, *map(len, runs))
    assert longest >= PREFIX + SUFFIX


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
