"""Progress with an estimate of the time left: a bar in a notebook or on a terminal, log lines elsewhere.

tqdm and rich are imported when a bar is first drawn, so that listings and ``--help`` answer without them.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress
    from tqdm.auto import tqdm

T = TypeVar("T")
log = logging.getLogger("memsplit")
LOG_EVERY_S = 15.0
Show = Callable[[str, int, int | None], None]
_ELSEWHERE: ContextVar[Show | None] = ContextVar("_ELSEWHERE", default=None)


@contextmanager
def shown_by(show: Show) -> Iterator[None]:
    """Inside the block, report progress to ``show(label, reached, total)`` only, for a caller that draws it itself."""
    token = _ELSEWHERE.set(show)
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)


def track(
    items: Iterable[T], label: str, total: int, done: int = 0, size: Callable[[T], int] = lambda _: 1
) -> Iterator[T]:
    """Yield ``items`` and show how many of them are done.

    Args:
        items: to be worked through.
        label: the work's name.
        total: the items' sizes, summed.
        done: the sizes of what was finished before (resumed work), which the estimate leaves out.
        size: gives an item's size; 1 by default.
    """
    with meter(label, total, done) as advance:
        for item in items:
            yield item
            advance(size(item))


@contextmanager
def meter(label: str, total: int | None, done: int = 0, *, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with each advance, and show how far the work is.

    Args:
        label: the work's name.
        total: where it ends; ``None`` if that is not known, without an estimate then.
        done: the part that was finished before (resumed work); it does not count towards the estimate.
        in_bytes: whether bytes are counted.
    """
    show = _ELSEWHERE.get()
    if show:
        yield _forwarded(show, label, total, done)
    elif _in_notebook():
        with _notebook_bar(label, total, done, in_bytes) as bar:
            yield bar.update
    elif sys.stderr.isatty():
        with _terminal_bar(in_bytes) as progress:
            task = progress.add_task(label, total=total, completed=done)
            yield lambda n: progress.advance(task, n)
    else:
        yield _logged(label, total, done)


def _in_notebook() -> bool:
    """Whether a kernel runs this process, so that a browser shows what it displays."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _notebook_bar(label: str, total: int | None, done: int, in_bytes: bool) -> tqdm[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a notebook without ipywidgets gets a bar of text
        from tqdm.auto import tqdm

    unit = {"unit": "B", "unit_scale": True} if in_bytes else {}
    return tqdm(desc=label, total=total, initial=done, leave=False, **unit)


def _terminal_bar(in_bytes: bool) -> Progress:
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
    return Progress(*columns, *times, console=Console(stderr=True), transient=True)


def _forwarded(show: Show, label: str, total: int | None, done: int) -> Callable[[int], None]:
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
