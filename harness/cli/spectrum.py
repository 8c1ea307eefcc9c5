"""``memsplit spectrum``: which bands of curvature memorized text acts on, as a table, figures and data."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError, unknown
from ...files import replacing
from ...model_edits import targets
from ...results.records import record
from ...results.records.encoding import plain
from ...tasks import packs, suite
from ..evaluation.request import Request, choose_parts
from ..models import model_table
from .arguments import SPEC, add_model, check_model, device, path, positive, quiet, seed

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from ...results.statistics.band_strength import Finding
    from ..spectrum.measure import SpectrumReport


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "spectrum",
        help="where memorization lives: strength by band of curvature",
        description="The curvature spectrum of each matrix, how strongly memorized and clean text and each task act on "
        "its bands, and how that goes with what an edit costs.",
    )
    add_model(parser)
    add = parser.add_argument
    add("--layers", metavar="L", help="layers, as in an edit's: 2, 0-3, 0+2-3 (default: all)")
    add("--proj", metavar="P", help="projections, as in an edit's: gate+up, all (default: those of the MLP)")
    add("--suite", default="memsplit", metavar="NAME", help=f"one of {', '.join(suite.SUITES)} (default: %(default)s)")
    add("--tasks", metavar="A,B", help="only these tasks of the suite")
    add("--split", default="test", metavar="PART", help="the part of the items: dev or test (default: %(default)s)")
    add(
        "--limit",
        type=positive,
        default=200,
        metavar="N",
        help="texts of each kind, and items of each task that --edit is scored on (default: %(default)s)",
    )
    add("--batch-size", type=positive, default=32, metavar="N", help="sequences a forward pass (default: %(default)s)")
    add("--edit", metavar="SPEC", help=f"an edit, to score what it costs each task: {SPEC}")
    add("--record", type=path, metavar="FILE", help="a record of this model that tells what its edit costs, instead")
    add(
        "--measure",
        default="read",
        metavar="NAME",
        help="what the table and the figures show: read (|v·a|, the source's), write (the norm of what a band writes), "
        "or share (of what the matrix writes); the data have all (default: %(default)s)",
    )
    add(
        "--positions",
        default="asked",
        metavar="WHICH",
        help="positions that count: those asked, whose next token a text is about (a suffix, an answer), or all "
        "(default: %(default)s)",
    )
    add("--seed", type=seed, default=0, help="of the intervals' resampling (default: %(default)s)")
    add(
        "--out",
        type=path,
        default=Path("memsplit-spectrum"),
        metavar="FOLDER",
        help="where figures and data go (default: %(default)s)",
    )
    add("--json", action="store_true", help="print one JSON object instead of the table")
    parser.set_defaults(command=spectrum)


def spectrum(arguments: argparse.Namespace) -> int:
    """``memsplit spectrum``."""
    told = _check(arguments)
    chosen = device(arguments.device)
    quiet()
    from ..spectrum.measure import SpectrumRequest, run

    names = ("model", "pack", "corpus", "parallelize", "suite", "split", "limit", "batch_size", "dtype", "seed")
    given = {name: getattr(arguments, name) for name in names}
    evaluation = Request(
        **given,
        edits=[arguments.edit] if arguments.edit else [],
        tasks=_tasks(arguments),
        device=chosen,
        factor_tokens=arguments.factor_tokens,
        out=arguments.out,
    )
    report = run(
        SpectrumRequest(
            evaluation=evaluation,
            layers=targets.parse_layers(arguments.layers) if arguments.layers is not None else None,
            proj=targets.parse_proj(arguments.proj) if arguments.proj is not None else None,
            everywhere=arguments.positions == "all",
            record=told,
        )
    )
    found = {**plain(report.to_json()), "measure": arguments.measure}
    write(report, found, arguments.measure, arguments.out)
    if arguments.json:
        print(json.dumps(found, allow_nan=False))
    else:
        _print(report, arguments.measure)
        print(f"figures: {arguments.out / 'spectrum.html'}, data beside it")
    return 0


def _tasks(arguments: argparse.Namespace) -> list[str]:
    return arguments.tasks.split(",") if arguments.tasks is not None else []


def _check(arguments: argparse.Namespace) -> record.Record | None:
    """The record, if one is given; everything is refused here that can be without loading a model."""
    if arguments.edit is not None and arguments.record is not None:
        raise UserError("--edit and --record both tell what an edit costs: expected one of them")
    entry = check_model(arguments, [arguments.edit] if arguments.edit is not None else [])
    pack = packs.find(entry.pack)
    for kind in ("memorized", "clean"):
        if not pack.has(kind):
            raise UserError(
                f"the pack {pack.name!r} has no {kind}.jsonl: expected --pack NAME or FOLDER of one that has"
            )
    choose_parts(arguments.suite, _tasks(arguments), entry)
    packs.check_split(arguments.split)
    from ...results.statistics.band_strength import MEASURES

    for name, known in (("measure", MEASURES), ("positions", ("asked", "all"))):
        if getattr(arguments, name) not in known:
            raise unknown(name, getattr(arguments, name), known)
    config = model_table.local_config(entry)
    if arguments.layers is not None:
        layers = targets.parse_layers(arguments.layers)
        targets.check_layers(layers, (model_table.layer_count(config) if config else None) or max(layers) + 1)
    if arguments.proj is not None:
        targets.parse_proj(arguments.proj)
    record.check_writable(arguments.out)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UserError(f"--out {str(arguments.out)!r} is a file: expected a folder, or a place to make one")
    return record.read(arguments.record) if arguments.record is not None else None


def write(report: SpectrumReport, found: Mapping[str, Any], measure: str, out: Path) -> None:
    """Data, figures and summary, each file in one step; the summary comes last."""
    from ...results.views import spectrum_charts as charts
    from ..spectrum.measure import BANDS

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
    if (memorized["against"] == "twins").any():
        figures["bands_twins"] = charts.bands(
            memorized[memorized["against"] == "twins"],
            BANDS,
            f"Memorized passages against passages never trained on, by layer ({measure})",
        )
    figures["kinds"] = charts.kinds(clean, BANDS)
    if len(report.correlations):
        figures["cost"] = charts.cost(tables["costs"], f"What {found['edit']} costs, against the use of low curvature")
    title = f"Where memorization lives: {found['model']}, {found['pack']}, {found['split']} part"
    charts.write(out, figures, title, _told(report, measure))
    with replacing(out / "spectrum.json") as partial:
        partial.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")


FINDING = (
    "The finding (arXiv 2510.24256): memorized text acts more than clean text on the half of the components that have "
    "the lowest curvature, and less on the top tenth."
)


def _print(report: SpectrumReport, measure: str) -> None:
    from ...results.views.terminal import console as terminal

    console = terminal()
    findings = report.findings(measure)
    console.print(_table(report, findings, measure))
    for line in _told(report, measure):
        console.print(line, soft_wrap=True)


def _told(report: SpectrumReport, measure: str) -> list[str]:
    """The finding of each layer, and what is known of the edit's cost, a line each."""
    twins = {f.layer: f for f in report.findings(measure, "twins") if f.proj == "all"} if _has_twins(report) else {}
    lines = [FINDING]
    for found in (f for f in report.findings(measure) if f.proj == "all"):
        beside = f"; against twins: {twins[found.layer].verdict}" if twins else ""
        lines.append(f"layer {found.layer}: the finding {found.verdict}{beside}")
    return [*lines, *_of_the_cost(report, measure)]


