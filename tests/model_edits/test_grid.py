"""Braces of grids: counts, order, bash as an oracle, and errors that name the bad brace."""

import math
import re
import shutil
import subprocess

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memsplit.errors import UserError
from memsplit.model_edits import grid
from memsplit.model_edits.registry import build, chain_text, edit_names
from memsplit.model_edits.spec import parse_chain

words = st.from_regex(r"[a-z0-9.:@=+-]{0,5}", fullmatch=True)
alternatives = st.lists(words, min_size=2, max_size=4).map(lambda parts: ("{" + ",".join(parts) + "}", len(parts)))
ranges = st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.integers(1, 7)).map(
    lambda r: (f"{{{r[0]}..{r[1]}..{r[2]}}}", abs(r[1] - r[0]) // r[2] + 1)
)
pieces = st.one_of(words.map(lambda text: (text, 1)), alternatives, ranges)


@given(st.lists(pieces, max_size=5))
def test_a_grid_stands_for_the_product_of_its_braces(parts: list[tuple[str, int]]) -> None:
    assume(math.prod(n for _, n in parts) <= grid.MOST)
    found = grid.parse("".join(text for text, _ in parts))
    texts = list(found)
    assert len(texts) == len(found) == math.prod(n for _, n in parts)
    assert not any(set("{}") & set(text) for text in texts)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash to compare with")
@settings(max_examples=25, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=4).map(lambda parts: "".join(text for text, _ in parts)))
def test_bash_expands_the_same(text: str) -> None:
    done = subprocess.run(["bash", "-c", f"printf '<%s>' x{text}"], capture_output=True, text=True, check=True)
    assert re.findall("<x([^>]*)>", done.stdout) == list(grid.parse(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kfac-80", ["kfac-80"]),
        ("kfac-{80,90}@{0,0.25}", ["kfac-80@0", "kfac-80@0.25", "kfac-90@0", "kfac-90@0.25"]),
        ("{0..1..0.25}", ["0", "0.25", "0.5", "0.75", "1"]),
        ("{1..0.5..0.2}", ["1", "0.8", "0.6"]),
        ("{0.10..0.3..0.10}", ["0.1", "0.2", "0.3"]),
        ("{97.5..99.5..1}", ["97.5", "98.5", "99.5"]),
        ("{95..40..20}", ["95", "75", "55"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{5..5}", ["5"]),
        ("x{,@0.5}", ["x", "x@0.5"]),
        ("{kfac-{1..2},svd-{3,4}}", ["kfac-1", "kfac-2", "svd-3", "svd-4"]),
        ("proj={gate+up,down}", ["proj=gate+up", "proj=down"]),
    ],
)
def test_expansions(text: str, expected: list[str]) -> None:
    assert list(grid.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("kfac-{80", "'{80'"),
        ("kfac-80}", "'kfac-80}'"),
        ("kfac-{}", "'{}'"),
        ("kfac-{80}", "'{80}'"),
        ("kfac-{a..c}", "'{a..c}'"),
        ("kfac-{01..10}", "'{01..10}'"),
        ("kfac-{1..2..}", "'{1..2..}'"),
        ("kfac-{1..9..0}", "'{1..9..0}'"),
        ("x@{0..0.5}", "'{0..0.5}' found, expected a step"),
        ("kfac-{0..99999999}", "at most 10,000"),
        ("{1..200}{1..200}", "40,000 edits"),
        ("{a,{b}}", "'{b}'"),
        ("{a,{1..2..0}}", "'{1..2..0}'"),
        ("{1..9999},{1..2}}", "'}'"),
    ],
)
def test_errors_quote_the_grid_and_the_brace(text: str, token: str) -> None:
    with pytest.raises(UserError) as caught:
        grid.parse(text)
    assert f"bad grid {text!r}" in str(caught.value)
    assert token.strip("'") in str(caught.value)


@given(st.text(alphabet="{},.0123456789ab", max_size=20))
def test_any_text_is_a_grid_or_a_user_error(text: str) -> None:
    try:
        found = grid.parse(text)
    except UserError as error:
        assert repr(text) in str(error)
    else:
        assert len(list(found)) == len(found)


def test_which_braces_are_ordered() -> None:
    braces = grid.parse("{1..3}{3..1}{0,0.25,1}{1,3,2}{up,down}{1,1}").braces
    assert [brace.ordered for brace in braces] == [True, True, True, False, False, False]


def test_commas_inside_braces_are_not_the_specs() -> None:
    found = list(grid.parse("kfac-{60,80}:layers={0..1},proj={gate+up,all}@{0,0.5}"))
    canonical = [chain_text([build(step) for step in parse_chain(text, edit_names())]) for text in found]
    assert len(set(canonical)) == 16
    assert canonical[:3] == [
        "kfac-60:layers=0,proj=gate+up",
        "kfac-60:layers=0,proj=gate+up@0.5",
        "kfac-60:layers=0,proj=gate+up+down",
    ]
