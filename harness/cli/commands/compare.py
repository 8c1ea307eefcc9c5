"""``memsplit compare``: edits against one another, on the same items."""

from __future__ import annotations

import argparse
import json

from ....errors import UserError
from ....results.records.encoding import plain
from ....results.records.store import Store
from .. import lazy
from ..arguments import positive
from .runs import NAME, add_store

SHOWN = 5
"""Flipped items that ``--items`` shows for each task and direction where it is given no number."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Compare edits with one another, on the items that both were scored on: the second and all that follow with "
        "the first."
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
        help="show the items that flipped, N of each task and direction (default: %(const)s), with the models' answers",
    )
    add("--all-metrics", action="store_true", help="show every metric of recitation")
    add("--json", action="store_true", help="print one JSON object; with --items it holds all that flipped")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if len(arguments.records) < 2:
        raise UserError(f"one record {arguments.records[0]!r}: expected two or more, or base and one")
    compare, terminal = lazy.compare, lazy.terminal
    sides = compare.sides(Store(arguments.store), arguments.records)
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
