"""``memsplit power``: the smallest change that a record's items would show, and how many a given change needs."""

from __future__ import annotations

import argparse
import json
from typing import Any

import msgspec

from ....results.records.encoding import plain
from ....results.records.schema import Change
from ....results.records.store import Store
from .. import lazy
from ..arguments import above_zero
from .runs import NAME, add_store


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "How small a change a record's items would show, and how many items (clusters, where several are about one "
        "fact or passage) a given change needs to be seen in 80 % of all cases, two-sided at 5 %."
    )
    parser.add_argument("record", metavar="RECORD", help=NAME)
    add_store(parser)
    parser.add_argument(
        "--difference",
        type=above_zero,
        default=0.02,
        metavar="D",
        help="the true change, in the metric's unit; of perplexity, as a share of the base's (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    record = Store(arguments.store).find(arguments.record)
    paired = lazy.paired.Paired.of(record)
    changes, needed = paired.changes(), paired.clusters_needed(arguments.difference)
    if arguments.json:
        rows = [
            {"axis": key[0], "metric": key[1], **_row(change), "needed": needed[key]} for key, change in changes.items()
        ]
        found = {"record": record.id, "difference": arguments.difference, "metrics": rows}
        print(json.dumps(plain(found), allow_nan=False))
        return 0
    terminal = lazy.terminal
    title = f"{record.content.model}  {record.spec}"
    terminal.console().print(terminal.power(title, changes, needed, arguments.difference))
    return 0


def _row(change: Change) -> dict[str, Any]:
    """The change without its normalized score, which is in the record."""
    return {name: value for name, value in msgspec.structs.asdict(change).items() if name != "normalized"}
