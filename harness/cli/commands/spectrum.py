"""``memsplit spectrum``: which bands of curvature memorized text acts on, as a table, figures and data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ....errors import UserError, unknown
from ....model_edits import target_names
from ....results.records import record
from ....results.records.encoding import plain
from ....tasks import packs
from ...common.runtime import device, quiet
from ...evaluation.task_selection import choose_parts
from ...models import model_table
from .. import lazy
from ..arguments import (
    SPEC,
    add_batch_size,
    add_model,
    add_suite,
    check_model,
    make_request,
    path,
    positive,
    seed,
    task_names,
)


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "The curvature spectrum of each matrix, how strongly memorized and clean text and each task act on its bands, "
        "and how that goes with what an edit costs."
    )
    add_model(parser)
    add = parser.add_argument
    add("--layers", metavar="L", help="layers, as in an edit's: 2, 0-3, 0+2-3, -1 (default: all)")
    add("--proj", metavar="P", help="projections, as in an edit's: gate+up, mlp, *.fc1 (default: those of the MLP)")
    add_suite(parser)
    add("--split", default="test", metavar="PART", help="the part of the items: dev or test (default: %(default)s)")
    add(
        "--limit",
        type=positive,
        default=200,
        metavar="N",
        help="texts of each kind, and items of each task that --edit is scored on (default: %(default)s)",
    )
    add_batch_size(parser)
    add("--edit", metavar="SPEC", help=f"an edit, to score what it costs each task: {SPEC}")
    add("--record", type=path, metavar="FILE", help="a record of this model to take the cost of its edit from, instead")
    add(
        "--measure",
        default="read",
        metavar="NAME",
        help="what the table and the figures show: read (|v·a|, the source's), write (the norm of what a band writes), "
        "or share (of what the matrix writes); the data have all (default: %(default)s)",
    )
    add(
        "--positions",
        default="asked",
        metavar="WHICH",
        help="positions that are counted: asked, those before a token of a suffix or an answer, or all "
        "(default: %(default)s)",
    )
    add("--seed", type=seed, default=0, help="seed of the intervals' bootstrap (default: %(default)s)")
    add(
        "--out",
        type=path,
        default=Path("memsplit-spectrum"),
        metavar="FOLDER",
        help="where figures and data go (default: %(default)s)",
    )
    add("--json", action="store_true", help="print one JSON object instead of the table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    cost_record = _check(arguments)
    chosen = device(arguments.device)
    quiet()
    request = lazy.measure.SpectrumRequest(
        evaluation=make_request(arguments, edits=[arguments.edit] if arguments.edit else [], device=chosen),
        layers=target_names.parse_layers(arguments.layers) if arguments.layers is not None else None,
        proj=target_names.parse_proj(arguments.proj) if arguments.proj is not None else None,
        everywhere=arguments.positions == "all",
        record=cost_record,
    )
    report = lazy.measure.run(request)
    summary = {**plain(report.to_json()), "measure": arguments.measure}
    lazy.report.write(report, summary, arguments.measure, arguments.out)
    if arguments.json:
        print(json.dumps(summary, allow_nan=False))
        return 0
    console = lazy.terminal.console()
    console.print(lazy.report.table(report, arguments.measure))
    for line in lazy.report.lines(report, arguments.measure):
        console.print(line, soft_wrap=True)
    print(f"figures: {arguments.out / 'spectrum.html'}, data beside it")
    return 0


def _check(arguments: argparse.Namespace) -> record.Record | None:
    """Refuse what can be refused without loading a model.

    Returns:
        The record that ``--record`` names, if it is given.
    """
    if arguments.edit is not None and arguments.record is not None:
        raise UserError("--edit and --record both tell what an edit costs: expected one of them")
    entry = check_model(arguments, [arguments.edit] if arguments.edit is not None else [])
    pack = packs.find(entry.pack)
    for kind in ("memorized", "clean"):
        if not pack.has(kind):
            raise UserError(
                f"the pack {pack.name!r} has no {kind}.jsonl: expected --pack NAME or FOLDER of one that has"
            )
    choose_parts(arguments.suite, task_names(arguments), entry, arguments.include_path)
    packs.check_split(arguments.split)
    config = model_table.local_config(entry)
    if arguments.layers is not None:
        layers = target_names.parse_layers(arguments.layers)
        if config and (n_layers := model_table.layer_count(config)):
            target_names.resolve_layers(layers, n_layers)
    if arguments.proj is not None:
        target_names.parse_proj(arguments.proj)
    for name, known in (("positions", ("asked", "all")), ("measure", lazy.band_strength.MEASURES)):
        if getattr(arguments, name) not in known:
            raise unknown(name, getattr(arguments, name), known)
    record.check_writable(arguments.out)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UserError(f"--out {str(arguments.out)!r} is a file: expected a folder, or a place to make one")
    return record.read(arguments.record) if arguments.record is not None else None
