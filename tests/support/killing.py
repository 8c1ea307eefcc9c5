"""Writes a record over and over, each time in a process that is killed, or finds no room, at another point.

``python killing.py FOLDER kill|room``: prints how each writer ended, one word a line, until one of them finishes.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from memsplit.errors import UserError
from memsplit.results.records.tables import ITEMS
from memsplit.tests.support.records import made

ROWS = [("t", "logic", "acc", i, float(i % 3 > 0), 1, str(i), "") for i in range(40)]
BASE = pd.DataFrame(ROWS, columns=ITEMS)
STEP = 701
"""Bytes by which the room grows."""


def write(folder: Path) -> None:
    made(folder, BASE, BASE.assign(value=0.0), answers=pd.DataFrame({"task": ["t"], "side": ["edit"]}))


def killed_at(point: int) -> None:
    """From now on, the ``point``-th step of a write is the last: half a file, a whole one, or one that took its place."""
    left = [point]

    def last() -> bool:
        left[0] -= 1
        return left[0] < 0

    def dying(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if last():
                if name.startswith("write"):
                    path, data = arguments[:2]
                    function(path, data[: len(data) // 2], **options)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    os.replace = dying("replace", os.replace)
    for name in ("write_bytes", "write_text", "unlink"):
        setattr(Path, name, dying(name, getattr(Path, name)))


def main(folder: Path, how: str) -> None:
    for point in range(1000):
        child = os.fork()
        if child == 0:
            if how == "kill":
                killed_at(point)
            else:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (point * STEP, point * STEP))
            try:
                write(folder)
            except UserError:
                os._exit(2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else {0: "finished", 2: "refused"}[os.waitstatus_to_exitcode(status)])
        if status == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
