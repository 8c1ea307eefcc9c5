"""Progress with an estimate of the time left: a bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("memsplit")
LOG_EVERY_S = 15.0


def track(
    items: Iterable[T], label: str, total: int, done: int = 0, size: Callable[[T], int] = lambda _: 1
) -> Iterator[T]:
    """Yield ``items`` and show on stderr how far they are.

    Args:
        items: what is worked through.
        label: what the work is called.
        total: how many items there are in all, by ``size``.
        done: how many of those were finished before (resumed work); they do not count towards the estimate.
        size: how many an item counts for.
    """
    if not sys.stderr.isatty():
        yield from _logged(items, label, total, done, size)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task, size(item))


def _logged(items: Iterable[T], label: str, total: int, done: int, size: Callable[[T], int]) -> Iterator[T]:
    start = last = time.monotonic()
    n = 0
    for item in items:
        yield item
        n += size(item)
        now = time.monotonic()
        if now - last >= LOG_EVERY_S:
            last = now
            left = (now - start) / n * (total - done - n)
            log.info("%s: %d of %d, %.0f s left", label, done + n, total, left)
