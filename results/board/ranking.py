"""Leaderboards: methods of one model, scored on the same items and after the same attacks, by their split scores.

A row is a method with its target matrices; its strengths are points on its curve. The strength that stands for a method
is the one of the best split score on dev, and its figures are of the table's own part: nothing is chosen by the items
that it is told on. Rank = 1 + the number of methods whose split score lies above this one's with the whole 95 %
interval of the paired difference: all are scored on the same items, so that their resamples are the same, and what is
hard for all of them cancels. The base and the controls stand in rows of their own and have no rank.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..records.record import Record
from ..records.schema import Interval
from ..statistics import curves, draws
from ..statistics.curves import Curve
from ..statistics.paired import SPLIT_SCORE, interval
from ..statistics.selection import dominated
from . import columns
from .methods import BASELINES, RANDOM, Place, baseline, is_control, targets
from .table import Board, BoardRow, Cell, Setting, Strength

NEAR = 0.05
"""How much less than the first method's a baseline's split score may be, to be near the top."""
Draws = dict[tuple[str, ...], Record]
"""The newest record of each draw, by its seeds."""


def boards(records: Iterable[Record], dev: Iterable[Record] = ()) -> list[Board]:
    """The tables of some records, one for each setting; of several records of a draw the newest is taken.

    Args:
        records: oldest first, as a store lists them. Those of the dev part choose strengths for the tables of the test
            part; where there is such a table they have none of their own.
        dev: further records of the dev part, to choose by.
    """
    groups: dict[Setting, list[Record]] = {}
    for record in records:
        groups.setdefault(Setting.of(record), []).append(record)
    by_dev: dict[Setting, list[Record]] = {}
    known = [record for of_one in groups.values() for record in of_one]
    for record in {record.id: record for record in [*dev, *known]}.values():
        if record.content.arguments.split == "dev":
            by_dev.setdefault(Setting.of(record).apart_from_items, []).append(record)
    tested = {setting.apart_from_items for setting in groups if setting.split != "dev"}
    tables = [
        _board(setting, of_one, by_dev.get(setting.apart_from_items, []))
        for setting, of_one in groups.items()
        if setting.split != "dev" or setting.apart_from_items not in tested
    ]
    return sorted(tables, key=lambda board: _place(board.about))


def ranks(scores: Sequence[np.ndarray | None]) -> list[int | None]:
    """1 + how many others lie above, with the whole interval of the paired difference; ``None`` for no finite score.

    Args:
        scores: the replicates of each method's split score, on the same resamples.
    """
    known = [score for score in scores if score is not None and math.isfinite(score[0])]
    return [
        1 + sum(interval(other - score).low > 0 for other in known if other is not score)
        if score is not None and math.isfinite(score[0])
        else None
        for score in scores
    ]


def _score(row: BoardRow) -> np.ndarray | None:
    """The replicates of the split score that a row shows; ``None`` where it shows none."""
    known = row.chosen is not None and math.isfinite(row.score().value)
    return row.chosen.replicates.get("split_score") if row.chosen and known else None


def _place(about: Setting) -> tuple[object, ...]:
    """A sort key: model by model; the test part first, whole tasks before first items, attacks before none."""
    limit = about.limit or math.inf
    return about.model, about.suite, about.split != "test", -limit, not about.attacks, about.fingerprint, about.weights


def _board(about: Setting, records: Sequence[Record], dev: Sequence[Record]) -> Board:
    methods, older = _grouped(records)
    on_dev, _ = _grouped(dev)
    seed = records[-1].content.arguments.seed
    rows = [_row(name, strengths, on_dev.get(name, {}), seed) for name, strengths in methods.items()]
    rows = [_read_off(row, _control(row, rows)) for row in rows]
    edits = [row for row in rows if row.kind == "edit"]
    scores = [_score(row) for row in edits]
    ranked = [dataclasses.replace(row, rank=rank) for row, rank in zip(edits, ranks(scores), strict=True)]
    controls = [row for row in rows if row.kind == "control"]
    base = Strength(spec="base", label="", records=(records[-1],), cells=columns.of_base(records[-1]))
    first = BoardRow(kind="base", name="base", strengths=(base,), chosen=base, cells=base.cells)
    whole = [first, *sorted(ranked, key=_order), *sorted(controls, key=_order)]
    keys = {key for row in whole for cells in (row.cells, *(each.cells for each in row.strengths)) for key in cells}
    return Board(
        about=about,
        rows=whole,
        columns=[column for column in columns.columns(records) if column.key in keys],
        older=older,
        dev=tuple(record for name in methods for each in on_dev.get(name, {}).values() for record in each.values()),
        warnings=tuple(_warnings(whole)),
        remarks=tuple(_remarks(whole, about)),
    )


def _grouped(records: Sequence[Record]) -> tuple[dict[str, dict[str, Draws]], list[str]]:
    """The records by method, strength and draw, and the ids of those that have a newer one."""
    methods: dict[str, dict[str, Draws]] = {}
    older = []
    for record in records:
        place = Place.of(record)
        of_strength = methods.setdefault(place.method, {}).setdefault(place.strength, {})
        if place.draw in of_strength:
            older.append(of_strength[place.draw].id)
        of_strength[place.draw] = record
    return methods, older


def _row(name: str, strengths: dict[str, Draws], on_dev: dict[str, Draws], seed: int) -> BoardRow:
    """A method's row, without rank and what is read off its curve."""
    found = [_strength(spec, of_one, on_dev.get(spec, {}), seed) for spec, of_one in strengths.items()]
    if len(found) > 1:
        found = [each if each.label else dataclasses.replace(each, label="default") for each in found]
    beaten = _beaten(on_dev)
    found = [
        dataclasses.replace(each, on_curve=spec not in beaten) for spec, each in zip(strengths, found, strict=True)
    ]
    found.sort(key=_strength_order)
    scored = [each for each in found if math.isfinite(each.dev)]
    chosen = max(scored, key=lambda each: each.dev) if scored else found[0] if len(found) == 1 else None
    kind = "control" if is_control(found[0].records[0]) else "edit"
    cells = dict(chosen.cells) if chosen else {}
    return BoardRow(kind=kind, name=name, strengths=tuple(found), chosen=chosen, cells=cells)


