"""Sweep a grid of edits on the dev part, choose one, and report it once on test."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...files import replacing
from ...model_edits.grid import Grid
from ...results.records.encoding import plain
from ...results.records.record import Record
from ...results.records.schema import Evaluation, Interval
from ...results.records.store import Store
from ...results.statistics import selection
from ...results.statistics.selection import Bounds, Choice, Row
from ..evaluation.request import Request
from .view import View
from .workers import Begun, Engine

REPORT = "report"
"""The subfolder of what a sweep writes beside its records."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What to sweep.

    Attributes:
        request: how each edit is scored on dev; its edits are the grids' texts, in their order.
        grids: their union is swept.
        bounds: what the chosen edit must hold to.
        baseline: a spec that the chosen one is compared with; only where the grids have it, unless it is ``added``.
        added: the baseline is swept too.
        trials: a search of so many edits; ``None`` sweeps all.
        test: report the chosen edit and the baseline on test.
        test_limit: the first so many items of each task of test; ``None`` is all.
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
class Found:
    """What a sweep found.

    Attributes:
        rows: every edit's on dev, in the order of the grid.
        choice: of them.
        baseline: its canonical spec, where it was swept.
        tested: the rows on test of the chosen edit and the baseline, by spec.
        lead: by part, the chosen edit's summary figures less the baseline's, paired.
        content: all of it, for ``sweep.json``.
        folder: where that, the page and the charts are.
    """

    rows: list[Row]
    choice: Choice
    baseline: str | None
    tested: dict[str, Row]
    lead: dict[str, dict[str, Interval]]
    content: dict[str, Any]
    folder: Path


def run(sweep: Sweep, engine: Engine) -> Found:
    """Run a sweep; what has a record already is not evaluated again.

    Raises:
        UserError: the request cannot be met.
    """
    sweep = dataclasses.replace(sweep, request=dataclasses.replace(sweep.request, device=engine.device))
    request = dataclasses.replace(sweep.request, edits=[*sweep.request.edits, sweep.baseline])
    begun = engine.begin(request)
    *specs, baseline = begun.specs
    swept = list(dict.fromkeys([*specs, baseline] if sweep.added else specs))
    base_of = baseline if baseline in swept else None
    rows = _dev(sweep, engine, begun, specs, swept, base_of)
    choice = selection.choose(rows, sweep.bounds)
    tested = _test(sweep, engine, choice, base_of)
    lead = _lead({"dev": rows, "test": tested.values()}, choice, base_of)
    found = Found(
        rows=rows,
        choice=choice,
        baseline=base_of,
        tested=tested,
        lead=lead,
        content=_content(sweep, begun.identity, rows, choice, base_of, tested, lead),
        folder=request.out / REPORT,
    )
    _write(found, sweep.bounds)
    return found


def _dev(
    sweep: Sweep, engine: Engine, begun: Begun, specs: Sequence[str], swept: Sequence[str], baseline: str | None
) -> list[Row]:
    """The rows of what is swept, in that order."""
    written = Store(sweep.request.out).of(begun.identity, begun.made_from)
    searched = sweep.trials is not None and sweep.trials < len(set(specs))
    aside = [] if baseline is None or baseline in specs else [baseline]
    total = (sweep.trials or 0) + len(aside) if searched else len(swept)
    rows: dict[str, Row] = {}
    view = View(total, sweep.bounds)
    ready = False

    def evaluate(asked: Sequence[str]) -> Iterator[Row]:
        nonlocal ready
        missing = [spec for spec in asked if spec not in written]
        for spec in asked:
            if spec in written:
                yield add(written[spec], new=False)
        if missing and not ready:
            engine.prepare(swept)
            view.restart()
            ready = True
        for found in engine.evaluate(missing):
            yield add(found, new=True)

    def add(found: Record, *, new: bool) -> Row:
        rows[found.spec] = row = Row.of(found)
        view.add(row, new=new)
        return row

    with view.shown():
        if searched:
            from .optuna_search import Search

            assert sweep.trials is not None
            list(evaluate(aside))
            search = Search(sweep.grids, specs, sweep.bounds, sweep.trials, sweep.request.seed)
            search.run(evaluate, engine.workers, first=baseline if baseline in specs else None)
        else:
            list(evaluate(swept))
    return [rows[spec] for spec in swept if spec in rows]


def _test(sweep: Sweep, engine: Engine, choice: Choice, baseline: str | None) -> dict[str, Row]:
    if not sweep.test or choice.row is None:
        return {}
    specs = list(dict.fromkeys(spec for spec in (choice.row.spec, baseline) if spec is not None))
    request = dataclasses.replace(sweep.request, edits=specs, split="test", limit=sweep.test_limit)
    specs, made_from, identity = engine.begin(request)
    found = {spec: entry for spec, entry in Store(request.out).of(identity, made_from).items() if spec in specs}
    missing = [spec for spec in specs if spec not in found]
    if missing:
        engine.prepare(missing)
        found |= {entry.spec: entry for entry in engine.evaluate(missing)}
    return {spec: Row.of(found[spec]) for spec in specs}


def _lead(parts: Mapping[str, Iterable[Row]], choice: Choice, baseline: str | None) -> dict[str, dict[str, Interval]]:
    """By part that has both, the chosen edit's figures less the baseline's, where they are not one."""
    chosen = choice.row.spec if choice.row else None
    found = {}
    for part, rows in parts.items():
        both = {row.spec: row for row in rows if row.spec in (chosen, baseline)}
        if chosen in both and baseline in both and chosen != baseline:
            found[part] = selection.paired_difference(both[chosen], both[baseline])
    return found


def _content(
    sweep: Sweep,
    identity: Evaluation,
    rows: Sequence[Row],
    choice: Choice,
    baseline: str | None,
    tested: Mapping[str, Row],
    lead: Mapping[str, Mapping[str, Interval]],
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
            "chosen": {"spec": chosen, "why": choice.why, "tied": list(choice.tied)},
            "baseline": baseline,
            "test": {spec: {"summary": row.summary, "record": row.path.stem} for spec, row in tested.items()},
            "lead": lead,
        }
    )
    return content


def _write(found: Found, bounds: Bounds) -> None:
    from ...results.views import sweep_charts

    found.folder.mkdir(parents=True, exist_ok=True)
    with replacing(found.folder / "sweep.json") as partial:
        partial.write_text(json.dumps(found.content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    sweep_charts.write(found.folder, found.content, found.rows, bounds)
