"""``memsplit compare``: edits against one another, on the same items."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...results.records.encoding import plain
from ...results.records.store import Store
from .arguments import positive
from .runs import NAME, add_store

if TYPE_CHECKING:
    from ...results.statistics.compare import Side

SHOWN = 5
"""Flipped items that are shown a task and direction, unless more are asked for."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "compare",
        help="compare edits with one another, item by item",
        description="Compare edits with one another, on the items that both were asked: the second and all that follow "
        "with the first.",
    )
    add = parser.add_argument
    add("records", nargs="+", metavar="RECORD", help=f"{NAME}; the first may be 'base', the unedited model")
    add_store(parser)
    add(
        "--items",
        nargs="?",
        type=positive,
        const=SHOWN,
        metavar="N",
        help="show the items that flipped, N of each task and direction (default: %(const)s), with what was said",
    )
    add("--all-metrics", action="store_true", help="every metric of recitation")
    add("--json", action="store_true", help="print one JSON object; with --items all that flipped are in it")
    parser.set_defaults(command=compare)


def compare(arguments: argparse.Namespace) -> int:
    """``memsplit compare``."""
    if len(arguments.records) < 2:
        raise UserError(f"one record {arguments.records[0]!r}: expected two or more, or base and one")
    sides = _sides(Store(arguments.store), arguments.records)
    from ...results.statistics import compare
    from ...results.views import terminal

    comparisons = compare.compare(sides)
    flipped = [compare.flips(one.first, one.other) for one in comparisons] if arguments.items else None
    if arguments.json:
        print(json.dumps(plain(compare.to_json(comparisons, flipped)), allow_nan=False))
        return 0
    console = terminal.console()
    for i, one in enumerate(comparisons):
        console.print(terminal.against(one, all_metrics=arguments.all_metrics))
        if flipped is not None:
            console.print(terminal.flips(flipped[i], one.first.label, one.other.label, arguments.items), soft_wrap=True)
    return 0


def _sides(store: Store, names: list[str]) -> list[Side]:
    """The sides that are named; ``base`` is the first record's that is one."""
    from ...results.statistics.compare import Side

    if "base" in names[1:]:
        raise UserError("'base' comes first: expected memsplit compare base RECORD …")
    records = [store.find(name) for name in names if name != "base"]
    sides = [Side(found) for found in records]
    return [Side(records[0], "base"), *sides] if names[0] == "base" else sides
