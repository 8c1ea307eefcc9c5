"""``memsplit eval``: score a model before and after edits."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from ...common.runtime import quiet
from ...evaluation.task_selection import not_asked
from .. import lazy
from ..arguments import SPEC, add_memory, add_model, add_scoring, check_scoring, task_names
from . import listings

LISTINGS: dict[str, Callable[[str, list[str], list[Path]], list[str]]] = {
    "list_models": listings.models,
    "list_edits": listings.edits,
    "list_tasks": listings.tasks,
}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = "Score a model before and after edits, on the same items."
    add_model(parser)
    add = parser.add_argument
    add("--edit", dest="edits", action="append", default=[], metavar="SPEC", help=f"{SPEC}; repeatable (default: kfac)")
    add_scoring(parser)
    add_memory(parser)
    add("--all-metrics", action="store_true", help="show every metric of recitation, not only the main ones")
    add("--rescore", action="store_true", help="score again what was scored before with the same weights and items")
    add("--resume", action="store_true", help="continue a killed evaluation: keep the records that it wrote to --out")
    add("--json", action="store_true", help="print one JSON object instead of the table")
    add("--list-models", action="store_true", help="list the names for --model")
    add("--list-edits", action="store_true", help="list the names for --edit, with their keys")
    add("--list-tasks", action="store_true", help="list the tasks of the suite, or those that --tasks names")
    add("--dry-run", action="store_true", help="say what would run and what is cached, and stop")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    chosen = [listing for name, listing in LISTINGS.items() if getattr(arguments, name)]
    for listing in chosen:
        print("\n".join(listing(arguments.suite, task_names(arguments), arguments.include_path)))
    if chosen:
        return 0
    request = check_scoring(arguments, arguments.edits or ["kfac"], write=not arguments.dry_run)
    quiet()
    if arguments.dry_run:
        print("\n".join(lazy.estimate.describe(request)))
        return 0
    report = lazy.runner.run(request)
    if arguments.json:
        print(json.dumps(report.to_json(), allow_nan=False))
    else:
        _print(report, arguments.all_metrics)
    for line in (*not_asked(report.skipped), *report.notes):
        print(line, file=sys.stderr)
    return 0


def _print(report: lazy.runner.Report, all_metrics: bool) -> None:
    """Print a table for each record."""
    console = lazy.terminal.console()
    for written in report.records:
        title = f"{report.model}  {written.spec}"
        console.print(lazy.terminal.comparison(title, written.changes, written.summary, all_metrics=all_metrics))
        for shown in (*lazy.terminal.left_out(written), *lazy.terminal.memory(written)):
            console.print(shown)
        if written.content.risk.base.discoverable:
            console.print(lazy.terminal.risk(written.content.risk))
        console.print(f"record: {written.path}\n", soft_wrap=True)
