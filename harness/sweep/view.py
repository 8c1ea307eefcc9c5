"""What a sweep shows while it runs: a live table on a terminal, one log line for each record elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ...results.statistics.selection import Bounds, Row, worst_last
from ...results.views.terminal import duration, sweep
from ..common.progress import shown_by

BEST, LAST = 5, 3
"""How many rows of the best edits and of the last ones the live table shows."""
log = logging.getLogger("memsplit")


class SweepView:
    """The progress of a sweep.

    Args:
        total: how many specs are evaluated in all.
        bounds: the bounds of the choice.
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
        """Show the live table, on a terminal, while the body runs; the body's own progress is one line of it."""
        if not sys.stderr.isatty():
            yield
            return
        console = Console(stderr=True)
        with Live(console=console, get_renderable=self.render, transient=True) as self.live, shown_by(self._inner):
            yield
        self.live = None

    def restart(self) -> None:
        """Estimate the time that is left from the records that come from now on."""
        self.start, self.new = time.monotonic(), 0

    def add(self, row: Row, *, new: bool) -> None:
        """Add a record's row; one that was there before the sweep is not ``new``, and is left out of the estimate."""
        self.rows.append(row)
        self.new += new
        if self.live or not new:
            return
        best = self.best(1)
        so_far = f"; best so far {best[0].spec}" if best else ""
        figures = ", ".join(f"{name} {row.metric(key):.3f}" for name, key in _SAID.items())
        log.info("%d of %d: %s: %s%s; %s left", len(self.rows), self.total, row.spec, figures, so_far, self.left())

    def best(self, n: int) -> list[Row]:
        """The ``n`` rows with the highest split scores within the bounds."""
        fit = [row for row in self.rows if not row.control and self.bounds.hold(row) and row.metric("split_score") >= 0]
        return sorted(fit, key=lambda row: (*worst_last(row), row.metric("perplexity_ratio")))[:n]

    def left(self) -> str:
        """The time that is left, estimated from the new records; ``?`` before the first of them."""
        if not self.new:
            return "?"
        return duration((time.monotonic() - self.start) / self.new * (self.total - len(self.rows)))

    def render(self) -> RenderableType:
        """The live table."""
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
    "stays erased": "stays_erased",
    "reasoning kept": "reasoning_kept",
    "fluency kept": "fluency_kept",
}
