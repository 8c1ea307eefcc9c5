"""What an edit costs each kind of text, from a record or scored in this run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UserError
from ...results.records.axes import RECITATION
from ...results.records.record import Record
from ...results.records.schema import Change, Interval, Key
from ...results.statistics import band_strength
from ...results.statistics.paired import Paired
from ..evaluation.request import Request
from ..evaluation.session import EvalSession
from ..models import model_table
from .texts import kind_of


@dataclass(frozen=True, kw_only=True)
class EditCost:
    """What an edit costs.

    Attributes:
        by_kind: the cost of each kind of text (see ``band_strength.costs``).
        items: how many items of each kind it was scored on.
        source: where they were scored, in words.
        changed: names of the weights that the edit changes.
    """

    by_kind: dict[str, float] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    source: str = ""
    changed: frozenset[str] = frozenset()


def edit_cost(session: EvalSession, record: Record | None) -> EditCost:
    """The cost of the record's edit or else of the session's first; an empty one where there is no edit."""
    if record is not None:
        names = [matrix.name for matrix in record.content.matrices]
        erased = record.summary.get("erased")
        return _edit_cost(session, record.changes, erased, f"record {record.id}", names)
    if not session.chains:
        return EditCost()
    scorer, loaded = session.scorer, session.loaded
    base = scorer.score(loaded.weights, "base")
    prepared = session.editor.prepare(*session.chains[0])
    with session.editor.applied(prepared) as (before, _):
        edited = scorer.score(prepared.weights_hash, prepared.spec, before) if prepared.weights else base
    chance = {
        (part.axis, next(iter(part.metrics.values()))): part.chance for part in session.parts if part.axis != "fluency"
    }
    both = Paired(base.items, edited.items, chance, session.request.seed, session.unseen[1])
    names = [change.name for change in prepared.changes]
    return _edit_cost(session, both.changes(), both.summary().get("erased"), "scored in this run", names)


def _edit_cost(
    session: EvalSession,
    changes: Mapping[Key, Change],
    erased: Interval | None,
    source: str,
    names: Iterable[object],
) -> EditCost:
    """The cost by the first metric of each task; of several tasks about the same texts, by the first task.

    What it costs the passages is the share of their memory that is ``erased``, where that is known.
    """
    rates: dict[str, Key] = {}
    for part in session.parts:
        rates.setdefault(kind_of(part), (part.axis, next(iter(part.metrics.values()))))
    by_kind = band_strength.costs(changes, rates)
    passages = [kind for kind, (axis, _) in rates.items() if axis == RECITATION]
    if passages and erased is not None and math.isfinite(erased.value):
        by_kind[passages[0]] = erased.value
    items = {kind: changes[rates[kind]].n for kind in by_kind}
    return EditCost(by_kind=by_kind, items=items, source=source, changed=frozenset(map(str, names)))


def check_record(record: Record, request: Request) -> None:
    """Refuse a record of other items than the request's.

    Raises:
        UserError: the record's suite, split or pack is another.
    """
    content, own = record.content, model_table.resolve(request.model)
    given = content.arguments
    for name, its, wanted in (
        ("suite", content.suite, request.suite),
        ("split", given.split, request.split),
        ("pack", _folder_names(given.pack or own.pack), _folder_names(request.pack or own.pack)),
    ):
        if its != wanted:
            raise UserError(
                f"the record {record.path} is of the {name} {its!r}, not {wanted!r}: expected --{name} {its}"
            )


def _folder_names(pack: str) -> str:
    """The names of the pack's folders, without the folders that they are in."""
    return "+".join(Path(part).name for part in pack.split("+"))
