"""``memsplit gate``: whether an edit does what a policy asks of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from ...errors import UserError, unknown
from ...files import replacing
from ...results.gate.policy import Policy, given
from ...results.records import record
from ...results.records.axes import RECITATION
from ...results.records.store import Store
from ..evaluation.request import Request, choose_parts
from ..models import model_table
from .arguments import SPEC, add_model, add_scoring, check_scoring, path, quiet

if TYPE_CHECKING:
    from pathlib import Path

    from ...results.gate.verdict import Verdict
    from ...results.records.record import Record


SCORED = (
    *("model", "pack", "corpus", "factor_tokens", "device", "dtype", "parallelize"),
    *("suite", "tasks", "split", "limit", "batch_size", "seed"),
)
"""Options that say what is scored, and how."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "gate",
        help="pass or fail an edit by a policy",
        description="Pass or fail an edit: enough recitation removed, each kept axis not worse than that of the base, "
        "or of another edit, by more than a margin, perplexity within its limit. Exit code 0: PASS; 1: FAIL; "
        "3: INCONCLUSIVE, for too few items; 2: bad input.",
    )
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--edit", metavar="SPEC", help=f"the edit, which is scored: {SPEC}")
    chosen.add_argument(
        "--record", metavar="RECORD", help="a record of it, by path, id, or spec in --out; no model is loaded"
    )
    parser.add_argument(
        "--against",
        metavar="OLD",
        help="another edit, which kept axes, perplexity and recitation are compared with: a spec, or a record's path "
        "or id in --out; with --record always a record (default: the base)",
    )
    parser.add_argument("--policy", type=path, metavar="FILE", help="TOML: what is asked (default: see docs/gate.md)")
    add_model(parser)
    add_scoring(parser)
    parser.set_defaults(asked={name: parser.get_default(name) for name in SCORED})
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--junit", type=path, metavar="FILE", help="write JUnit XML, a test case a criterion")
    parser.add_argument(
        "--github",
        action="store_true",
        default=os.environ.get("GITHUB_ACTIONS") == "true",
        help="print annotations for GitHub (default: where GITHUB_ACTIONS is true)",
    )
    parser.set_defaults(command=gate)


def gate(arguments: argparse.Namespace) -> int:
    """``memsplit gate``."""
    policy = given(arguments.policy)
    if arguments.junit:
        if arguments.junit.is_dir():
            raise UserError(f"--junit {str(arguments.junit)!r} is a folder: expected a file")
        record.check_writable(arguments.junit.parent, "--junit")
    if arguments.record:
        for name, default in arguments.asked.items():
            if getattr(arguments, name) != default:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} is of what is scored, and --record was scored: expected one of the two")
        store = Store(arguments.out)
        new = store.find(arguments.record)
        old = store.find(arguments.against) if arguments.against else None
    else:
        old = known_record(arguments.against, arguments.out)
        specs = [arguments.against] if arguments.against and old is None else []
        request = check_scoring(arguments, [arguments.edit, *specs])
        check_policy(policy, request)
        quiet()
        new, old = scored(request, old)
    from ...results.gate.judge import verdict

    found = verdict(new, old, policy)
    _report(found, arguments)
    return found.exit_code


def known_record(against: str | None, folder: Path) -> Record | None:
    """The record that is meant, or ``None`` where the text is an edit's spec (or nothing).

    Args:
        against: a JSON file, a record's id or the hash that it ends in; or a spec.
        folder: of the records.

    Raises:
        UserError: the record cannot be read.
    """
    if against is None:
        return None
    store = Store(folder)
    is_id = any(against in (path.stem, path.stem.rpartition("-")[2]) for path in store.paths())
    return store.find(against) if is_id or against.endswith(".json") else None


def scored(request: Request, old: Record | None) -> tuple[Record, Record | None]:
    """Score the edits of a request: the new one and, where there is no record of it, the old one.

    Raises:
        UserError: the request cannot be met.
    """
    from ..evaluation.runner import run

    new, *others = run(request).records
    return new, others[0] if others else old


def check_policy(policy: Policy, request: Request) -> None:
    """Refuse margins of what will not be scored, before anything is."""
    entry = model_table.resolve(request.model, request.pack, request.corpus)
    parts, _ = choose_parts(request.suite, request.tasks, entry)
    known = {part.axis for part in parts} | {f"{part.axis}/{name}" for part in parts for name in part.metrics.values()}
    for name in policy.margins:
        if name not in known | {RECITATION}:
            raise unknown("axis in the policy's [margins]", name, known)


def _report(found: Verdict, arguments: argparse.Namespace) -> None:
    from ...results.gate import reports
    from ...results.views import terminal

    if arguments.junit:
        with replacing(arguments.junit) as partial:
            partial.write_text(reports.junit(found), encoding="utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(reports.markdown(found))
    if not arguments.json:
        found.show(terminal.console())
    if arguments.github:  # GitHub reads either stream; a JSON object stands alone on its own
        for line in reports.github(found):
            print(line, file=sys.stderr if arguments.json else sys.stdout)
    print(json.dumps(reports.to_json(found), allow_nan=False) if arguments.json else repr(found))
