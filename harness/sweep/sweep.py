"""Sweep a grid of edits on the dev part, choose one, and report it once on test."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...files import write_json
from ...model_edits.grid import Grid
from ...results.records.encoding import plain
from ...results.records.record import Record
from ...results.records.schema import Evaluation, Interval
from ...results.records.store import Store
from ...results.statistics import selection
from ...results.statistics.selection import Bounds, Choice, Row
from ...results.views import sweep_charts
from ..evaluation.request import Request
from .optuna_search import OptunaSearch
from .view import SweepView
from .workers import Engine, ResolvedRequest

REPORT = "report"
"""The subfolder of the report, beside the records."""


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """What to sweep.

    Attributes:
        request: how each edit is scored on the dev split; its edits are the grids' texts, in their order.
        grids: the grids, whose union is swept.
        bounds: the bounds that the chosen edit must be within.
        baseline: spec of an edit that the chosen one is compared with, if the grids hold it or it is ``added``.
        added: whether the baseline is swept beside the grids.
        trials: how many edits a search evaluates; ``None`` evaluates all.
        test: whether the chosen edit and the baseline are scored on the test split.
        test_limit: how many items of each task of the test split are scored; ``None`` for all.
    """

    request: Request
    grids: Sequence[Grid]
    bounds: Bounds = field(default_factory=Bounds)
    baseline: str = "kfac"
    added: bool = False
    trials: int | None = None
    test: bool = True
    test_limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep found.

    Attributes:
        rows: the row of every edit on the dev split, in the order of the grid.
        choice: which of them was chosen, and why.
        baseline: canonical spec of the baseline; ``None`` where it was not swept.
        tested: rows on the test split of the chosen edit and the baseline, by spec.
        differences: by split, the chosen edit's summary figures minus the baseline's, paired by item.
        content: the content of ``sweep.json``.
        folder: folder of the report.
    """

    rows: list[Row]
    choice: Choice
    baseline: str | None
    tested: dict[str, Row]
    differences: dict[str, dict[str, Interval]]
    content: dict[str, Any]
    folder: Path


def run(sweep: SweepRequest, engine: Engine) -> SweepResult:
    """Run a sweep and write its report. Edits that have a record already are not evaluated again.

    Raises:
        UserError: the request cannot be met.
    """
    sweep = dataclasses.replace(sweep, request=dataclasses.replace(sweep.request, device=engine.device))
    resolved = engine.load(dataclasses.replace(sweep.request, edits=[*sweep.request.edits, sweep.baseline]))
    *specs, baseline = resolved.specs
    swept = list(dict.fromkeys([*specs, baseline] if sweep.added else specs))
    base_of = baseline if baseline in swept else None
    rows = _dev(sweep, engine, resolved, specs, swept, base_of)
    choice = selection.choose(rows, sweep.bounds)
    tested = _test(sweep, engine, choice, base_of)
    differences = _differences({"dev": rows, "test": tested.values()}, choice, base_of)
    result = SweepResult(
        rows=rows,
        choice=choice,
        baseline=base_of,
        tested=tested,
        differences=differences,
        content=_content(sweep, resolved.identity, rows, choice, base_of, tested, differences),
        folder=sweep.request.out / REPORT,
    )
    _write(result, sweep.bounds)
    return result


