"""``memsplit sweep``: score a grid of edits on the dev split, choose one, and report it on the test split."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from pathlib import Path

from ....errors import UserError, unknown
from ....model_edits import grid
from ....results.records import record
from ....results.records.axes import FLUENCY, KEPT, REASONING, RECITATION, TWINS
from ...common.runtime import device, quiet
from ...evaluation.request import fill_in
from ...evaluation.task_selection import choose_parts
from ...models import model_table
from .. import lazy
from ..arguments import add_items, add_memory, add_model, check_model, make_request, path, positive, share, task_names

LAUNCHERS = ("none", "ray")
NEEDED = (RECITATION, TWINS, *REASONING, FLUENCY)
"""Axes whose tasks must be scored, because an edit is chosen by them."""
SHOWN = 12
"""How many edits the table shows."""
WIDTH = 120
"""Columns of the table where the output is no terminal; wide enough for a spec to stay on one line."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_model(parser)
    add_items(parser)
    add_memory(parser)
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
    add("--no-test", dest="test", action="store_false", help="do not score the chosen edit on test")
    add(
        "--max-perplexity-ratio",
        type=_ratio,
        default=2.0,
        metavar="X",
        help="choose no edit with a higher perplexity(edit) / perplexity(base) (default: %(default)s)",
    )
    add(
        "--min-kept",
        type=_axis_share,
        action="append",
        default=[],
        metavar="AXIS=X",
        help="choose no edit that keeps less of an axis than this share; repeatable",
    )
    add("--baseline", metavar="SPEC", help="sweep this too, and compare the choice with it (default: kfac, if swept)")
    add("--trials", type=positive, metavar="N", help="evaluate only N edits of the grid, which Optuna proposes")
    add("--launcher", default="none", metavar="NAME", help=f"one of {', '.join(LAUNCHERS)} (default: %(default)s)")
    add(
        "--workers",
        type=positive,
        metavar="N",
        help="number of Ray's workers (default: one for each GPU, or for every four processors)",
    )
    add(
        "--address",
        metavar="ADDRESS",
        help="address of a running Ray cluster, or auto (default: start one on this machine)",
    )
    add(
        "--out",
        type=path,
        default=Path("memsplit-sweep"),
        metavar="FOLDER",
        help="where records go, and the report beside them (default: %(default)s)",
    )
    add("--json", action="store_true", help="print one JSON object instead of the table")
    add("--dry-run", action="store_true", help="say what would run and how long it may take, and stop")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; the exit code is 1 where no edit is within the bounds."""
    grids = _check(arguments)
    quiet()
    request = _request(arguments, grids)
    if arguments.dry_run:
        evaluation = dataclasses.replace(request.request, device=device(arguments.device))
        print("\n".join([*lazy.estimate.describe(evaluation), *_size(request)]))
        return 0
    engine: lazy.workers.Engine
    if arguments.launcher == "ray":
        engine = lazy.ray_workers.RayEngine(arguments.workers, arguments.address, arguments.device)
    else:
        engine = lazy.workers.LocalEngine(device(arguments.device))
    try:
        result = lazy.sweep.run(request, engine)
    finally:
        engine.close()
    if arguments.json:
        print(json.dumps(result.content, allow_nan=False))
    else:
        _print(result, request)
    return int(result.choice.row is None)


def _check(arguments: argparse.Namespace) -> list[grid.Grid]:
    """Refuse what can be refused without loading a model, and return the grids."""
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
    for axis, _ in arguments.min_kept:
        if axis not in KEPT:
            raise unknown("axis", axis, KEPT)
    parts, _ = choose_parts(arguments.suite, task_names(arguments), entry, arguments.include_path)
    axes = {part.axis for part in parts}
    for axis in (*NEEDED, *dict(arguments.min_kept)):
        if axis not in axes:
            raise UserError(
                f"no task that is asked is of {axis!r}, by which an edit is chosen: expected one in --tasks"
            )
    _check_launcher(arguments)
    if arguments.trials:
        lazy.optuna_search.need_optuna()
    if not arguments.dry_run:
        record.check_writable(arguments.out)
    return grids


def _request(arguments: argparse.Namespace, grids: list[grid.Grid]) -> lazy.sweep.SweepRequest:
    """What to sweep."""
    bounds = lazy.selection.Bounds(
        max_perplexity_ratio=arguments.max_perplexity_ratio, min_kept=dict(arguments.min_kept)
    )
    arguments.default_attacks |= not arguments.attacks
    return lazy.sweep.SweepRequest(
        request=make_request(arguments, edits=[text for each in grids for text in each], split="dev"),
        grids=grids,
        bounds=bounds,
        baseline=arguments.baseline or "kfac",
        added=arguments.baseline is not None,
        trials=arguments.trials,
        test=arguments.test,
        test_limit=arguments.test_limit,
    )


def _check_launcher(arguments: argparse.Namespace) -> None:
    """Refuse options of workers that do not go together."""
    if arguments.launcher not in LAUNCHERS:
        raise unknown("launcher", arguments.launcher, LAUNCHERS)
    on_ray = arguments.launcher == "ray"
    for option in ("workers", "address"):
        if getattr(arguments, option) is not None and not on_ray:
            raise UserError(f"--{option} is of --launcher ray: expected both, or neither")
    if on_ray and arguments.parallelize:
        raise UserError("--parallelize spreads one process over all devices: expected no --launcher, or no such option")


def _size(request: lazy.sweep.SweepRequest) -> list[str]:
    """The lines of ``--dry-run`` on the number of edits."""
    n = len(request.request.edits)
    lines = [f"{n} edits of {len(request.grids)} grid{'s' if len(request.grids) > 1 else ''}"]
    if request.trials and request.trials < n:
        lines.append(f"of those, {request.trials} are scored: about {request.trials / n:.0%} of the time of all")
    return lines


def _print(result: lazy.sweep.SweepResult, request: lazy.sweep.SweepRequest) -> None:
    """Print the best edits on dev, the choice, and its figures on test and against the baseline."""
    terminal = lazy.terminal
    console = terminal.console(width=None if sys.stdout.isatty() else WIDTH)
    chosen = result.choice.row.spec if result.choice.row else ""
    marks = {**({result.baseline: "baseline"} if result.baseline else {}), chosen: "chosen"}
    best = sorted(result.rows, key=lambda row: (not request.bounds.hold(row), *lazy.selection.worst_last(row)))
    shown = [row for i, row in enumerate(best) if i < SHOWN or row.spec in marks]
    console.print(terminal.sweep(f"{request.request.model}  {len(best)} edits, dev", shown, request.bounds, marks))
    console.print(f"chosen: {chosen or 'none'}: {result.choice.why}", soft_wrap=True)
    if result.choice.silent not in (None, chosen):
        console.print(f"by silence alone it would have been {result.choice.silent}", soft_wrap=True)
    if result.tested:
        console.print(terminal.sweep("test", list(result.tested.values()), request.bounds, marks))
    for split, difference in result.differences.items():
        console.print(f"the chosen edit less {result.baseline}, paired, on {split}:")
        console.print(*terminal.summary_lines(difference), sep="\n")
    console.print(f"report: {result.folder / 'sweep.html'}", soft_wrap=True)


def _ratio(text: str) -> float:
    """Parse a number above 0."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a number above 0")
    return float(text)


def _axis_share(text: str) -> tuple[str, float]:
    """Parse AXIS=SHARE."""
    axis, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected AXIS=SHARE, as in logic=0.95")
    return axis, share(value)
