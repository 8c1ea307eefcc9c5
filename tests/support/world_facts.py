"""The pack ``world`` and its questions, read once for the tests."""

import re
from typing import Any

from memsplit.tasks import packs
from memsplit.tasks.items import world

PACK = packs.find("world")
FACTS = {fact["id"]: fact for fact in PACK.rows("facts")}
RELATIONS = world.read_relations(packs.SHIPPED / "world" / world.RELATIONS)
ROWS = {kind: PACK.rows(kind) for kind in world.KINDS}
ASKED: dict[str, str] = {row["fact"]: row["question"] for row in reversed(ROWS["facts_closed"])}
"""Each fact's question as closed book asks it first."""
Doc = dict[str, Any]


def says(text: str, answer: str) -> bool:
    """Whether a text holds an answer as words of its own, in any case."""
    return re.search(rf"(?<![\w.]){re.escape(answer)}(?!\w)", text, re.IGNORECASE) is not None


def right(fact: Doc) -> list[str]:
    return [fact["answer"], *fact.get("aliases", [])]