def _dev(
    sweep: SweepRequest,
    engine: Engine,
    resolved: ResolvedRequest,
    specs: Sequence[str],
    swept: Sequence[str],
    baseline: str | None,
) -> list[Row]:
    """The rows of the edits on the dev split, in the order of ``swept``.

    Args:
        sweep: what to sweep.
        engine: evaluates the edits that have no record yet.
        resolved: what the request comes to with the loaded model.
        specs: canonical specs of the grids' texts, in their order.
        swept: the specs to evaluate, each once.
        baseline: spec of the baseline, where it is swept.
    """
    written = Store(sweep.request.out).of(resolved.identity, resolved.recipe_hashes)
    searched = sweep.trials is not None and sweep.trials < len(set(specs))
    aside = [] if baseline is None or baseline in specs else [baseline]
    total = (sweep.trials or 0) + len(aside) if searched else len(swept)
    rows: dict[str, Row] = {}
    view = SweepView(total, sweep.bounds)
    ready = False

    def evaluate(wanted: Sequence[str]) -> Iterator[Row]:
        nonlocal ready
        missing = [spec for spec in wanted if spec not in written]
        for spec in wanted:
            if spec in written:
                yield add(written[spec], new=False)
        if missing and not ready:
            engine.prepare(swept)
            view.restart()
            ready = True
        for evaluated in engine.evaluate(missing):
            yield add(evaluated, new=True)

    def add(evaluated: Record, *, new: bool) -> Row:
        rows[evaluated.spec] = row = Row.of(evaluated)
        view.add(row, new=new)
        return row

    with view.shown():
        if searched:
            assert sweep.trials is not None
            list(evaluate(aside))
            search = OptunaSearch(sweep.grids, specs, sweep.bounds, sweep.trials, sweep.request.seed)
            search.run(evaluate, engine.workers, first=baseline if baseline in specs else None)
        else:
            list(evaluate(swept))
    return [rows[spec] for spec in swept if spec in rows]


def _test(sweep: SweepRequest, engine: Engine, choice: Choice, baseline: str | None) -> dict[str, Row]:
    """The rows on the test split of the chosen edit and the baseline, by spec; empty where no edit was chosen."""
    if not sweep.test or choice.row is None:
        return {}
    specs = list(dict.fromkeys(spec for spec in (choice.row.spec, baseline) if spec is not None))
    request = dataclasses.replace(sweep.request, edits=specs, split="test", limit=sweep.test_limit)
    specs, recipe_hashes, identity = engine.load(request)
    records = {spec: entry for spec, entry in Store(request.out).of(identity, recipe_hashes).items() if spec in specs}
    missing = [spec for spec in specs if spec not in records]
    if missing:
        engine.prepare(missing)
        records |= {entry.spec: entry for entry in engine.evaluate(missing)}
    return {spec: Row.of(records[spec]) for spec in specs}


def _differences(
    splits: Mapping[str, Iterable[Row]], choice: Choice, baseline: str | None
) -> dict[str, dict[str, Interval]]:
    """By split, the chosen edit's figures minus the baseline's; empty where either is missing or both are one edit."""
    chosen = choice.row.spec if choice.row else None
    found = {}
    for split, rows in splits.items():
        both = {row.spec: row for row in rows if row.spec in (chosen, baseline)}
        if chosen in both and baseline in both and chosen != baseline:
            found[split] = selection.paired_difference(both[chosen], both[baseline])
    return found


def _content(
    sweep: SweepRequest,
    identity: Evaluation,
    rows: Sequence[Row],
    choice: Choice,
    baseline: str | None,
    tested: Mapping[str, Row],
    differences: Mapping[str, Mapping[str, Interval]],
) -> dict[str, Any]:
    """The object of ``sweep.json`` and ``--json``."""
    chosen = choice.row.spec if choice.row else None
    content: dict[str, Any] = plain(
        {
            "model": identity.model,
            "suite": identity.suite,
            "fingerprint": identity.fingerprint,
            "grids": [grid.text for grid in sweep.grids],
            "trials": sweep.trials,
            "seed": sweep.request.seed,
            "bounds": dataclasses.asdict(sweep.bounds),
            "edits": [
                {
                    "spec": row.spec,
                    "summary": row.summary,
                    "kept": row.kept,
                    "components_removed": row.removed,
                    "within_bounds": sweep.bounds.hold(row),
                    "frontier": on,
                    "control": row.control,
                    "dial": row.curve[1] if row.curve else None,
                    "seconds": row.seconds,
                    "record": row.path.stem,
                }
                for row, on in zip(rows, selection.pareto_front(rows), strict=True)
            ],
            "chosen": {"spec": chosen, "why": choice.why, "tied": list(choice.tied), "by_silence": choice.silent},
            "baseline": baseline,
            "test": {spec: {"summary": row.summary, "record": row.path.stem} for spec, row in tested.items()},
            "lead": differences,
        }
    )
    return content


def _write(result: SweepResult, bounds: Bounds) -> None:
    """Write ``sweep.json``, the page and the charts."""
    write_json(result.folder / "sweep.json", result.content)
    sweep_charts.write(result.folder, result.content, result.rows, bounds)
