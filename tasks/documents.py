"""What the tasks ask: the functions that lm-eval calls for ``custom_dataset``.

Each takes the task's metadata as keywords and returns a part called ``test``. ``pack`` and ``split`` may be given by
``--metadata``; the default is the shipped packs' test part, of the first that has what is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets

from . import packs
from .items import families
from .items.generators import Item

DEFAULT_PACK = "olmo-tiny+world"
EXAMPLES = 4
"""Answered items that a prompt begins with (``num_fewshot`` of ``_generated.yaml``)."""
OTHERS = 8
"""Prefixes that a suffix's prior is the mean over."""


def pack_rows(
    *, kind: str, pack: str = DEFAULT_PACK, split: str = "test", probe: str = "", **_: object
) -> dict[str, datasets.Dataset]:
    """The rows of one kind of a pack, each with the pack's name; what a row has not and another has is ``None``.

    Args:
        kind: of the rows.
        pack: its pack.
        split: the part.
        probe: what is asked of a passage instead of its continuation (see ``lm.probes``); each row then names it.
            Of ``prior`` each has ``others``, the next eight of the pack's twins, never itself.

    Raises:
        UserError: no such pack, or a broken line.
    """
    found = packs.find(pack)
    given = found.rows(kind, packs.check_split(split))
    common = {
        **dict.fromkeys(name for row in given for name in row),
        "pack": pack,
    }  # a data set has its first row's names
    rows = [{**common, **row, **({"probe": probe} if probe else {})} for row in given]
    if probe == "prior":
        twins = found.rows("twins", split)
        for i, row in enumerate(rows):
            row["others"] = [twins[(i + j) % len(twins)] for j in range(1, min(OTHERS, len(twins) - 1) + 1)]
    return {"test": datasets.Dataset.from_list(rows)}


def generated(
    *, family: str, n: int, split: str = "test", seed: int = 0, shots: int = 0, **_: object
) -> dict[str, datasets.Dataset]:
    """``n`` different items of a family: ``prompt, choices, gold, answer, level``; ``shots`` examples are ``train``."""
    parts = {"test": list(families.distinct(family, packs.check_split(split), n, seed))}
    if shots:
        parts["train"] = families.shots(family, shots, seed)
    return {name: datasets.Dataset.from_list([_row(item) for item in items]) for name, items in parts.items()}


def generated_with_examples(**metadata: Any) -> dict[str, datasets.Dataset]:
    """:func:`generated` with :data:`EXAMPLES` answered items as the part ``train``, the examples of every prompt."""
    return generated(**{"shots": EXAMPLES, **metadata})


def _row(item: Item) -> dict[str, Any]:
    row = {"prompt": item.prompt, "choices": list(item.choices), "gold": item.gold, "answer": item.answer}
    return {**row, "level": item.level} if item.level else row


def question(row: Mapping[str, Any]) -> str:
    """What is asked of any model, which sees the same form in the examples before it."""
    return f"Question: {row['prompt']}\nAnswer:"


def answer_line(row: Mapping[str, Any]) -> str:
    """The answer and the end of its line, so that a number that goes on is not taken for it.

    A line end is never one token with the digit before it or the letter after it, in GPT-2's, Llama's or cl100k's
    kind of tokenizer, so it is the same token here and in the examples. A full stop is not: cl100k's kind makes one
    token of it and the line end that follows it in the examples.
    """
    return f" {row['answer']}\n"
