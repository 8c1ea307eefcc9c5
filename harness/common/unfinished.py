"""Unfinished work: a folder inside the one that it will fill, with everything that decides the result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import PARTIAL, write_whole


class Unfinished:
    """The folder of work that is not finished. What lies in it belongs to its arguments.

    Args:
        out: the folder that the work fills.
        name: of the folder inside it.
        arguments: everything that decides the result.
    """

    def __init__(self, out: Path, name: str, arguments: dict[str, Any]) -> None:
        self.out = out
        self.folder = out / name
        self.arguments = json.loads(json.dumps(arguments))

    def check(self) -> None:
        """Refuse unfinished work of other arguments, or of none that it tells.

        Raises:
            UserError: names the first argument that differs, with both values.
        """
        path = self.folder / "arguments.json"
        if not path.exists():
            if self.folder.exists() and any(not file.name.endswith(PARTIAL) for file in self.folder.iterdir()):
                raise UserError(f"{path} is not there: expected what the unfinished work is of; --force starts again")
            return
        there = read_json(path)
        for name in sorted({*there, *self.arguments}):
            if there.get(name) != self.arguments.get(name):
                raise UserError(
                    f"the unfinished work in {str(self.out)!r} is of {name.replace('_is', ' with contents')} "
                    f"{there.get(name)!r}, not {self.arguments.get(name)!r}: "
                    "expected the same command, or --force to start again"
                )

    def begin(self, *, anew: bool) -> None:
        """Write the arguments; with ``anew``, delete what was finished before."""
        if anew:
            shutil.rmtree(self.folder, ignore_errors=True)
        write_whole(self.folder / "arguments.json", json.dumps(self.arguments))

    def remove(self) -> None:
        """Delete the folder, and the one around it where nothing else is in it."""
        shutil.rmtree(self.folder)
        if not any(self.out.iterdir()):
            self.out.rmdir()


def read_json(path: Path) -> dict[str, Any]:
    """The object of a file of unfinished work.

    Raises:
        UserError: the file is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"{type(content).__name__} found, expected an object")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): expected it whole; --force starts again") from error
    return content
