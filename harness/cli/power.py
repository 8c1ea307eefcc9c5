"""``memsplit power``: the smallest change that a record's items would show, and how many a given change needs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from typing import Any

from ...results.records import record
from ...results.records.record import Record
from ...results.records.store import Store
from . import lazy
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
        type=_difference,
        default=0.02,
        metavar="D",
        help="the true change, in the metric's unit; of perplexity, as a share of the base's (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    content, paired = _read(Store(arguments.store).find(arguments.record))
    changes, needed = paired.changes(), paired.clusters_needed(arguments.difference)
    if arguments.json:
        rows = [
            {"axis": key[0], "metric": key[1], **_plain(change), "needed": needed[key]}
            for key, change in changes.items()
        ]
        found = {"record": content["id"], "difference": arguments.difference, "metrics": rows}
        print(json.dumps(record.plain(found), allow_nan=False))
        return 0
    terminal = lazy.terminal
    title = f"{content['model']}  {content['spec']}"
    terminal.console().print(terminal.power(title, changes, needed, arguments.difference))
    return 0


def _plain(change: lazy.paired.Change) -> dict[str, Any]:
    """A change's fields without ``retained``, which is in the record."""
    return {name: value for name, value in dataclasses.asdict(change).items() if name != "retained"}


def _read(found: Record) -> tuple[dict[str, Any], lazy.paired.Paired]:
    """A record's content, and its items paired with the seed that it was written with."""
    seed = found.content["arguments"]["seed"]
    return found.content, lazy.paired.Paired(found.items("base"), found.items("edit"), found.chance, seed)


def _difference(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a number above 0")
    return value
