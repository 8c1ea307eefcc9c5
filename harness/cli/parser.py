"""The argument parser of every command. Imports nothing else, so that help answers at once."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from ...errors import UserError, unknown


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that raises a one-line ``UserError``, with the nearest name, instead of exiting."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise unknown(str(action.metavar or action.dest).lower(), str(value), map(str, action.choices))

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting; of an option that is not known, with the nearest one."""
        unrecognized, _, words = message.partition("unrecognized arguments: ")
        option = words.split("=")[0].split()[0] if not unrecognized and words else ""
        if option.startswith("--"):
            raise unknown("option", option, sorted(options(self)))
        raise UserError(message)


def options(parser: argparse.ArgumentParser) -> set[str]:
    """The long options of a parser and of its actions' parsers."""
    found = {name for name in parser._option_string_actions if name.startswith("--")}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(*map(options, action.choices.values()))
    return found


class _Version(argparse.Action):
    """Print the installed version, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version  # takes longer than all else that help imports

        print(f"memsplit {version('memsplit')}")
        parser.exit()


def add_version(parser: argparse.ArgumentParser) -> None:
    """Declare ``--version``."""
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
