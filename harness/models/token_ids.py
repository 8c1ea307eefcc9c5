"""The token ids of a pack's rows: the row's own, or its text under the model's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...tasks import packs


def passage_ids(row: Mapping[str, Any], tokenizer: Any) -> tuple[list[int], list[int]]:
    """A passage's (prefix ids, suffix ids).

    A text is cut as lm-eval cuts context and continuation: the whole text is encoded, and its first ids, as many as the
    prefix alone has, are the prefix. Spaces at the prefix's end belong to the suffix.
    """
    if row.get("prefix_ids"):
        return list(row["prefix_ids"]), list(row["suffix_ids"])
    prefix = row["prefix_text"].rstrip()
    whole = _encode(prefix + row["prefix_text"][len(prefix) :] + row["suffix_text"], tokenizer)
    cut = len(_encode(prefix, tokenizer))
    return whole[:cut], whole[cut:]


def _parts(row: Mapping[str, Any], kind: str, tokenizer: Any) -> dict[str, list[int]]:
    """The ids of a row by name: ``prefix`` and ``suffix`` of a passage, ``text`` of clean text."""
    if kind in packs.PASSAGES:
        return dict(zip(("prefix", "suffix"), passage_ids(row, tokenizer), strict=True))
    return {"text": text_ids(row, tokenizer)}


def length(row: Mapping[str, Any], kind: str, tokenizer: Any) -> int:
    """How many tokens a row of passages or clean text has."""
    return sum(map(len, _parts(row, kind, tokenizer).values()))


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
    else:
        for name in ("prefix_ids", "suffix_ids", "ids"):
            text = row.get(name.replace("ids", "text"))
            if row.get(name) and text and not spell(row[name], text, tokenizer):
                yield f"its {name} spell another text under {model}'s tokenizer"


def spell(ids: Sequence[int], text: str, tokenizer: Any) -> bool:
    """Whether the ids decode to this text, white space aside."""
    return "".join(tokenizer.decode(ids).split()) == "".join(text.split())


def text_ids(row: Mapping[str, Any], tokenizer: Any) -> list[int]:
    """The ids of a row of clean text."""
    return list(row["ids"]) if row.get("ids") else _encode(row["text"], tokenizer)


def _encode(text: str, tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
