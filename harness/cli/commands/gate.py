"""``memsplit gate``: pass or fail an edit by a policy."""

from __future__ import annotations

import argparse
import json
import os
import sys

from ....errors import UserError
from ....files import write_whole
from ....results.gate.policy import given
from ....results.records import record
from ....results.records.store import Store
from ...common.runtime import quiet
from ...evaluation import gating
from .. import lazy
from ..arguments import SPEC, add_memory, add_model, add_scoring, check_scoring, path

NAMES = {"attacks": "--attack", "default_attacks": "--attacks"}
"""Options that are not called as what they hold."""
OF_SCORING = (*gating.SCORED, "default_attacks")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Pass or fail an edit: enough recitation removed, enough memory erased also after attacks, each kept axis not "
        "worse than that of the base, or of another edit, by more than a margin, perplexity within its limit. Exit "
        "code 0: PASS; 1: FAIL; 3: INCONCLUSIVE, for too few items; 2: bad input."
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
    parser.add_argument(
        "--policy", type=path, metavar="FILE", help="a TOML file of criteria (default: see docs/gate.md)"
    )
    add_model(parser)
    add_scoring(parser)
    add_memory(parser)
    parser.set_defaults(run=run, scored_defaults={name: parser.get_default(name) for name in OF_SCORING})
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--junit", type=path, metavar="FILE", help="write JUnit XML, a test case a criterion")
    parser.add_argument(
        "--github",
        action="store_true",
        default=os.environ.get("GITHUB_ACTIONS") == "true",
        help="print annotations for GitHub (default: where GITHUB_ACTIONS is true)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command; the exit code is the verdict's.

    Raises:
        UserError: the policy, a record or an option is bad.
    """
    policy = given(arguments.policy)
    if arguments.junit:
        if arguments.junit.is_dir():
            raise UserError(f"--junit {str(arguments.junit)!r} is a folder: expected a file")
        record.check_writable(arguments.junit.parent, "--junit")
    if arguments.record:
        for name, default in arguments.scored_defaults.items():
            if getattr(arguments, name) != default:
                option = NAMES.get(name, f"--{name.replace('_', '-')}")
                raise UserError(f"{option} is of what is scored, and --record was scored: expected one of the two")
        store = Store(arguments.out)
        new = store.find(arguments.record)
        old = store.find(arguments.against) if arguments.against else None
    else:
        old = gating.known_record(arguments.against, arguments.out)
        specs = [arguments.against] if arguments.against and old is None else []
        request = gating.with_attacks(policy, check_scoring(arguments, [arguments.edit, *specs]))
        gating.check_policy(policy, request)
        quiet()
        new, old = gating.sides(lazy.runner.run(request).records, old)
    verdict = lazy.judge.verdict(new, old, policy)
    _report(verdict, arguments)
    return verdict.exit_code


def _report(verdict: lazy.verdict.Verdict, arguments: argparse.Namespace) -> None:
    """Write and print the verdict in each form that an option asks for."""
    reports = lazy.reports
    if arguments.junit:
        write_whole(arguments.junit, reports.junit(verdict))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(reports.markdown(verdict))
    if not arguments.json:
        verdict.show(lazy.terminal.console())
    if arguments.github:  # GitHub reads either stream; a JSON object stands alone on its own
        for line in reports.github(verdict):
            print(line, file=sys.stderr if arguments.json else sys.stdout)
    print(json.dumps(reports.to_json(verdict), allow_nan=False) if arguments.json else repr(verdict))
