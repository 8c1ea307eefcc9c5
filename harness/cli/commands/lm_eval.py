"""``memsplit lm-eval``: lm-eval's own command line, which here knows the model ``memsplit`` and memsplit's tasks.

lm-eval imports the model by itself, without this command, where its version reads the entry points of the group
``lm_eval.models``; 0.4.13 does not.
"""

from __future__ import annotations

import argparse
import sys

from ....tasks import plugins, suite
from ...common.runtime import device

PARSER = {"add_help": False, "prefix_chars": "\0"}
"""No word is an option of ours: all are lm-eval's."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare that every word is taken."""
    parser.add_argument("words", nargs="*")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Hand the words to lm-eval; it leaves by ``SystemExit`` where it does not succeed."""
    from lm_eval._cli import HarnessCLI
    from lm_eval.utils import setup_logging

    from ...evaluation import edited_lm  # noqa: F401 (registers the model)

    setup_logging()
    sys.argv[:] = ["memsplit lm-eval", *arguments.words]  # lm-eval reads no other words
    cli = HarnessCLI()
    parsed = cli.parse_args()
    if getattr(parsed, "config", "") is getattr(parsed, "device", "") is None:
        parsed.device = device(None)  # lm-eval's default is CUDA, whether there is one or not
    if hasattr(parsed, "include_path"):
        parsed.include_path = [*_folders(), *([parsed.include_path] if parsed.include_path else [])]
    cli.execute(parsed)
    return 0


def _folders() -> list[str]:
    """Where memsplit's own tasks and those of installed packages are."""
    installed = (plugins.folder(plugins.TASKS, name) for name in plugins.names(plugins.TASKS))
    return [str(folder) for folder in (suite.FOLDER, *installed) if folder]
