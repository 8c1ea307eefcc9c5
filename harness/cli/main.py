"""The commands ``memsplit`` and ``memsplit-eval``: parser, exit codes and signals.

A command's module is imported when that command is chosen; what it computes with, when that is first used (see
``lazy``).
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from ...errors import UserError
from ..common.runtime import LARGER, processes
from ..models import download
from .parser import Parser, add_version

COMMANDS = {
    "eval": ("eval", "score a model before and after edits"),
    "edits": ("listings", "list the edit methods, their keys, defaults, needs and sources"),
    "export": ("export", "write an edited model as a Hugging Face folder"),
    "factors": ("factors", "collect, import, list, show, verify or prune curvature factors"),
    "runs": ("runs", "list, show, remove and verify records"),
    "compare": ("compare", "compare edits with one another, item by item"),
    "power": ("power", "say how small a change a record's items would show, and how many items a given change needs"),
    "gate": ("gate", "pass or fail an edit by a policy"),
    "pack": ("packs", "show what a pack of probe data holds, check it, or make one of other files"),
    "mine": ("mine", "write what a model recites of a corpus as a pack"),
    "plant": ("plant", "train a model on, with passages planted into its corpus, and a counterpart without them"),
    "sweep": ("sweep", "score a grid of edits on the dev part, choose one, and report it once on test"),
    "spectrum": ("spectrum", "measure how strongly memorized text acts on each band of curvature"),
    "leaderboard": ("leaderboard", "rank the edits of a store: tables, a page, a dataset of the hub"),
    "lm-eval": ("lm_eval", "run lm-eval's own command, which then knows the model 'memsplit' and memsplit's tasks"),
    "organism": ("organism", "train the embedded model again"),
}
"""Module of ``commands`` and help line of each command. The module's ``add(parser)`` declares options and ``run``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``memsplit``.

    Args:
        argv: the words after ``memsplit``; those of the process by default.

    Returns:
        The exit code: the command's own, 2 for a user's mistake, 130 where interrupted, 141 for a closed pipe.

    Raises:
        SystemExit: after ``--help`` and ``--version`` (0), and on SIGTERM (143), so that nothing half-written stays.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported; our own progress covers the whole run
    if download.offline():  # one variable then holds for all that fetches
        os.environ["HF_HUB_OFFLINE"] = "1"
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        logging.getLogger("memsplit").setLevel(logging.INFO)
        if processes() > 1 and not getattr(arguments, "distributed", False):
            raise UserError("several processes can only run 'memsplit factors collect' and 'mine': run the rest in one")
        code = int(arguments.run(arguments))
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
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error)):
            raise
        print(f"memsplit: error: out of memory: expected {LARGER}", file=sys.stderr)
        return 2
    except OSError as error:  # such as a full disk or a name that is too long, which the user can mend
        print(f"memsplit: error: {error}", file=sys.stderr)
        return 2


def main_eval() -> int:
    """Run ``memsplit-eval``, which is ``memsplit eval``."""
    return main(["eval", *sys.argv[1:]])


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; ``run`` among them is the function that runs the command.

    Raises:
        UserError: the command line fits no command.
    """
    parser = Parser(
        prog="memsplit", description="Did this weight edit remove verbatim memorization and leave reasoning alone?"
    )
    add_version(parser)
    commands = parser.add_subparsers(required=True, parser_class=Parser, metavar="COMMAND")
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, (module, text) in COMMANDS.items():
        command = importlib.import_module(f".commands.{module}", __package__) if name == chosen else None
        special = getattr(command, "PARSER", {})
        own = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", **special)
        if command:
            command.add(own)
        if name == "eval":
            add_version(own)
    return parser.parse_args(argv)


def _terminated(*_: object) -> NoReturn:
    """Leave by an exception, so that nothing half-written stays."""
    raise SystemExit(143)
