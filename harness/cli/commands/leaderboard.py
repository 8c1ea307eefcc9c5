"""``memsplit leaderboard``: the records of a store as tables, a page, a dataset of the hub, or figures of a card."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ....errors import UserError, unknown
from ....files import check_writable, write_whole
from ....results.records import store
from .. import lazy
from ..arguments import path
from .runs import NAME, add_store, add_wanted, wanted

if TYPE_CHECKING:
    from ....results.board.table import Board

SUFFIXES = {"markdown": ".md", "csv": ".csv", "latex": ".tex", "json": ".json", "html": ".html", "svg": ".svg"}
FORMATS = ("terminal", *SUFFIXES, "all")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Rank the methods of a store's records, model by model, by their split scores. Records of the dev part choose "
        "the strength of each method; those of the test part are told."
    )
    add = parser.add_argument
    add_store(parser)
    add_wanted(parser)
    add("--format", metavar="NAME", help=f"one of {', '.join(FORMATS)} (default: as --out ends, else terminal)")
    add("--out", type=path, metavar="PATH", help="the file to write; with --format all, the folder")
    add("--all-columns", action="store_true", help="show every column, not only the main ones")
    add("--push", metavar="OWNER/NAME", help="publish tables, page and records as this dataset of the hub")
    add("--private", action="store_true", help="with --push: make it a private dataset")
    add("--message", metavar="TEXT", help="with --push: the message of the commit")
    add(
        "--with-answers",
        action="store_true",
        help="with --push: publish the models' answers too, which are recited text",
    )
    add("--card", type=path, metavar="PATH", help="put --record's figures into this model card (or its folder's)")
    add("--record", metavar="NAME", help=f"with --card: {NAME}")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        UserError: options do not go together, or no record fits them.
    """
    _check(arguments)
    records = store.Store(arguments.store)
    if arguments.card is not None:
        print(lazy.publish.write_card(arguments.card, records.find(arguments.record)))
    if arguments.card is not None and not (arguments.push or arguments.format or arguments.out):
        return 0
    chosen = wanted(arguments)
    fitting = records.records(chosen)
    if not fitting:
        options = ", ".join(f"--{name} {value!r}" for name, value in vars(chosen).items() if value is not None)
        which = f" of {options}" if options and records.paths() else ""
        raise UserError(
            f"no record{which} in {str(arguments.store)!r}: memsplit-eval writes them; expected --store FOLDER"
        )
    dev = dataclasses.replace(chosen, split="dev", fingerprint=None)  # its records choose strengths for other parts
    tables = lazy.ranking.boards(fitting, records.records(dev))
    if arguments.push:
        publishing = {name: getattr(arguments, name) for name in ("private", "message", "with_answers")}
        print(lazy.publish.push(tables, arguments.push, **publishing))
    if arguments.format or arguments.out or not arguments.push:
        _show(tables, _format(arguments), arguments.out, arguments.all_columns)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together, before any record is read."""
    if arguments.format not in (None, *FORMATS):
        raise unknown("format", arguments.format, FORMATS)
    name = _format(arguments)
    if name in ("html", "all") and arguments.out is None:
        raise UserError(f"--format {name} writes {'files' if name == 'all' else 'a file'}: expected --out PATH")
    if name == "terminal" and arguments.out is not None:
        raise UserError("--format terminal writes no file: expected another, or no --out")
    if (arguments.card is None) != (arguments.record is None):
        raise UserError("--card PATH and --record NAME go together: expected both")
    for option in ("private", "message", "with_answers"):
        if getattr(arguments, option) and not arguments.push:
            raise UserError(f"--{option.replace('_', '-')} says how to publish: expected --push OWNER/NAME too")
    if arguments.out is not None:
        folder = arguments.out if name == "all" else arguments.out.parent
        if name in ("all", "json") and folder.resolve() == arguments.store.resolve():
            raise UserError(
                f"--out {str(arguments.out)!r} would lie among the records of --store: expected another folder"
            )
        try:
            check_writable(folder)
        except OSError as error:
            raise UserError(f"--out {str(arguments.out)!r} cannot be written to ({error.strerror})") from error


def _format(arguments: argparse.Namespace) -> str:
    """The format that ``--format`` names, else the one that the suffix of ``--out`` stands for, else ``terminal``."""
    if arguments.format is not None:
        return str(arguments.format)
    if arguments.out is None:
        return "terminal"
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    if arguments.out.suffix not in by_suffix:
        raise UserError(f"--out {str(arguments.out)!r} ends in none of {', '.join(by_suffix)}: expected --format NAME")
    return by_suffix[arguments.out.suffix]


def _show(boards: Sequence[Board], name: str, out: Path | None, all_columns: bool) -> None:
    """Print the boards in a format, or write them to ``out`` and print the paths of the files."""
    formats = lazy.formats
    write: dict[str, Callable[[Sequence[Board], bool], str | None]] = {
        **formats.WRITERS,
        "html": lazy.page.html,
        "svg": lazy.page.svg,
    }
    if name == "terminal":
        console = lazy.console.Console()  # the tables of a board are written in rich's markup
        width = max(console.width, 640) if all_columns else console.width
        lazy.console.Console(width=width).print(formats.terminal(boards, all_columns, width))
        return
    for each in SUFFIXES if name == "all" else (name,):
        text = write[each](boards, all_columns)
        if text is None:  # no board has a picture
            if name == "all":
                continue
            raise UserError("no record was scored after attacks, so there is nothing to draw: expected --attacks")
        if out is None:
            print(text, end="")
        else:
            file = out / f"leaderboard{SUFFIXES[each]}" if name == "all" else out
            write_whole(file, text)
            print(file)
