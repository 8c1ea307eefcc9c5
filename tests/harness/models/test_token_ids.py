"""Where a text's ids begin, and where a passage's text is cut into ids."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from memsplit.harness.models import documents, token_ids
from memsplit.tests.support import tiny_models

EXPECTED_STARTS = {"none": [], "bos": ["<b>"], "bos and eos": ["<b>"], "two": ["<m>", "<s>"], "neither": []}
BPE = tiny_models.tokenizer()


def tokens(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[str]:
    return [str(tokenizer.convert_ids_to_tokens(i)) for i in ids]


@pytest.mark.parametrize("kind", tiny_models.STARTS)
def test_the_start_is_what_the_tokenizer_puts_before_a_text(kind: str) -> None:
    tokenizer = tiny_models.tokenizer(kind)
    start = token_ids.start_ids(tokenizer)
    assert tokens(tokenizer, start) == EXPECTED_STARTS[kind]
    row = {"text": "the lamb"}
    plain = tokenizer("the lamb", add_special_tokens=False)["input_ids"]
    assert token_ids.text_ids(row, tokenizer) == start + plain
    assert token_ids.text_ids({"text": "", "ids": start + plain}, tokenizer) == start + plain
    first = {"none": ["<e>"], "neither": []}.get(kind, EXPECTED_STARTS[kind])
    assert tokens(tokenizer, token_ids.first_ids(tokenizer)) == first


@pytest.mark.parametrize("kind", tiny_models.STARTS)
def test_every_sequence_of_a_corpus_begins_as_a_text_does(kind: str) -> None:
    tokenizer = tiny_models.tokenizer(kind)
    start, texts = token_ids.start_ids(tokenizer), [tiny_models.TEXT, "who sows the wind", tiny_models.TEXT]
    blocks = documents.blocks(texts, tokenizer, 60, 12)
    assert blocks.shape == (5, 12)
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    stream = [i for text in texts for i in [*tokenizer(text, add_special_tokens=False)["input_ids"], *end]]
    body = 12 - len(start)
    assert blocks.tolist() == [[*start, *stream[n * body : (n + 1) * body]] for n in range(5)]
    last = len(stream) // body
    whole = documents.blocks(texts, tokenizer, 10**6, 12, must_have_all=False)
    assert whole.shape == (last, 12)
    assert whole[-1].tolist() == [*start, *stream[(last - 1) * body : last * body]]


def test_white_space_that_moves_is_counted() -> None:
    before, after = "the lion\n\n    ", "ate the lamb"
    prefix, suffix, moved = token_ids.cut(before, after, BPE)
    assert (BPE.decode(prefix), BPE.decode(suffix), moved) == ("the lion", "\n\n    ate the lamb", True)
    assert len(BPE(before)["input_ids"]) > len(prefix)


@given(st.lists(st.sampled_from(["the", " lion", "\n", " ", "é", "世", "wind"]), max_size=8), st.data())
def test_a_place_is_where_ids_end(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    place = data.draw(st.integers(0, len(text)))
    ids = BPE(text[:place])["input_ids"]
    assert token_ids.place(text, ids, BPE) == len(text[:place].rstrip())


def test_a_token_that_spans_the_cut_is_of_the_suffix() -> None:
    prefix, suffix, moved = token_ids.cut("who ate the li", "on ate", BPE)
    assert (BPE.decode(prefix), BPE.decode(suffix), moved) == ("who ate the", " lion ate", True)
    assert token_ids.cut("who ate the ", "lion ate", BPE) == (prefix, suffix, True)
    assert token_ids.cut("who ate the", " lion ate", BPE) == (prefix, suffix, False)
    assert token_ids.cut("the li", "on", BPE)[:2] == (BPE("the")["input_ids"], BPE(" lion")["input_ids"])


@given(st.text(alphabet="the lion\nwas é世", max_size=24), st.text(alphabet="the lion\nwas é世", max_size=12))
def test_no_token_of_the_prefix_reaches_beyond_the_cut(before: str, after: str) -> None:
    prefix, suffix, moved = token_ids.cut(before, after, BPE)
    found = BPE(before + after, return_offsets_mapping=True)
    assert prefix + suffix == found["input_ids"]
    place = len(before)
    ends = [end for _, end in found["offset_mapping"]]
    assert all(end <= place for end in ends[: len(prefix)])
    spans = any(start < place < end for start, end in found["offset_mapping"])
    assert moved >= spans
    if not moved:
        assert BPE.decode(prefix) == before


def test_how_many_passages_are_cut_earlier() -> None:
    rows: list[dict[str, Any]] = [
        {"prefix_text": "the li", "suffix_text": "on"},
        {"prefix_text": "the", "suffix_text": " lion"},
        {"prefix_text": "the li", "suffix_text": "on", "prefix_ids": [1], "suffix_ids": [2]},
    ]
    assert token_ids.moved(rows, BPE) == 1
    said = "1 of 3 passages of quotes.jsonl are cut earlier, before a token or white space at their cut"
    assert token_ids.moved_note("quotes", rows, BPE) == said
    assert token_ids.moved_note("quotes", rows[1:], BPE) == ""
    assert token_ids.moved_note("clean", [{"text": "the li"}], BPE) == ""
