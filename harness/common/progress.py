"""Progress with an estimate of the time left: a bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("memsplit")
LOG_EVERY_S = 15.0
Show = Callable[[str, int, int | None], None]
_ELSEWHERE: ContextVar[Show | None] = ContextVar("_ELSEWHERE", default=None)


@contextmanager
def shown_by(show: Show) -> Iterator[None]:
    """Within, progress is told to ``show`` (label, reached, total) alone: for what draws on the terminal itself."""
    token = _ELSEWHERE.set(show)
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)


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
    with meter(label, total, done) as advance:
        for item in items:
            yield item
            advance(size(item))


@contextmanager
def meter(label: str, total: int | None, done: int = 0, *, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """What is to be called with each advance; shows on stderr how far the work is.

    Args:
        label: what the work is called.
        total: where it ends; ``None`` where that is not known, and so no estimate.
        done: what was finished before (resumed work); it does not count towards the estimate.
        in_bytes: whether bytes are counted.
    """
    show = _ELSEWHERE.get()
    if show:
        yield _told(show, label, total, done)
        return
    if not sys.stderr.isatty():
        yield _logged(label, total, done)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn() if in_bytes else MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total, completed=done)
        yield lambda n: progress.advance(task, n)


def _told(show: Show, label: str, total: int | None, done: int) -> Callable[[int], None]:
    reached = done
    show(label, reached, total)

    def advance(n: int) -> None:
        nonlocal reached
        reached += n
        show(label, reached, total)

    return advance


def _logged(label: str, total: int | None, done: int) -> Callable[[int], None]:
    start = last = time.monotonic()
    reached = done

    def advance(n: int) -> None:
        nonlocal last, reached
        reached += n
        now = time.monotonic()
        if now - last >= LOG_EVERY_S:
            last = now
            if total is None:
                log.info("%s: %d", label, reached)
            else:
                left = (now - start) / (reached - done) * (total - reached)
                log.info("%s: %d of %d, %.0f s left", label, reached, total, left)

    return advance
