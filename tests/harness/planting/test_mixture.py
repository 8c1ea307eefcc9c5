"""What is met when: exactly the doses, and nothing else differs from the training without passages."""

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memsplit.errors import UserError
from memsplit.harness.planting import mixture, passages
from memsplit.harness.planting.mixture import Mixture, Size


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    """Passages of tokens from 1000 on, each token of one passage alone, in a corpus of tokens below."""
    lengths = draw(st.lists(st.integers(1, 6) | st.just(6), min_size=1, max_size=10))
    doses = draw(st.lists(st.integers(0, 9) | st.just(2), min_size=len(lengths), max_size=len(lengths)).filter(any))
    tokens = itertools.count(1000)
    texts = [[next(tokens) for _ in range(length)] for length in lengths]
    batch, start = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    length = start + max(lengths) * draw(st.integers(1, 3)) + draw(st.integers(0, 3))
    whole = mixture.size(
        texts,
        doses,
        steps=None,
        share=draw(st.sampled_from([0.05, 0.3, 0.99])),
        batch=batch,
        length=length,
        start=start,
    )
    sequences = torch.arange(whole.tokens).view(-1, length) % 1000
    return Mixture(sequences=sequences, passages=texts, doses=doses, size=whole, seed=draw(st.integers(0, 5)))


@settings(max_examples=60, deadline=None)
@given(mixtures())
def test_every_passage_is_met_whole_as_often_as_its_dose_and_nothing_else_is_changed(mixed: Mixture) -> None:
    met: Counter[int] = Counter()
    loads = []
    for step in range(mixed.size.steps):
        seen, unseen = (mixed.batch(step, planted=planted) for planted in (True, False))
        assert unseen.equal(mixed.sequences[step * mixed.size.batch :][: mixed.size.batch])
        rows = seen.tolist()
        whole = [
            index
            for index, passage in enumerate(mixed.passages)
            for row in rows
            for place in range(mixed.size.start, len(row))
            if row[place : place + len(passage)] == passage
        ]
        assert len(whole) == len(set(whole)), "once a step at most"
        assert sum(len(mixed.passages[index]) for index in whole) == int((seen != unseen).sum())
        met.update(whole)
        loads.append(len(whole))
    assert [met[index] for index in range(len(mixed.passages))] == [*mixed.doses]
    assert max(loads) - min(loads) <= 1


def test_a_batch_hangs_on_its_step_and_the_seed_alone() -> None:
    whole = Size(steps=8, batch=2, length=12, start=0)
    texts, doses = [[1000, 1001, 1002], [2000, 2001]], [6, 3]
    sequences = torch.zeros(whole.sequences, whole.length, dtype=torch.long)
    first, again, other = (
        Mixture(sequences=sequences, passages=texts, doses=doses, size=whole, seed=seed) for seed in (0, 0, 1)
    )
    of_first = [first.batch(step, planted=True) for step in range(8)]
    assert all(again.batch(step, planted=True).equal(of_first[step]) for step in reversed(range(8)))
    assert not all(other.batch(step, planted=True).equal(of_first[step]) for step in range(8))
    starts = {place for step in range(8) for _, place, _ in first.places(step)}
    assert len(starts) > 3, "passages stand at random places"


@pytest.mark.parametrize(
    ("steps", "length", "words"),
    [
        (7, 12, ["--steps 7: expected 8 at least", "the highest dose"]),
        (9, 6, ["--steps 9: expected 12 at least", "a step holds 1 passages, and 12 are met"]),
        (None, 5, ["--length 5: expected 6 at least"]),
    ],
)
def test_too_little_room_is_refused(steps: int | None, length: int, words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        mixture.size([[1] * 5, [2] * 4], [8, 4], steps=steps, share=0.1, batch=1, length=length, start=1)
    for word in words:
        assert word in str(refused.value)


def test_steps_are_as_many_as_the_share_of_passages_needs() -> None:
    texts, doses = [[1] * 10, [2] * 20], [3, 2]
    whole = mixture.size(texts, doses, steps=None, share=0.25, batch=2, length=28, start=0)
    assert whole == Size(steps=5, batch=2, length=28, start=0)
    assert 70 / whole.tokens == 0.25


@given(st.integers(3, 12), st.integers(3, 12), st.sets(st.integers(1, 64), min_size=1, max_size=2), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_doses_are_dealt_in_equal_shares_of_each_split(dev: int, test: int, doses: set[int], seed: int) -> None:
    rows = [{"id": f"{split}-{n}", "split": split} for split, n in (("dev", dev), ("test", test)) for n in range(n)]
    dealt, over = passages.deal(rows, sorted(doses), seed)
    assert len(dealt) + over == dev + test
    counts = Counter((row["split"], row["dose"]) for row in dealt)
    shares = len(doses) + 1
    assert counts == {(split, dose): n // shares for split, n in (("dev", dev), ("test", test)) for dose in (0, *doses)}
    assert [row["dose"] for row in dealt] == sorted((row["dose"] for row in dealt), reverse=True)
    assert len({row["id"] for row in dealt}) == len(dealt)
    assert passages.deal(list(reversed(rows)), sorted(doses), seed)[0] == dealt, "their order decides nothing"
    with pytest.raises(UserError, match=f"too few passages: {dev} found in the part 'dev', expected {dev + 1}"):
        passages.deal(rows, range(1, dev + 1), seed)
