"""A gate's verdict as JSON, Markdown, JUnit XML and annotations of GitHub's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from ..records.encoding import plain
from .verdict import COLUMNS, Verdict


def to_json(verdict: Verdict) -> Any:
    """The one object of ``--json``."""
    named = {name: getattr(verdict, name) for name in ("model", "spec", "against", "record", "fingerprint")}
    of_policy = {"policy": verdict.policy, "hint": verdict.policy.hint}
    return plain({"verdict": verdict.outcome, **named, **of_policy, "criteria": verdict.criteria})


def markdown(verdict: Verdict) -> str:
    """A section with a table, as a job's summary shows it."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(criterion.cells for criterion in verdict.criteria)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    code = verdict.title.replace("`", "'")
    notes = [f"- {note}" for note in verdict.notes]
    return "\n".join(
        [f"### memsplit gate: {verdict.outcome}", "", f"`{code}`", "", *lines, "", *notes, "" * bool(notes)]
    )


def junit(verdict: Verdict) -> str:
    """JUnit XML: one test case a criterion. INCONCLUSIVE is a failure too, of the type ``inconclusive``.

    It is not "skipped": the command's exit code is not 0 either.
    """
    missed = [criterion for criterion in verdict.criteria if criterion.outcome != "PASS"]
    counts = {"tests": str(len(verdict.criteria)), "failures": str(len(missed)), "errors": "0", "skipped": "0"}
    suites = ElementTree.Element("testsuites", {"name": "memsplit gate", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _xml(f"memsplit gate {verdict.title}"), **counts})
    for criterion in verdict.criteria:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": _xml(f"memsplit.gate.{verdict.model}"), "name": criterion.name}
        )
        line = criterion.sentence
        if criterion.outcome == "PASS":
            ElementTree.SubElement(case, "system-out").text = line
        else:
            kind = criterion.outcome.lower()
            failure = ElementTree.SubElement(case, "failure", {"type": kind, "message": f"{criterion.outcome}: {line}"})
            failure.text = line
    ElementTree.SubElement(suite, "system-out").text = _xml(str(verdict))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def github(verdict: Verdict) -> Iterator[str]:
    """Workflow commands of GitHub's: an error for each criterion that fails, a warning for each inconclusive one."""
    for criterion in verdict.criteria:
        if criterion.outcome != "PASS":
            level = "error" if criterion.outcome == "FAIL" else "warning"
            name = f"memsplit gate: {criterion.cells[0]}: {criterion.outcome}"
            message = f"{verdict.spec} against {verdict.against}: {criterion.sentence}"
            yield f"::{level} title={_property(name)}::{_data(message)}"


def _data(value: str) -> str:
    return value.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def _xml(value: str) -> str:
    """``value`` with ``?`` in place of the control characters that XML 1.0 does not allow."""
    return "".join(c if c >= " " or c in "\t\n" else "?" for c in value)
