"""What a sweep shows while it runs: a live table on a terminal, one line a record elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...results.statistics.selection import Bounds, Row, worst_last
from ...results.views.terminal import duration, sweep
from ..common.progress import shown_by

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

BEST, LAST = 5, 3
"""Rows that the live table shows: of the best so far, and of the last that came."""
log = logging.getLogger("memsplit")


class View:
    """The state of a sweep.

    Args:
        total: specs to evaluate.
        bounds: what a chosen edit must hold to.
    """

    def __init__(self, total: int, bounds: Bounds) -> None:
        self.total = total
        self.bounds = bounds
        self.rows: list[Row] = []
        self.new = 0
        self.start = time.monotonic()
        self.now = ""
        self.live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it meanwhile; progress of what is inside becomes one of its lines."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        with Live(console=console, get_renderable=self.render, transient=True) as self.live, shown_by(self._inner):
            yield
        self.live = None

    def restart(self) -> None:
        """Estimate by the time from now on."""
        self.start, self.new = time.monotonic(), 0

    def add(self, row: Row, *, new: bool) -> None:
        """A record has come; one that was there before is not ``new``, and says nothing of the time."""
        self.rows.append(row)
        self.new += new
        if self.live or not new:
            return
        best = self.best(1)
        so_far = f"; best so far {best[0].spec}" if best else ""
        figures = ", ".join(f"{name} {row.metric(key):.3f}" for name, key in _SAID.items())
        log.info("%d of %d: %s: %s%s; %s left", len(self.rows), self.total, row.spec, figures, so_far, self.left())

    def best(self, n: int) -> list[Row]:
        """The highest split scores within the bounds."""
        fit = [row for row in self.rows if not row.control and self.bounds.hold(row) and row.metric("split_score") >= 0]
        return sorted(fit, key=lambda row: (*worst_last(row), row.metric("perplexity_ratio")))[:n]

    def left(self) -> str:
        """The time that the rest takes, by the new records; ``?`` before the first."""
        if not self.new:
            return "?"
        return duration((time.monotonic() - self.start) / self.new * (self.total - len(self.rows)))

    def render(self) -> RenderableType:
        """The live table."""
        from rich.console import Group
        from rich.text import Text

        gone = duration(time.monotonic() - self.start)
        head = f"{len(self.rows)} of {self.total} edits, {gone} gone, {self.left()} left"
        parts: list[RenderableType] = [Text(head, style="bold")]
        if best := self.best(BEST):
            parts.append(sweep("best so far", best, self.bounds))
        if self.rows:
            parts.append(sweep("last", self.rows[: -LAST - 1 : -1], self.bounds))
        return Group(*parts, Text(self.now, style="dim"))

    def _inner(self, label: str, reached: int, total: int | None) -> None:
        self.now = f"{label}: {reached}" + (f" of {total}" if total is not None else "")


_SAID = {
    "split score": "split_score",
    "removed": "recitation_removed",
    "logic kept": "logic_kept",
    "perplexity ratio": "perplexity_ratio",
}
