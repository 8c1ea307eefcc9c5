"""What ``memsplit spectrum`` reports: its tables as files, its figures as a page, its findings as text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from ...files import replacing, write_json
from ...model_edits.bands import OF_THE_SOURCE
from ...results.statistics import band_strength
from ...results.statistics.band_strength import SKEW, Finding
from ...results.views import spectrum_charts as charts
from ...results.views import terminal

BANDS = tuple(band.name for band in OF_THE_SOURCE)
"""Names of the bands of the source (arXiv 2510.24256), from the highest curvature to the lowest."""
FINDING = (
    "The finding (arXiv 2510.24256): memorized text acts more than clean text on the half of the components that have "
    "the lowest curvature, and less on the top tenth."
)


@dataclass(frozen=True, kw_only=True)
class SpectrumReport:
    """What was measured, as tables of one row for each combination that is named.

    Attributes:
        about: what was measured, and how.
        matrices: by matrix: how its curvature is spread over its components.
        curves: by point of a matrix's curve: ``layer, proj, components, count, mass``.
        strengths: by text, matrix and band (see ``Measured.tidy``).
        relative: every kind of text against clean text, and memorized passages against twins (see
            ``Measured.relative``).
        correlations: of the strengths with the cost of the edit, over kinds of text (see
            ``band_strength.correlations``); empty without an edit, or where it changes none of the matrices.
        cost: what the edit costs each kind of text; empty without an edit.
    """

    about: dict[str, Any]
    matrices: pd.DataFrame
    curves: pd.DataFrame
    strengths: pd.DataFrame
    relative: pd.DataFrame
    correlations: pd.DataFrame
    cost: dict[str, float]

    @property
    def has_twins(self) -> bool:
        """Whether memorized passages are compared with twins too."""
        return bool((self.relative["against"] == "twins").any())

    def findings(self, measure: str, against: str = "clean") -> list[Finding]:
        """The finding about memorized passages, of each matrix and, after its matrices, of each layer."""
        rows = self.relative[self.relative["against"] == against]
        return list(band_strength.findings(rows, "memorized", measure, BANDS))

    def against_cost(self, measure: str) -> pd.DataFrame:
        """By kind of text: strength relative to clean text on the lowest band and on SKEW, and what the edit costs.

        Columns: ``kind, band, value, low, high, cost``.
        """
        every = self.relative
        rows = every[(every["against"] == "clean") & (every["measure"] == measure) & every["layer"].isna()]
        rows = rows[rows["band"].isin((BANDS[-1], SKEW)) & rows["kind"].isin(self.cost)]
        rows = rows[["kind", "band", "value", "low", "high"]].assign(cost=rows["kind"].map(self.cost))
        return rows.reset_index(drop=True)

    def to_json(self) -> dict[str, Any]:
        """The object of ``--json``: everything but the long tables."""
        return {
            **self.about,
            "findings": {
                measure: {
                    against: [
                        {**dataclasses.asdict(finding), "verdict": finding.verdict}
                        for finding in self.findings(measure, against)
                    ]
                    for against in dict.fromkeys(self.relative["against"])
                }
                for measure in band_strength.MEASURES
            },
            "cost": self.cost,
            "correlations": self.correlations.to_dict("records"),
        }


def write(report: SpectrumReport, summary: Mapping[str, Any], measure: str, out: Path) -> None:
    """Write tables, page and summary into a folder, each file whole or not at all, the summary last.

    Args:
        report: what was measured.
        summary: the content of ``spectrum.json``.
        measure: the measure of strength that the figures show.
        out: the folder.
    """
    tables = {
        "matrices": report.matrices,
        "curves": report.curves,
        "strengths": report.strengths,
        "relative": report.relative,
        "costs": report.against_cost(measure),
        "correlations": report.correlations,
    }
    for name, table in tables.items():
        with replacing(out / f"{name}.parquet") as partial:
            table.to_parquet(partial, index=False)
    shown = report.relative[report.relative["measure"] == measure]
    clean = shown[shown["against"] == "clean"]
    memorized = shown[shown["kind"] == "memorized"]
    figures: dict[str, Any] = {
        "mass": charts.mass(report.curves),
        "bands": charts.bands(
            memorized[memorized["against"] == "clean"], BANDS, f"Memorized against clean text, by layer ({measure})"
        ),
    }
    if report.has_twins:
        figures["bands_twins"] = charts.bands(
            memorized[memorized["against"] == "twins"],
            BANDS,
            f"Memorized passages against passages never trained on, by layer ({measure})",
        )
    figures["kinds"] = charts.kinds(clean, BANDS)
    if len(report.correlations):
        figures["cost"] = charts.cost(
            tables["costs"], f"What {summary['edit']} costs, against the use of low curvature"
        )
    title = f"Where memorization lives: {summary['model']}, {summary['pack']}, {summary['split']} part"
    charts.write(out, figures, title, lines(report, measure))
    write_json(out / "spectrum.json", summary)


def lines(report: SpectrumReport, measure: str) -> list[str]:
    """The finding, whether it holds in each layer, what is left out, and how the strengths go with the edit's cost."""
    twins = {f.layer: f for f in report.findings(measure, "twins") if f.proj == "all"} if report.has_twins else {}
    text = [FINDING]
    for finding in (f for f in report.findings(measure) if f.proj == "all"):
        beside = f"; against twins: {twins[finding.layer].verdict}" if twins else ""
        text.append(f"layer {finding.layer}: the finding {finding.verdict}{beside}")
    if left_out := report.about["left_out"]:
        counts = ", ".join(f"{n} of {kind}" for kind, n in left_out.items())
        text.append(f"left out, longer than the model's context: {counts}")
    return [*text, *cost_lines(report, measure)]


