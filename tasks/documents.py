"""The items of memsplit's tasks: functions that lm-eval calls for ``custom_dataset``, and for prompts and answers.

lm-eval passes a task's ``metadata`` and ``dataset_kwargs`` as keywords. ``pack`` and ``split`` come from the run, or
from lm-eval's option ``--metadata``; the defaults are the shipped packs and the split ``test``. The items are always
returned as the part ``test``, whichever split they are of, because that is the part that the tasks evaluate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets

from . import packs
from .extra_fields import uniform
from .items import families
from .items.generators import Item
from .measured import Rows

DEFAULT_PACK = "olmo-tiny+world"
EXAMPLES = 4
"""Answered items that a prompt begins with (``num_fewshot`` of ``_generated.yaml``)."""
OTHERS = 8
"""Number of other prefixes over which the probe ``prior`` takes the mean probability of a suffix."""


def pack_rows(
    *, kind: str, pack: str = DEFAULT_PACK, split: str = "test", probe: str = "", **_: object
) -> dict[str, Rows]:
    """The rows of one file of a pack.

    Args:
        kind: the file, such as ``memorized``.
        pack: the pack's name or folder.
        split: ``dev`` or ``test``.
        probe: the probe to run on each passage instead of its continuation (see ``lm.probes``), if any.

    Returns:
        One row for each line, its unknown fields of one type each (see :mod:`.extra_fields`). Each also has the pack's
        name as ``pack``, and ``None`` for a field that only other rows have. With a probe each has its name as
        ``probe``; for the probe ``prior`` each has ``others``, the next :data:`OTHERS` passages of the pack's twins,
        the passage itself excluded.

    Raises:
        UserError: there is no such pack, or one of its lines is broken.
    """
    found = packs.find(pack)
    given = uniform(found.rows(kind, packs.check_split(split)), packs.KNOWN)
    common = {**dict.fromkeys(name for row in given for name in row), "pack": pack}  # datasets goes by the first row
    rows = [{**common, **row, "pack": pack, **({"probe": probe} if probe else {})} for row in given]
    if probe == "prior":
        twins = uniform(found.rows("twins", split), packs.KNOWN)
        for i, row in enumerate(rows):
            row["others"] = [twins[(i + j) % len(twins)] for j in range(1, min(OTHERS, len(twins) - 1) + 1)]
    return {"test": Rows(datasets.Dataset.from_list(rows))}


def generated(
    *, family: str, n: int, split: str = "test", seed: int = 0, shots: int = 0, **_: object
) -> dict[str, datasets.Dataset]:
    """Generated items.

    Args:
        family: the generator (see ``items.families``).
        n: how many different items.
        split: ``dev`` or ``test``; no item is in both.
        seed: of the generator.
        shots: how many answered examples to return beside them, as the part ``train``.

    Returns:
        Rows of ``prompt``, ``choices``, ``gold`` (the index of the right choice), ``answer`` and, if the family has
        levels, ``level``.
    """
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
    """The prompt of a generated item for any model; the examples before it have the same form."""
    return f"Question: {row['prompt']}\nAnswer:"


def answer_line(row: Mapping[str, Any]) -> str:
    """The answer with the end of its line, so that "12" is not taken as a correct beginning of "123".

    In tokenizers of GPT-2's, Llama's and cl100k's kind a line end never shares a token with the digit before it or the
    letter after it, so it is the same token here and in the examples. A full stop would not do: tokenizers of cl100k's
    kind merge it with the line end that follows it in the examples.
    """
    return f" {row['answer']}\n"
