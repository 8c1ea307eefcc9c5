"""A gate's verdict on an edit: its criteria, and how they read on a terminal."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table

from ..statistics.noninferiority import MOST
from .policy import Policy

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]
EXIT_CODES: dict[Outcome, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}
COLUMNS = ("criterion", "limit", "found", "bounds", "items", "verdict", "more items")
STYLES = {"FAIL": "bold red", "INCONCLUSIVE": "yellow"}
WIDTH = 110


class Criterion(Struct, frozen=True, kw_only=True, rename={"estimate": "found"}):
    """One criterion and its test (see ``gate.judge``).

    Attributes:
        name: the policy's key, or ``margins.AXIS[/METRIC]``.
        at_least: whether ``limit`` is the least that passes; else it is the most that passes.
        limit: of ``estimate``.
        estimate: the share that is removed, erased or kept; the ratio of perplexities; the share of worst texts; the
            change of an axis.
        low: lower one-sided confidence bound of what is estimated: an "at least" whose limit is not above it passes,
            an "at most" whose limit is below it fails. The bound that passes is at ``alpha``, the bound that fails at
            ``alpha`` / (number of criteria).
        high: upper one-sided confidence bound: an "at most" whose limit is not below it passes, an "at least" whose
            limit is above it fails.
        outcome: ``PASS``, ``FAIL`` or ``INCONCLUSIVE``.
        items: number of items that ``estimate`` is computed from.
        clusters: number of clusters; items about one thing are a cluster.
        more: number of further items like these that would settle an inconclusive criterion; ``None`` where it is
            settled, where more of the same would not settle it, or not ``noninferiority.MOST`` times as many.
        note: what the figure depends on, such as the attack that did worst; may be empty.
    """

    name: str
    at_least: bool
    limit: float
    estimate: float
    low: float
    high: float
    outcome: Outcome
    items: int
    clusters: int
    more: int | None
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """A table's row: ``COLUMNS``."""
        sign = "+" if self.name.startswith("margins.") else ""
        low, estimate, high = (_number(value, sign) for value in (self.low, self.estimate, self.high))
        more = "" if self.outcome != "INCONCLUSIVE" else f"{self.more:,}" if self.more else "-"
        return (
            self.name.removeprefix("margins."),
            f"{'≥' if self.at_least else '≤'} {self.limit:{sign}g}",
            estimate,
            f"[{low}, {high}]",
            str(self.items) if self.items == self.clusters else f"{self.items} in {self.clusters}",
            self.outcome,
            more,
        )

    @property
    def sentence(self) -> str:
        """Its result in words."""
        name, limit, estimate, bounds, _, outcome, more = self.cells
        needs = ""
        if outcome == "INCONCLUSIVE":
            needs = f"; {more} more items like these would settle it"
            if self.more is None:
                needs = f"; {MOST:,.0f} times as many items like these would not settle it"
        note = f" ({self.note})" if self.note else ""
        return f"{name} {estimate} {bounds}, limit {limit}{needs}{note}"


@dataclass(frozen=True, kw_only=True, repr=False)
class Verdict:
    """All criteria of an edit; true where it passes. Its ``repr`` is one line, its ``str`` a table.

    Attributes:
        model: its name.
        spec: the edit's canonical spec.
        against: the spec that kept axes and perplexity are compared with, or ``base``.
        policy: that was applied.
        criteria: in the policy's order.
        record: path of the edit's record.
        fingerprint: of the suite.
    """

    model: str
    spec: str
    against: str
    policy: Policy
    criteria: tuple[Criterion, ...]
    record: str
    fingerprint: str

    @property
    def outcome(self) -> Outcome:
        """PASS where all criteria pass, FAIL where any fails, else INCONCLUSIVE."""
        outcomes = {criterion.outcome for criterion in self.criteria}
        return "FAIL" if "FAIL" in outcomes else "INCONCLUSIVE" if "INCONCLUSIVE" in outcomes else "PASS"

    @property
    def passed(self) -> bool:
        """Whether all criteria pass."""
        return self.outcome == "PASS"

    @property
    def exit_code(self) -> int:
        """0, 1 or 3."""
        return EXIT_CODES[self.outcome]

    @property
    def title(self) -> str:
        """Which edit, of which model, against what."""
        return f"{self.model}  {self.spec}  against {self.against}"

    @property
    def notes(self) -> list[str]:
        """A line for each criterion that has a note, and the policy's hint."""
        notes = [f"{criterion.cells[0]}: {criterion.note}" for criterion in self.criteria if criterion.note]
        return [*notes, self.policy.hint] if self.policy.hint else notes

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        """The outcome, and the criteria that caused it, in one line."""
        missed = [criterion.sentence for criterion in self.criteria if criterion.outcome == self.outcome]
        return self.outcome + ("" if self.passed else f": {'; '.join(missed)}")

    def __str__(self) -> str:
        """The table without colours, and the line."""
        sink = io.StringIO()
        self.show(Console(file=sink, width=WIDTH, color_system=None))
        return f"{sink.getvalue()}{self!r}"

    def show(self, console: Console) -> None:
        """Print the title, the table and the notes."""
        table = Table(box=HORIZONTALS, padding=0)
        for i, column in enumerate(COLUMNS):
            table.add_column(column.replace(" ", "\n"), justify="left" if i == 0 else "right", no_wrap=i != 0)
        for criterion in self.criteria:
            table.add_row(*criterion.cells, style=STYLES.get(criterion.outcome, ""))
        console.print(self.title, style="bold", soft_wrap=True, highlight=False, markup=False)
        console.print(table)
        for note in self.notes:
            console.print(note, soft_wrap=True, highlight=False, markup=False)

    def check(self) -> None:
        """Raise ``AssertionError`` with the table where it does not pass."""
        if not self.passed:
            raise AssertionError(f"\n{self}")


def _number(value: float, sign: str) -> str:
    """Three decimals, or from 100,000 on three digits; a hyphen for nan."""
    if math.isnan(value):
        return "-"
    return f"{value:{sign}.2e}" if 1e5 <= abs(value) < math.inf else f"{round(value, 3) + 0.0:{sign}.3f}"  # no -0.000