def table(report: SpectrumReport, measure: str) -> Table:
    """The finding of each matrix and layer, and how many components hold most of a matrix's curvature mass."""
    both = [f"{band},\nmemorized - clean" for band in ("bottom half", "top tenth")]
    columns = ["proj", "60 % of\nmass in", "80 % of\nmass in", *both]
    shown = terminal.ruled(f"{report.about['model']}  curvature and memorized text ({measure})", "layer", columns)
    shown.columns[0].justify, shown.columns[1].justify = "right", "left"
    held = report.matrices.set_index(["layer", "proj"])
    for finding in report.findings(measure):
        key = (finding.layer, finding.proj)
        shares = ["", ""]
        if key in held.index:
            row = held.loc[key]
            shares = [f"{100 * row[f'holding_{percent}'] / row['components']:.2f} %" for percent in (60, 80)]
        cells = [str(finding.layer), finding.proj, *shares, _percent(finding.bottom), _percent(finding.top)]
        shown.add_row(*cells, style="bold" if finding.proj == "all" else "", end_section=finding.proj == "all")
    return shown


def _percent(interval: tuple[float, float, float]) -> str:
    value, low, high = (100 * number for number in interval)
    return f"{value:+.1f} % [{low:+.1f}, {high:+.1f}]"


def cost_lines(report: SpectrumReport, measure: str) -> list[str]:
    """On which items the edit's cost was scored, and its correlation with the strengths; none without an edit."""
    if not report.cost:
        return []
    about, cost_of = report.about, report.about["cost_of"]
    n = sum(cost_of["items"].values())
    line = f"cost of {about['edit']}: of {n} items of {len(cost_of['items'])} kinds ({cost_of['source']})"
    if not about["changed"]:
        return [line, "no correlation with it: none of the matrices that the edit changes is among those looked at"]
    return [line, *_correlations(report.correlations, measure)]


def _correlations(rows: pd.DataFrame, measure: str) -> list[str]:
    """One line about the lowest band, and one about its ratio to the highest."""
    text = []
    for band, words in ((BANDS[-1], "use of the bottom half"), (SKEW, "bottom half over top tenth")):
        for row in rows[(rows["measure"] == measure) & (rows["band"] == band)].itertuples():
            correlation = "no correlation: too few, or all alike"
            if not math.isnan(row.pearson):
                pairs = (("Spearman", row.spearman, row.spearman_p), ("Pearson", row.pearson, row.pearson_p))
                correlation = ", ".join(f"{name} {r:+.2f} (p {p:.3f})" for name, r, p in pairs)
            text.append(f"{words} and the edit's cost, over {row.n} kinds of text: {correlation}")
    return text
