"""What the tasks ask: the functions that lm-eval calls for ``custom_dataset``.

Each takes the task's metadata as keywords and returns one part called ``test``. ``pack`` and ``split`` may be given by
``--metadata``; the default is the shipped pack's test part.
"""

from __future__ import annotations

from typing import Any

import datasets

from . import generators, packs

DEFAULT_PACK = "olmo-tiny"
OTHERS = 8
"""Prefixes that a suffix's prior is the mean over."""


def pack_rows(
    *, kind: str, pack: str = DEFAULT_PACK, split: str = "test", probe: str = "", **_: object
) -> dict[str, datasets.Dataset]:
    """The rows of one file of a pack, each with the pack's name.

    Args:
        kind: the file.
        pack: its pack.
        split: the part.
        probe: what is asked of a passage instead of its continuation (see ``harness.probes``); each row then names it.
            Of ``prior`` each has ``others``, the next eight of the pack's twins.

    Raises:
        UserError: no such pack, or a broken line.
    """
    found = packs.find(pack)
    rows = [{**row, "pack": pack} for row in found.rows(kind, packs.check_split(split))]
    if probe:
        rows = [{**row, "probe": probe} for row in rows]
    if probe == "prior":
        twins = found.rows("twins", split)
        for i, row in enumerate(rows):
            row["others"] = [twins[(i + j) % len(twins)] for j in range(1, OTHERS + 1)]
    return {"test": datasets.Dataset.from_list(rows)}


def generated(*, family: str, n: int, split: str = "test", seed: int = 0, **_: object) -> dict[str, datasets.Dataset]:
    """``n`` different items of a family: ``prompt, choices, gold, answer``."""
    items = generators.distinct(family, packs.check_split(split), n, seed)
    rows: list[dict[str, Any]] = [
        {"prompt": i.prompt, "choices": list(i.choices), "gold": i.gold, "answer": i.answer} for i in items
    ]
    return {"test": datasets.Dataset.from_list(rows)}
