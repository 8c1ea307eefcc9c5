"""A gate's verdict as a table, JSON, Markdown, JUnit XML and annotations of GitHub's."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table

from ..records.record import plain
from ..statistics.noninferiority import MOST
from .verdict import Criterion, Verdict

COLUMNS = ("criterion", "limit", "found", "bounds", "items", "verdict", "more items")
STYLES = {"FAIL": "bold red", "INCONCLUSIVE": "yellow"}
WIDTH = 110


def title(verdict: Verdict) -> str:
    """Which edit, of which model, against what."""
    return f"{verdict.model}  {verdict.spec}  against {verdict.against}"


def headline(verdict: Verdict) -> str:
    """The verdict and what it hangs on, in one line."""
    missed = [told(criterion) for criterion in verdict.criteria if criterion.outcome == verdict.outcome]
    return verdict.outcome + ("" if verdict.passed else f": {'; '.join(missed)}")


def told(criterion: Criterion) -> str:
    """A criterion in words."""
    name, limit, found, bounds, _, outcome, more = cells(criterion)
    needs = ""
    if outcome == "INCONCLUSIVE":
        needs = f"; {more} more items like these would settle it"
        if criterion.more is None:
            needs = f"; {MOST:,.0f} times as many items like these would not settle it"
    return f"{name} {found} {bounds}, limit {limit}{needs}"


def cells(criterion: Criterion) -> tuple[str, ...]:
    """What a table shows of it: ``COLUMNS``."""
    sign = "+" if criterion.name.startswith("margins.") else ""
    low, found, high = (_figure(value, sign) for value in (criterion.low, criterion.found, criterion.high))
    n, c = criterion.items, criterion.clusters
    more = "" if criterion.outcome != "INCONCLUSIVE" else f"{criterion.more:,}" if criterion.more else "-"
    return (
        criterion.name.removeprefix("margins."),
        f"{'≥' if criterion.at_least else '≤'} {criterion.limit:{sign}g}",
        found,
        f"[{low}, {high}]",
        str(n) if n == c else f"{n} in {c}",
        criterion.outcome,
        more,
    )


def show(verdict: Verdict, console: Console) -> None:
    """Print the title and the table."""
    table = Table(box=HORIZONTALS, padding=0)
    for i, column in enumerate(COLUMNS):
        table.add_column(column.replace(" ", "\n"), justify="left" if i == 0 else "right", no_wrap=i != 0)
    for criterion in verdict.criteria:
        table.add_row(*cells(criterion), style=STYLES.get(criterion.outcome, ""))
    console.print(title(verdict), style="bold", soft_wrap=True, highlight=False, markup=False)
    console.print(table)


def text(verdict: Verdict) -> str:
    """The same and the headline, without colours."""
    sink = io.StringIO()
    show(verdict, Console(file=sink, width=WIDTH, color_system=None))
    return f"{sink.getvalue()}{headline(verdict)}"


def to_json(verdict: Verdict) -> dict[str, Any]:
    """The one object of ``--json``."""
    policy = {**vars(verdict.policy), "margins": dict(verdict.policy.margins)}
    content = {
        "verdict": verdict.outcome,
        **{name: getattr(verdict, name) for name in ("model", "spec", "against", "record", "fingerprint")},
        "policy": policy,
        "criteria": [dataclasses.asdict(criterion) for criterion in verdict.criteria],
    }
    return dict(plain(content))


def markdown(verdict: Verdict) -> str:
    """A section with a table, as a job's summary shows it."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, verdict.criteria)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    code = title(verdict).replace("`", "'")
    return "\n".join([f"### memsplit gate: {verdict.outcome}", "", f"`{code}`", "", *lines, ""])


def junit(verdict: Verdict) -> str:
    """JUnit XML: a test case a criterion; what is INCONCLUSIVE is a failure too, of the type ``inconclusive``.

    It is none that may be skipped: the command's exit code is not 0 either.
    """
    missed = [criterion for criterion in verdict.criteria if criterion.outcome != "PASS"]
    counts = {"tests": str(len(verdict.criteria)), "failures": str(len(missed)), "errors": "0", "skipped": "0"}
    suites = ElementTree.Element("testsuites", {"name": "memsplit gate", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _xml(f"memsplit gate {title(verdict)}"), **counts})
    for criterion in verdict.criteria:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": _xml(f"memsplit.gate.{verdict.model}"), "name": criterion.name}
        )
        line = told(criterion)
        if criterion.outcome == "PASS":
            ElementTree.SubElement(case, "system-out").text = line
        else:
            kind = criterion.outcome.lower()
            failure = ElementTree.SubElement(case, "failure", {"type": kind, "message": f"{criterion.outcome}: {line}"})
            failure.text = line
    ElementTree.SubElement(suite, "system-out").text = _xml(text(verdict))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def github(verdict: Verdict) -> Iterator[str]:
    """Workflow commands of GitHub's: an error for what fails, a warning for what is inconclusive."""
    for criterion in verdict.criteria:
        if criterion.outcome != "PASS":
            level = "error" if criterion.outcome == "FAIL" else "warning"
            name = f"memsplit gate: {cells(criterion)[0]}: {criterion.outcome}"
            message = f"{verdict.spec} against {verdict.against}: {told(criterion)}"
            yield f"::{level} title={_property(name)}::{_data(message)}"


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def _xml(value: str) -> str:
    """Without the control characters that XML 1.0 has no place for."""
    return "".join(c if c >= " " or c in "\t\n" else "?" for c in value)


def _figure(value: float, sign: str) -> str:
    return "-" if math.isnan(value) else f"{round(value, 3) + 0.0:{sign}.3f}"  # no -0.000
