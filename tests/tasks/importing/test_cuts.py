"""Cuts of texts: nothing of a text is lost, moved or given twice."""

from hypothesis import given
from hypothesis import strategies as st

from memsplit.tasks.importing import cuts

sizes = st.integers(1, 9)


@given(st.integers(0, 40), sizes, sizes)
def test_ends_leave_units_on_both_sides(length: int, prefix: int, suffix: int) -> None:
    found = cuts.ends(length, prefix, suffix)
    if length < 2:
        assert found is None
    elif length >= prefix + suffix:
        assert found == (prefix, prefix + suffix)
    else:
        assert found is not None
        middle, end = found
        assert 0 < middle < end == length
        assert abs(middle / length - prefix / (prefix + suffix)) <= 1 / length


@given(st.text(), sizes, sizes)
def test_words_are_the_beginning_of_the_text(text: str, prefix: int, suffix: int) -> None:
    pair = cuts.by_words(prefix, suffix)(text)
    count = len(text.split())
    assert (pair is None) == (count < 2)
    if pair:
        assert text.startswith(pair[0] + pair[1])
        assert pair[1][0].isspace()
        assert pair[0].split() + pair[1].split() == text.split()[: prefix + suffix]


@given(st.text(min_size=1), sizes, sizes)
def test_tokens_are_the_beginning_of_the_text(text: str, prefix: int, suffix: int) -> None:
    """Tokens are single characters, so the cut is known."""
    pair = cuts.by_tokens(prefix, suffix, lambda text: [*range(1, len(text) + 1)])(text)
    if len(text) >= prefix + suffix:
        parts = text[:prefix], text[prefix : prefix + suffix]
        assert pair == (parts if all(part.strip() for part in parts) else None)
    elif pair:
        assert "".join(pair) == text