def _beaten(on_dev: dict[str, Draws]) -> set[str]:
    """The strengths that on dev another one, or the base, equals in net erased and reasoning kept and beats in one."""
    points = []
    for of_one in on_dev.values():
        each = [[_value(record.summary.get(name)) for name in SPLIT_SCORE[:2]] for record in of_one.values()]
        points.append(np.mean(each, axis=0))
    *beaten, _ = dominated(np.array([*points, (0.0, 1.0)]))
    return {spec for spec, is_beaten in zip(on_dev, beaten, strict=True) if is_beaten}


def _strength(spec: str, of_one: Draws, on_dev: Draws, seed: int) -> Strength:
    records = tuple(of_one[key] for key in sorted(of_one))
    attacked = all("stays_erased" in record.summary for record in records)
    replicates = {}
    if attacked or len(records) > 1:
        replicates = draws.together([draws.of_record(record, seed) for record in records], seed, spec)
    single = len(records) == 1
    figures = records[0].summary if single else {name: interval(each) for name, each in replicates.items()}
    scores = [_value(record.summary.get("split_score")) for record in on_dev.values()]
    return Strength(
        spec=records[0].spec if single else spec,
        label=Place.of(records[0]).label,
        records=records,
        cells=columns.cells(records, figures),
        axes=columns.axes(records, figures),
        dev=float(np.mean(scores)) if scores else math.nan,
        replicates=replicates,
    )


def _strength_order(strength: Strength) -> tuple[bool, float, str]:
    """A sort key: by what stays erased, where that is known."""
    stays = _value(strength.cells.get("stays_erased"))
    return math.isnan(stays), 0.0 if math.isnan(stays) else stays, strength.spec


