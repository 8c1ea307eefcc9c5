"""Windows and near-duplicates against brute force."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from memsplit.tasks.dedup import Groups, Neighbours
from memsplit.tasks.windows import apart, varied


def jaccard(a: Sequence[int], b: Sequence[int], n: int) -> float:
    left, right = ({tuple(x[k : k + n]) for k in range(max(1, len(x) - n + 1))} for x in (a, b))
    return len(left & right) / len(left | right)


TOKENS = st.lists(st.integers(0, 4), max_size=24)


@given(
    rows=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), max_size=12),
    threshold=st.sampled_from([0.1, 1 / 3, 0.5, 0.7, 0.9, 1.0]),
    n=st.integers(1, 3),
)
def test_neighbours_are_those_of_brute_force(rows: list[list[int]], threshold: float, n: int) -> None:
    there = Neighbours(threshold, n)
    for i, row in enumerate(rows):
        assert there.near(row) == [j for j in range(i) if jaccard(rows[j], row, n) >= threshold]
        there.add(row)


@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_groups_go_by_their_lowest(pairs: list[tuple[int, int]]) -> None:
    groups = Groups()
    for pair in pairs:
        groups.join(*pair)
    reach = {i: {i} for i in range(10)}
    for _ in range(10):
        for i, j in pairs:
            reach[i] |= reach[j]
            reach[j] |= reach[i]
    assert [groups.lowest(i) for i in range(10)] == [min(reach[i]) for i in range(10)]


@given(tokens=TOKENS, prefix=st.integers(1, 5), suffix=st.integers(1, 6), share=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_varied_windows_are_those_of_brute_force(tokens: list[int], prefix: int, suffix: int, share: float) -> None:
    expected = []
    for offset in range(len(tokens) - prefix - suffix + 1):
        window = tokens[offset : offset + prefix + suffix]
        copied = [
            end
            for end in range(max(prefix, 4), len(window))
            if any(window[k : k + 4] == window[end - 3 : end + 1] for k in range(end - 3))
        ]
        expected.append(len(set(window)) / len(window) >= share and len(copied) <= suffix / 2)
    np.testing.assert_array_equal(varied(tokens, prefix, suffix, share), np.array(expected, dtype=bool))


@given(
    offsets=st.lists(st.integers(0, 40), unique=True, max_size=15),
    length=st.integers(1, 9),
    taken=st.sets(st.integers(0, 40), max_size=3),
)
def test_windows_are_taken_in_order_where_none_is_near(offsets: list[int], length: int, taken: set[int]) -> None:
    expected: list[int] = []
    for offset in offsets:
        if all(abs(offset - other) >= length for other in (*expected, *taken)):
            expected.append(offset)
    assert apart(offsets, length, taken) == expected
