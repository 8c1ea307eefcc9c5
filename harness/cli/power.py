"""``memsplit power``: what a record's items could show, and how many it would take."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from ...results.records import record
from ...results.records.store import Store
from .runs import NAME, add_store

if TYPE_CHECKING:
    from ...results.records.record import Record
    from ...results.statistics.paired import Change, Paired


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "power",
        help="how small a change a record's items would show, and how many a given one needs",
        description="How small a change a record's items would show, and how many items (clusters, where several are "
        "about one fact or passage) a given one needs to be seen in 80 % of all cases, two-sided at 5 %.",
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
    parser.set_defaults(command=power)


def power(arguments: argparse.Namespace) -> int:
    """``memsplit power``."""
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
    from ...results.views import terminal

    title = f"{content['model']}  {content['spec']}"
    terminal.console().print(terminal.power(title, changes, needed, arguments.difference))
    return 0


def _plain(change: Change) -> dict[str, Any]:
    """All but what is retained, which is in the record."""
    return {name: value for name, value in dataclasses.asdict(change).items() if name != "retained"}


def _read(found: Record) -> tuple[dict[str, Any], Paired]:
    """A record and its items, paired as when it was written."""
    from ...results.statistics.paired import Paired

    seed = found.content["arguments"]["seed"]
    return found.content, Paired(found.items("base"), found.items("edit"), found.chance, seed)


def _difference(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a number above 0")
    return value
