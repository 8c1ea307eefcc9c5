"""What the tasks ask: the functions that lm-eval calls for ``custom_dataset``.

Each takes the task's metadata as keywords and returns one part called ``test``. ``pack`` and ``split`` may be given by
``--metadata``; the default is the shipped pack's test part.
"""

from __future__ import annotations

from typing import Any

import datasets

from . import generators, packs

DEFAULT_PACK = "olmo-tiny"


def pack_rows(*, kind: str, pack: str = DEFAULT_PACK, split: str = "test", **_: object) -> dict[str, datasets.Dataset]:
    """The rows of one file of a pack, each with the pack's name.

    Raises:
        UserError: no such pack, or a broken line.
    """
    rows = packs.find(pack).rows(kind, packs.check_split(split))
    return {"test": datasets.Dataset.from_list([{**row, "pack": pack} for row in rows])}


def generated(*, family: str, n: int, split: str = "test", seed: int = 0, **_: object) -> dict[str, datasets.Dataset]:
    """``n`` different items of a family: ``prompt, choices, gold, answer``."""
    items = generators.distinct(family, packs.check_split(split), n, seed)
    rows: list[dict[str, Any]] = [
        {"prompt": i.prompt, "choices": list(i.choices), "gold": i.gold, "answer": i.answer} for i in items
    ]
    return {"test": datasets.Dataset.from_list(rows)}