def _has_twins(report: SpectrumReport) -> bool:
    return bool((report.relative["against"] == "twins").any())


def _table(report: SpectrumReport, findings: list[Finding], measure: str) -> Table:
    from rich.box import HORIZONTALS
    from rich.table import Table

    about = report.about
    table = Table(
        title=f"{about['model']}  curvature and memorized text ({measure})",
        title_justify="left",
        title_style="bold",
        box=HORIZONTALS,
        padding=(0, 1, 0, 0),
    )
    for column in ("layer", "proj", "60 % of\nmass in", "80 % of\nmass in", "bottom half,\nmemorized - clean"):
        table.add_column(column, justify="left" if column == "proj" else "right")
    table.add_column("top tenth,\nmemorized - clean", justify="right")
    held = report.matrices.set_index(["layer", "proj"])
    for found in findings:
        key = (found.layer, found.proj)
        shares = ["", ""]
        if key in held.index:
            row = held.loc[key]
            shares = [f"{100 * row[f'holding_{percent}'] / row['components']:.2f} %" for percent in (60, 80)]
        cells = [str(found.layer), found.proj, *shares, _percent(found.bottom), _percent(found.top)]
        table.add_row(*cells, style="bold" if found.proj == "all" else "", end_section=found.proj == "all")
    return table


def _percent(interval: tuple[float, float, float]) -> str:
    value, low, high = (100 * number for number in interval)
    return f"{value:+.1f} % [{low:+.1f}, {high:+.1f}]"


def _of_the_cost(report: SpectrumReport, measure: str) -> list[str]:
    """Whose items the edit's cost is of, and how it goes with the use of low curvature; nothing without a cost."""
    if not report.cost:
        return []
    about, asked = report.about, report.about["cost_of"]
    n = sum(asked["items"].values())
    line = f"cost of {about['edit']}: of {n} items of {len(asked['items'])} kinds ({asked['source']})"
    if not about["changed"]:
        return [line, "no correlation with it: none of the matrices that the edit changes is among those looked at"]
    return [line, *_correlations(report.correlations, measure)]


def _correlations(table: pd.DataFrame, measure: str) -> list[str]:
    """One line on the lowest band, and one on its ratio to the highest."""
    from ...results.statistics.band_strength import SKEW
    from ..spectrum.measure import BANDS

    lines = []
    for band, words in ((BANDS[-1], "use of the bottom half"), (SKEW, "bottom half over top tenth")):
        for row in table[(table["measure"] == measure) & (table["band"] == band)].itertuples():
            told = "no correlation: too few, or all alike"
            if not math.isnan(row.pearson):
                pairs = (("Spearman", row.spearman, row.spearman_p), ("Pearson", row.pearson, row.pearson_p))
                told = ", ".join(f"{name} {r:+.2f} (p {p:.3f})" for name, r, p in pairs)
            lines.append(f"{words} and the edit's cost, over {row.n} kinds of text: {told}")
    return lines
