"""The token ids of a pack's rows: those written down, or the model's own of their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def passage_ids(row: Mapping[str, Any], tokenizer: Any) -> tuple[list[int], list[int]]:
    """A passage's (prefix ids, suffix ids).

    A text is cut as lm-eval cuts context and continuation: the whole is encoded, and what the prefix alone takes up is
    the prefix; spaces at the prefix's end go to the suffix.
    """
    if row.get("prefix_ids"):
        return list(row["prefix_ids"]), list(row["suffix_ids"])
    prefix = row["prefix_text"].rstrip()
    whole = _encode(prefix + row["prefix_text"][len(prefix) :] + row["suffix_text"], tokenizer)
    cut = len(_encode(prefix, tokenizer))
    return whole[:cut], whole[cut:]


def spell(ids: Sequence[int], text: str, tokenizer: Any) -> bool:
    """Whether the ids are of this text, but for white space."""
    return "".join(tokenizer.decode(ids).split()) == "".join(text.split())


def text_ids(row: Mapping[str, Any], tokenizer: Any) -> list[int]:
    """The ids of a row of clean text."""
    return list(row["ids"]) if row.get("ids") else _encode(row["text"], tokenizer)


def _encode(text: str, tokenizer: Any) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