def _control(row: BoardRow, rows: Sequence[BoardRow]) -> BoardRow | None:
    """The random control of a row's matrices; of several the one of the same labels, else the first by name."""
    of_random = [other for other in rows if baseline(other.record) == RANDOM and other is not row]
    same = [other for other in of_random if targets(other.record) == targets(row.record) and targets(row.record)]
    labels = row.record.content.steps[0].get("labels")
    return min(
        same, key=lambda other: (other.record.content.steps[0].get("labels") != labels, other.name), default=None
    )


def _read_off(row: BoardRow, control: BoardRow | None) -> BoardRow:
    """The row with what is read off its curve, and off the random control's beside it."""
    curve = _curve(row)
    if curve is None:
        return row
    cells: dict[str, Cell] = {
        **row.cells,
        **{key: curves.read_off(curve.kept_at(share)) for key, share in columns.READ_AT.items()},
        columns.MOST: interval(curve.most),
    }
    other = _curve(control) if control else None
    if other is not None and row.chosen is not None and "net_erased" in row.chosen.replicates:
        erased = row.chosen.replicates["net_erased"]
        cells[columns.LEAD] = curves.read_off(curves.lead(curve, other, erased))
        cells[columns.LEAD_AT] = float(min(erased[0], other.most[0]))
    return dataclasses.replace(row, cells=cells)


def _curve(row: BoardRow) -> Curve | None:
    return Curve.through(each.replicates for each in row.strengths if each.on_curve)


def _order(row: BoardRow) -> tuple[float, float, float, str]:
    """A sort key: by rank, then by score, then by perplexity; rows without them last."""
    value, ratio = row.score().value, _value(row.cells.get("perplexity_ratio"))
    ppl = math.inf if math.isnan(ratio) else ratio
    return math.inf if row.rank is None else row.rank, math.inf if math.isnan(value) else -value, ppl, row.name


def _warnings(rows: Sequence[BoardRow]) -> Iterator[str]:
    """A sentence for each baseline that is near the top: then the order says little of what a method knows."""
    first = max((row for row in rows if row.rank == 1), key=lambda row: row.score().value, default=None)
    if first is None or first.chosen is None:
        return
    best, ahead_of = first.chosen.replicates["split_score"], first.score().value
    for row in (row for row in rows if row.kind == "control"):
        scored = [each for each in row.strengths if "split_score" in each.replicates]
        told = row.chosen or max(scored, key=lambda each: each.score().value, default=None)
        if told is None or not math.isfinite(told.score().value):
            continue
        ahead = interval(best - told.replicates["split_score"])
        if ahead.low <= 0 or ahead.value <= NEAR:
            yield (
                f"No headline: {told.spec}, which knows nothing of what is memorized, has a split score of "
                f"{told.score().value:.3f}, and the first method, {first.spec}, has {ahead_of:.3f}."
            )


def _remarks(rows: Sequence[BoardRow], about: Setting) -> Iterator[str]:
    """How strengths were chosen, and which baselines are missing."""
    several = [row for row in rows if len(row.strengths) > 1]
    without = [row.name for row in several if row.chosen is None]
    if not about.attacks:
        yield "No attacks were made: nothing has a split score or a rank (memsplit-eval --attacks)."
    if len(without) < len(several):
        where = "on these very items, which flatters" if about.split == "dev" else "on dev"
        yield f"The strength of each method is the one of the best split score {where}."
    if without and about.attacks:
        yield (
            f"No strength was chosen, and there is no rank, for want of records of dev (memsplit-eval --split dev "
            f"--attacks): {', '.join(without)}."
        )
    unscored = sum(
        len(row.strengths) > 1 and row.chosen is not None and math.isnan(each.dev)
        for row in rows
        for each in row.strengths
    )
    if unscored:
        have = "strengths have" if unscored > 1 else "strength has"
        yield f"{unscored} {have} no record of dev and did not take part in the choice."
    there = {baseline(row.record) for row in rows if row.kind != "base"}
    if missing := [words for name, words in BASELINES.items() if name not in there]:
        yield f"Baselines that are missing: {', '.join(missing)}."


def _value(cell: Cell | None) -> float:
    """A cell's value; nan for none."""
    return math.nan if cell is None else cell.value if isinstance(cell, Interval) else cell
