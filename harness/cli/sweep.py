"""``memsplit sweep``: a grid of edits on the dev part, one chosen, and that one reported on test."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError, unknown
from ...model_edits import grid
from ...results.records import record
from ..evaluation.request import Request, choose_parts, describe, fill_in
from ..models import model_table
from .arguments import add_items, add_model, check_model, device, path, positive, quiet, share

if TYPE_CHECKING:
    from ..sweep.sweep import Found, Sweep
    from ..sweep.workers import Engine

LAUNCHERS = ("none", "ray")
NEEDED = ("recitation", "logic", "fluency")
"""Axes without which no edit can be chosen."""
SHOWN = 12
"""Edits that the table shows."""
WIDTH = 120
"""Columns where the output is no terminal, so that a spec is one word."""


def add(commands: Any) -> None:
    """Declare the command."""
    text = "score a grid of edits on the dev part, choose one, and report it once on test"
    parser = commands.add_parser("sweep", help=text, description=f"{text.capitalize()}.")
    add_model(parser)
    add_items(parser)
    add = parser.add_argument
    add(
        "--grid",
        dest="grids",
        action="append",
        required=True,
        metavar="SPECS",
        help="edits, as in 'kfac-{60..95..5}:proj={up,gate+up}@{0,0.5}': alternatives {a,b} and ranges "
        "{from..to[..step]}; repeatable",
    )
    add("--limit", type=positive, metavar="N", help="only the first N items of each task of dev")
    add("--test-limit", type=positive, metavar="N", help="only the first N items of each task of test")
    add("--no-test", dest="test", action="store_false", help="leave the chosen edit unreported on test")
    add(
        "--max-perplexity-ratio",
        type=_ratio,
        default=1.05,
        metavar="X",
        help="choose none with a higher perplexity(edit) / perplexity(base) (default: %(default)s)",
    )
    add(
        "--min-kept",
        type=_least,
        action="append",
        default=[],
        metavar="AXIS=X",
        help="choose none that keeps less of an axis than this share; repeatable",
    )
    add("--baseline", metavar="SPEC", help="sweep this too, and compare the choice with it (default: kfac, if swept)")
    add("--trials", type=positive, metavar="N", help="search the grid by N edits that Optuna proposes, not by all")
    add("--launcher", default="none", metavar="NAME", help=f"one of {', '.join(LAUNCHERS)} (default: %(default)s)")
    add("--workers", type=positive, metavar="N", help="of Ray (default: one a GPU, or for every four processors)")
    add("--address", metavar="ADDRESS", help="of a running Ray cluster, or auto (default: start one on this machine)")
    add(
        "--out",
        type=path,
        default=Path("memsplit-sweep"),
        metavar="FOLDER",
        help="where records go, and the report beside them (default: %(default)s)",
    )
    add("--json", action="store_true", help="print one JSON object instead of the table")
    add("--dry-run", action="store_true", help="say what would run and how long it may take, and stop")
    parser.set_defaults(command=sweep)


def sweep(arguments: argparse.Namespace) -> int:
    """``memsplit sweep``: exit code 1 where no edit is within the bounds."""
    asked = _check(arguments)
    quiet()
    if arguments.dry_run:
        request = dataclasses.replace(asked.request, device=device(arguments.device))
        print("\n".join([*describe(request), *_size(asked)]))
        return 0
    from ..sweep.sweep import run
    from ..sweep.workers import InProcess, OnRay

    engine: Engine
    if arguments.launcher == "ray":
        engine = OnRay(arguments.workers, arguments.address, arguments.device)
    else:
        engine = InProcess(device(arguments.device))
    try:
        found = run(asked, engine)
    finally:
        engine.close()
    if arguments.json:
        print(json.dumps(found.content, allow_nan=False))
    else:
        _print(found, asked)
    return int(found.choice.row is None)


def _check(arguments: argparse.Namespace) -> Sweep:
    """What is asked for; everything is refused here that can be without loading a model."""
    entry = check_model(arguments, [arguments.baseline] if arguments.baseline is not None else [])
    grids = [grid.parse(text) for text in arguments.grids]
    config = model_table.local_config(entry)
    n_layers = model_table.layer_count(config) if config else None
    for each in grids:
        for text in each:
            try:
                fill_in(text, entry, n_layers)
            except UserError as error:
                raise UserError(f"{error} (the edit {text!r} of --grid {each.text!r})") from error
    tasks = arguments.tasks.split(",") if arguments.tasks is not None else []
    axes = {part.axis for part in choose_parts(arguments.suite, tasks, entry)[0]}
    least = dict(arguments.min_kept)
    for axis in (*NEEDED, *least):
        if axis not in axes:
            raise UserError(
                f"no task that is asked is of {axis!r}, by which an edit is chosen: expected one in --tasks"
            )
    _check_launcher(arguments)
    if arguments.trials:
        from ..sweep.optuna_search import need_optuna

        need_optuna()
    if not arguments.dry_run:
        record.check_writable(arguments.out)
    from ...results.statistics.selection import Bounds
    from ..sweep.sweep import Sweep

    names = {field.name for field in dataclasses.fields(Request)} & vars(arguments).keys() - {"device", "tasks"}
    given = {name: getattr(arguments, name) for name in names}
    edits = [text for each in grids for text in each]
    return Sweep(
        request=Request(**given, edits=edits, tasks=tasks, split="dev"),
        grids=grids,
        bounds=Bounds(max_perplexity_ratio=arguments.max_perplexity_ratio, min_kept=least),
        baseline=arguments.baseline or "kfac",
        added=arguments.baseline is not None,
        trials=arguments.trials,
        test=arguments.test,
        test_limit=arguments.test_limit,
    )


def _check_launcher(arguments: argparse.Namespace) -> None:
    if arguments.launcher not in LAUNCHERS:
        raise unknown("launcher", arguments.launcher, LAUNCHERS)
    on_ray = arguments.launcher == "ray"
    for option in ("workers", "address"):
        if getattr(arguments, option) is not None and not on_ray:
            raise UserError(f"--{option} is of --launcher ray: expected both, or neither")
    if on_ray and arguments.parallelize:
        raise UserError("--parallelize spreads one process over all devices: expected no --launcher, or no such option")


def _size(asked: Sweep) -> list[str]:
    n = len(asked.request.edits)
    lines = [f"{n} edits of {len(asked.grids)} grid{'s' if len(asked.grids) > 1 else ''}"]
    if asked.trials and asked.trials < n:
        lines.append(f"of those, {asked.trials} are scored: about {asked.trials / n:.0%} of the time of all")
    return lines


def _print(found: Found, asked: Sweep) -> None:
    from ...results.statistics.selection import worst_last
    from ...results.views import terminal

    console = terminal.console(width=None if sys.stdout.isatty() else WIDTH)
    chosen = found.choice.row.spec if found.choice.row else ""
    marks = {**({found.baseline: "baseline"} if found.baseline else {}), chosen: "chosen"}
    best = sorted(found.rows, key=lambda row: (not asked.bounds.hold(row), *worst_last(row)))
    shown = [row for i, row in enumerate(best) if i < SHOWN or row.spec in marks]
    console.print(terminal.sweep(f"{asked.request.model}  {len(best)} edits, dev", shown, asked.bounds, marks))
    console.print(f"chosen: {chosen or 'none'}: {found.choice.why}", soft_wrap=True)
    if found.tested:
        console.print(terminal.sweep("test", list(found.tested.values()), asked.bounds, marks))
    for part, lead in found.lead.items():
        console.print(f"the chosen edit less {found.baseline}, paired, on {part}:")
        console.print(*terminal.summary_lines(lead), sep="\n")
    console.print(f"report: {found.folder / 'sweep.html'}", soft_wrap=True)


def _ratio(text: str) -> float:
    """A number above 0."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a number above 0")
    return float(text)


def _least(text: str) -> tuple[str, float]:
    """AXIS=SHARE."""
    from ...results.records.axes import KEPT

    axis, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected AXIS=SHARE, as in logic=0.95")
    if axis not in KEPT:
        raise unknown("axis", axis, KEPT)
    return axis, share(value)
