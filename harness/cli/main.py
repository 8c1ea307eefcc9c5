"""The commands ``memsplit`` and ``memsplit-eval``. torch is imported only when something is to be computed."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ...errors import UserError
from ...results.records import record
from ..evaluation.request import describe, not_asked
from ..models import download, model_table
from . import compare, factors, gate, leaderboard, listings, mine, packs, power, runs, spectrum, sweep
from .arguments import (
    SPEC,
    Parser,
    add_model,
    add_scoring,
    check_model,
    check_scoring,
    device,
    path,
    positive,
    processes,
    quiet,
    seed,
)

if TYPE_CHECKING:
    from ..evaluation.runner import Report


def main(argv: Sequence[str] | None = None) -> int:
    """``memsplit``: returns the exit code, 2 for a user's mistake."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported; our own progress covers the whole run
    if download.offline():  # one word for all that fetches
        os.environ["HF_HUB_OFFLINE"] = "1"
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    try:
        arguments = _parser().parse_args(argv)
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        logging.getLogger("memsplit").setLevel(logging.INFO)
        if processes() > 1 and arguments.command not in (factors.collect, mine.mine):
            raise UserError("several processes can only run 'memsplit factors collect' and 'mine': run the rest in one")
        code = int(arguments.command(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except UserError as error:
        print(f"memsplit: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("memsplit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has closed it; nothing is left to be flushed there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a name too long: the user's to mend
        print(f"memsplit: error: {error}", file=sys.stderr)
        return 2


def _terminated(*_: object) -> NoReturn:
    """Leave by an exception, so that nothing half-written stays."""
    raise SystemExit(143)


def main_eval() -> int:
    """``memsplit-eval``: the same as ``memsplit eval``."""
    return main(["eval", *sys.argv[1:]])


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="memsplit", description="Did this weight edit remove verbatim memorization and leave reasoning alone?"
    )
    commands = parser.add_subparsers(required=True, parser_class=Parser, metavar="COMMAND")
    _add_eval(
        commands.add_parser(
            "eval",
            help="score a model before and after edits",
            description="Score a model before and after edits, on the same items.",
        )
    )
    edits = commands.add_parser(
        "edits", help="the edit methods, their keys, defaults, needs and sources", description="The edit methods."
    )
    edits.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    edits.set_defaults(command=_edits)
    _add_export(
        commands.add_parser(
            "export",
            help="write an edited model as a Hugging Face folder",
            description="Write an edited model as a Hugging Face folder: weights, tokenizer, config and card.",
        )
    )
    factors.add(commands)
    runs.add(commands)
    compare.add(commands)
    power.add(commands)
    gate.add(commands)
    packs.add(commands)
    mine.add(commands)
    sweep.add(commands)
    spectrum.add(commands)
    leaderboard.add(commands)
    organism = commands.add_parser("organism", help="the embedded model")
    actions = organism.add_subparsers(required=True, parser_class=Parser, metavar="ACTION")
    train = actions.add_parser(
        "train",
        help="train olmo-tiny again",
        description="Train olmo-tiny again; a killed run goes on from its last checkpoint.",
    )
    train.add_argument(
        "--out",
        type=path,
        default=Path("olmo-tiny-run"),
        help="folder for checkpoint, model and pack (default: %(default)s)",
    )
    train.add_argument("--seed", type=seed, default=0, help="of the world, the weights and the data's order")
    train.add_argument("--steps", type=positive, default=3600, help="updates (default: %(default)s)")
    train.add_argument("--device", help="default: cuda if there is one, else cpu")
    train.set_defaults(command=_train)
    return parser


def _add_export(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add = parser.add_argument
    add("--edit", required=True, metavar="SPEC", help=SPEC)
    add("--out", type=path, required=True, metavar="FOLDER", help="where the model goes")
    add("--record", type=path, metavar="FILE", help="a record of this edit, whose figures go into the card")
    add("--delta", action="store_true", help="write the changed weights alone, for the edit delta:path=FOLDER")
    add("--force", action="store_true", help="replace a folder that is there")
    parser.set_defaults(command=_export)


def _add_eval(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add = parser.add_argument
    add(
        "--edit",
        dest="edits",
        action="append",
        default=[],
        metavar="SPEC",
        help=f"{SPEC}; repeatable (default: kfac)",
    )
    add_scoring(parser)
    add(
        "--reference",
        metavar="NAME",
        help="another model, to whose loss on each passage this one's is compared (a membership signal)",
    )
    add("--all-metrics", action="store_true", help="show every metric of recitation, not the main ones alone")
    add("--rescore", action="store_true", help="score again what was scored before with the same weights and items")
    add("--resume", action="store_true", help="go on with a killed evaluation: keep the records in --out that it wrote")
    add("--json", action="store_true", help="print one JSON object instead of the table")
    add("--list-models", action="store_true", help="names for --model")
    add("--list-edits", action="store_true", help="names for --edit, with their keys")
    add("--list-tasks", action="store_true", help="tasks of the suite")
    add("--dry-run", action="store_true", help="say what would run and what is cached, and stop")
    parser.set_defaults(command=_eval)


def _eval(arguments: argparse.Namespace) -> int:
    known = {"list_models": listings.models, "list_edits": listings.edits, "list_tasks": listings.tasks}
    asked = [show for name, show in known.items() if getattr(arguments, name)]
    for show in asked:
        print("\n".join(show(arguments.suite)))
    if asked:
        return 0
    if arguments.reference is not None:
        model_table.resolve(arguments.reference)
    request = check_scoring(arguments, arguments.edits or ["kfac"], write=not arguments.dry_run)
    quiet()
    if arguments.dry_run:
        print("\n".join(describe(request)))
        return 0
    from ..evaluation.runner import run

    report = run(request)
    if arguments.json:
        print(json.dumps(report.to_json(), allow_nan=False))
    else:
        _print(report, arguments.all_metrics)
    for line in not_asked(report.skipped):
        print(line, file=sys.stderr)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    check_model(arguments, [arguments.edit])
    record.check_writable(arguments.out)
    chosen = device(arguments.device)
    quiet()
    from ..publishing.export import export, is_ours

    if arguments.out.exists() and not (arguments.force and is_ours(arguments.out)):
        remedy = "or one that was exported before" if arguments.force else "or --force"
        raise UserError(f"--out {str(arguments.out)!r} is there already: expected a new folder, {remedy}")
    names = ("model", "edit", "out", "dtype", "pack", "corpus", "parallelize", "factor_tokens", "delta")
    given = {name: getattr(arguments, name) for name in names}
    print(export(**given, device=chosen, record_path=arguments.record))
    return 0


def _print(report: Report, all_metrics: bool) -> None:
    from ...results.views import terminal

    console = terminal.console()
    for found in report.records:
        title = f"{report.model}  {found.spec}"
        console.print(terminal.comparison(title, found.changes, found.summary, all_metrics=all_metrics))
        if found.content.risk.base.discoverable:
            console.print(terminal.risk(found.content.risk))
        console.print(f"record: {found.path}\n", soft_wrap=True)


def _edits(arguments: argparse.Namespace) -> int:
    print("\n".join(listings.methods(arguments.names)))
    return 0


def _train(arguments: argparse.Namespace) -> int:
    record.check_writable(arguments.out)
    from ..organism.export import export
    from ..organism.train import Recipe, train

    recipe = Recipe(seed=arguments.seed, steps=arguments.steps)
    model, tokenizer, world = train(recipe, arguments.out, device=device(arguments.device))
    export(model.cpu(), tokenizer, world, recipe, arguments.out)
    print(f"model: {arguments.out / 'model'}\npack: {arguments.out / 'pack'}")
    return 0
