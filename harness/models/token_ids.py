"""The token ids of texts: one place says what a model is given, whether it is scored, trained or its curvature taken.

A text is encoded without special tokens, and its *start*, the tokens that the tokenizer puts before every text, is put
before it: a BOS token, none, or several.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...tasks import packs


def encode(text: str, tokenizer: Any) -> list[int]:
    """The ids of a text without any special token that is not written in it."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def start_ids(tokenizer: Any) -> list[int]:
    """The tokens that a tokenizer puts before every text; what it puts after one is no part of them."""
    if tokenizer is None:
        return []
    ids, plain = tokenizer("a")["input_ids"], encode("a", tokenizer)
    return next((ids[:n] for n in range(len(ids)) if ids[n : n + len(plain)] == plain), [])


def first_ids(tokenizer: Any) -> list[int]:
    """What the first token of a text is scored after: the start, else the BOS or EOS token, if there is one."""
    start = start_ids(tokenizer)
    special = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
    return start or ([] if special is None else [special])


def begun(ids: Sequence[int], start: Sequence[int]) -> list[int]:
    """The ids after the start; ids that begin with it already are left as they are."""
    return [*([] if list(ids[: len(start)]) == list(start) else start), *ids]


def cut(before: str, after: str, tokenizer: Any) -> tuple[list[int], list[int], bool]:
    """The ids of the two parts of a text, and whether they are cut elsewhere than where the parts meet.

    The whole text is encoded, as lm-eval does, and cut at the end of the tokens that it has in common with ``before``
    alone: a border of tokens at the place or before it. A token that spans the place is of the second part, which
    would be given away in part otherwise. As in lm-eval, so is white space at the end of ``before``.
    """
    first = before.rstrip()
    whole, alone = encode(before + after, tokenizer), encode(first, tokenizer)
    border = next((n for n, pair in enumerate(zip(alone, whole, strict=False)) if pair[0] != pair[1]), None)
    border = min(len(alone), len(whole)) if border is None else border
    return whole[:border], whole[border:], whole[:border] != (alone if first == before else encode(before, tokenizer))


def place(text: str, ids: Sequence[int], tokenizer: Any) -> int:
    """Where in a text its first ids end: after as many characters as they spell, white space aside.

    White space at that place is after it.
    """
    spelled = len("".join(tokenizer.decode(ids, skip_special_tokens=True).split()))
    ends = [n for n, character in enumerate(text, 1) if not character.isspace()]
    return ends[min(spelled, len(ends)) - 1] if spelled and ends else 0


def passage_ids(
    row: Mapping[str, Any], tokenizer: Any, start: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """A passage's (prefix ids, suffix ids): its own, or those of its texts (see :func:`cut`).

    Args:
        row: of a pack.
        tokenizer: the model's.
        start: what the prefix begins with; by default the tokenizer's start.
    """
    prefix, suffix = _passage(row, tokenizer)
    return begun(prefix, start_ids(tokenizer) if start is None else start), suffix


def text_ids(row: Mapping[str, Any], tokenizer: Any, start: Sequence[int] | None = None) -> list[int]:
    """The ids of a row of clean text, after ``start``, by default the tokenizer's."""
    return begun(_text(row, tokenizer), start_ids(tokenizer) if start is None else start)


def moved(rows: Iterable[Mapping[str, Any]], tokenizer: Any) -> int:
    """How many passages are cut before the place where their texts are (see :func:`cut`)."""
    texts = ((row["prefix_text"], row["suffix_text"]) for row in rows if not row.get("prefix_ids"))
    return sum(cut(*pair, tokenizer)[2] for pair in texts)


def moved_note(kind: str, rows: Sequence[Mapping[str, Any]], tokenizer: Any) -> str:
    """One line that says how many passages of a pack's file are cut earlier (see :func:`moved`), or ``""``."""
    if kind not in packs.PASSAGES or not (n := moved(rows, tokenizer)):
        return ""
    return f"{n} of {len(rows)} passages of {kind}.jsonl are cut earlier, before a token or white space at their cut"


def _passage(row: Mapping[str, Any], tokenizer: Any) -> tuple[list[int], list[int]]:
    if row.get("prefix_ids"):
        return list(row["prefix_ids"]), list(row["suffix_ids"])
    return cut(row["prefix_text"], row["suffix_text"], tokenizer)[:2]


def _text(row: Mapping[str, Any], tokenizer: Any) -> list[int]:
    return list(row["ids"]) if row.get("ids") else encode(row["text"], tokenizer)


def _parts(row: Mapping[str, Any], kind: str, tokenizer: Any) -> dict[str, list[int]]:
    """The ids of a row by name, without a start: ``prefix`` and ``suffix`` of a passage, ``text`` of clean text."""
    if kind in packs.PASSAGES:
        return dict(zip(("prefix", "suffix"), _passage(row, tokenizer), strict=True))
    return {"text": _text(row, tokenizer)}


def length(row: Mapping[str, Any], kind: str, tokenizer: Any) -> int:
    """How many tokens a model is given of a row of passages or clean text, the start counted."""
    if kind in packs.PASSAGES:
        return sum(map(len, passage_ids(row, tokenizer)))
    return len(text_ids(row, tokenizer, first_ids(tokenizer)))


def validation_errors(row: Mapping[str, Any], kind: str, model: str, tokenizer: Any, vocabulary: int) -> Iterator[str]:
    """Why a row of a pack does not fit a model, one sentence an error. The row's length is not checked.

    Args:
        row: of passages or of clean text.
        kind: the row's file, without ``.jsonl``.
        model: the model's name.
        tokenizer: the model's.
        vocabulary: how many ids the model has.
    """
    parts = _parts(row, kind, tokenizer)
    empty = [name for name, ids in parts.items() if not ids]
    most = max((i for ids in parts.values() for i in ids), default=0)
    if empty:
        yield f"has no token of its own in its {empty[0]}"
    elif most >= vocabulary:
        yield f"has the id {most}: {model} has {vocabulary}, from 0 on"
    elif len(parts.get("text", [0, 0])) < 2 and not first_ids(tokenizer):
        yield f"has one token alone, and {model} has none to begin a text with"
    else:
        for name in ("prefix_ids", "suffix_ids", "ids"):
            text = row.get(name.replace("ids", "text"))
            if row.get(name) and text and not spell(row[name], text, tokenizer):
                yield f"its {name} spell another text under {model}'s tokenizer"


def spell(ids: Sequence[int], text: str, tokenizer: Any) -> bool:
    """Whether the ids decode to this text, white space aside."""
    return "".join(tokenizer.decode(ids).split()) == "".join(text.split())
