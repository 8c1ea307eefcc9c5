"""Run a request: score the base model once and each edit on the same tasks, compare the two, and write records."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from msgspec import UNSET

from ...errors import UserError
from ...model_edits import registry
from ...results.records import record, schema
from ...results.records.axes import STRICT
from ...results.records.encoding import plain
from ...results.records.record import Record
from ...results.records.schema import Evaluation, Key, Results, Risk, Sides
from ...results.records.score_cache import Scores
from ...results.records.store import Store
from ...results.records.tables import BASE, EDIT, attacked
from ...results.statistics import aggregate, extraction
from ...results.statistics.paired import Paired
from ...results.views import frames
from ...tasks.suite import TaskSpec
from ..common import runtime
from ..models import model_table
from .editing import Prepared
from .request import Request, command
from .session import EvalSession

PACKAGES = ("memsplit", "torch", "transformers", "lm-eval", "datasets", "rapidfuzz", "pandas", "scipy", "safetensors")


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """The records of a request's edits; shown as a short table by an interpreter or a notebook.

    ``notes`` are lines on what else must be known of the questions and the edits.
    """

    model: str
    suite: str
    fingerprint: str
    records: list[Record]
    skipped: list[TaskSpec]
    notes: Sequence[str] = ()

    def frame(self) -> pd.DataFrame:
        """One row for each edit, axis and metric (see :func:`memsplit.results.views.frames.tidy`)."""
        return frames.tidy(self.records)

    def __repr__(self) -> str:
        return frames.as_text(*self._brief())

    def _repr_html_(self) -> str:
        return frames.as_html(*self._brief())

    def _brief(self) -> tuple[str, pd.DataFrame]:
        return f"{self.model}, suite {self.suite}", frames.brief((each.spec, each.summary) for each in self.records)

    def to_json(self) -> dict[str, Any]:
        """The one object of ``--json``."""
        first = self.records[0].content
        report: dict[str, Any] = plain(
            {
                "model": self.model,
                "suite": self.suite,
                "fingerprint": self.fingerprint,
                "skipped": [{"task": part.task, "reason": part.reason} for part in self.skipped],
                "left_out": {name: task.left_out for name, task in first.tasks.items() if task.left_out},
                "notes": list(self.notes),
                "base": first.base,
                "base_risk": first.risk.base,
                "edits": [
                    {
                        "spec": entry.spec,
                        "axes": entry.content.edited,
                        "summary": {name: interval.value for name, interval in entry.summary.items()},
                        "attacks": entry.attacks,
                        "by_group": entry.by_group,
                        "notes": list(entry.notes),
                        "risk": entry.content.risk.edit,
                        "seconds": sum(entry.seconds.values()),
                        "record": str(entry.path),
                    }
                    for entry in self.records
                ],
            }
        )
        return report


def run(request: Request) -> Report:
    """Run a request and write its records.

    Raises:
        UserError: the request cannot be met.
    """
    if not request.edits:
        raise UserError("no edit: expected one spec or more, as in edits=['kfac-80']")
    session = EvalSession(request)
    finished = Store(request.out).of(identity(session), session.recipe_hashes()) if request.resume else {}
    chains = [chain for chain in session.chains if registry.chain_text(chain) not in finished]
    session.prepare(chains)
    for chain in chains:
        finished[registry.chain_text(chain)] = evaluate(session, chain)
    records = [finished[registry.chain_text(chain)] for chain in session.chains]
    return Report(
        model=request.model,
        suite=request.suite,
        fingerprint=session.scorer.fingerprint,
        records=records,
        skipped=session.skipped,
        notes=list(dict.fromkeys([*session.notes, *(note for written in records for note in written.notes)])),
    )


def evaluate(session: EvalSession, chain: Sequence[registry.Edit], out: Path | None = None) -> Record:
    """Score an edit, write its record into ``out`` or the request's folder, and put the base's weights back."""
    base, base_risk = session.base
    prepared = session.editor.prepare(*chain)
    edited, note = base, ""
    if prepared.weights:
        with session.editor.applied(prepared) as (base_weights, note):
            edited = session.score(prepared.weights_hash, prepared.spec, base_weights)
    seconds = {"base": base.seconds, **prepared.seconds, "suite": edited.seconds}
    sides = session.unseen[1]
    notes = [note] if note else []
    if session.attacks:
        start = time.monotonic()
        after, others = session.attacked(prepared)
        sides = {**sides, **after}
        notes += [*others, *session.unseen_notes]
        seconds["attacks"] = time.monotonic() - start
    found = _compare(session, prepared, (base, edited), base_risk, sides)
    tables = [
        pd.concat([rows.assign(side=side) for side, rows in of_sides.items()], ignore_index=True)
        for of_sides in (
            {BASE: base.items, EDIT: edited.items, **sides},
            {BASE: base.answers, EDIT: edited.answers},
        )
    ]
    return record.write(
        out or session.request.out,
        _file_name(session.request.model, prepared.spec),
        Results(**found, notes=tuple(notes) or UNSET, seconds=seconds),
        *tables,
    )


def identity(session: EvalSession) -> Evaluation:
    """What is evaluated and how, apart from the edit."""
    request = session.request
    given = {name: getattr(request, name) for name in schema.Arguments.__struct_fields__}
    return Evaluation(
        model=request.model,
        weights=session.loaded.weights,
        arguments=schema.Arguments(
            **{
                **given,
                "include_path": tuple(map(str, request.include_path)) or UNSET,
                "attacks": tuple(session.attacks) or UNSET,
                "revision": request.revision or UNSET,
                "trust_remote_code": request.trust_remote_code or UNSET,
                "dequantize": request.dequantize or UNSET,
                "chat_template": request.chat_template or UNSET,
            }
        ),
        suite=request.suite,
        fingerprint=session.scorer.fingerprint,
        reference=session.unseen[0],
        dtype=str(session.loaded.model.dtype).removeprefix("torch."),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        code=session.scorer.settings["code"],
    )


def _compare(
    session: EvalSession,
    prepared: Prepared,
    scores: tuple[Scores, Scores],
    base_risk: Risk,
    sides: Mapping[str, pd.DataFrame],
) -> dict[str, Any]:
    """What a record of an edit says: the edit compared with the base, item by item.

    Args:
        session: of the edit.
        prepared: the edit.
        scores: of the base and of the edited model.
        base_risk: what can be extracted from the base.
        sides: items of further sides (see ``records.tables``).
    """
    base, edited = (side.items for side in scores)
    request, chance = session.request, _chance(session)
    both = Paired(base, edited, chance, request.seed, sides)
    return {
        "spec": prepared.spec,
        **_context(session, prepared, edited.groupby("task")["item"].nunique().to_dict()),
        "base": aggregate.metrics(base),
        "edited": aggregate.metrics(edited),
        "chance": {"/".join(key): value for key, value in chance.items()},
        "changes": {"/".join(key): change for key, change in both.changes().items()},
        "summary": both.summary(),
        "attacks": tuple(
            schema.Attack(spec=attack, erased=erased, strict=_strict(sides[attacked(EDIT, attack)]))
            for attack, erased in both.attacks().items()
        )
        or UNSET,
        "by_group": both.by_group() or UNSET,
        "risk": Sides(base=base_risk, edit=extraction.risk(edited, request.seed)),
        "groups": Sides(base=aggregate.by_group(base), edit=aggregate.by_group(edited)),
    }


def _strict(items: pd.DataFrame) -> float:
    """The share of memorized passages that are continued word for word."""
    axis, metric = STRICT
    return float(items.loc[(items["axis"] == axis) & (items["metric"] == metric), "value"].mean(skipna=False))


def _chance(session: EvalSession) -> dict[Key, float]:
    """What guessing scores, by (axis, metric), where more is better and the metric is a rate."""
    return {
        (part.axis, name): part.chance
        for part in session.parts
        for metric, name in part.metrics.items()
        if session.scorer.tasks[part.task].higher_is_better().get(metric) and metric not in part.not_rates
    }


def _context(session: EvalSession, prepared: Prepared, items: Mapping[str, int]) -> dict[str, Any]:
    request, loaded, scorer, evaluation = session.request, session.loaded, session.scorer, identity(session)
    return {
        **{name: getattr(evaluation, name) for name in Evaluation.__struct_fields__},
        "command": command(request, prepared.spec),
        "control": registry.is_control(prepared.steps),
        "pretrained": model_table.place(loaded.entry),
        "revision": loaded.revision,
        "parameters": loaded.model.num_parameters(),
        "recipe_hash": session.recipe_hash(prepared.steps),
        "edited_weights": prepared.weights_hash,
        "steps": tuple({"name": step.name, **dataclasses.asdict(step)} for step in prepared.steps),
        "factors": tuple(prepared.factors),
        "matrices": tuple(schema.EditedMatrix(**dataclasses.asdict(change)) for change in prepared.changes),
        "tasks": {
            part.task: schema.ScoredTask(
                axis=part.axis,
                version=scorer.tasks[part.task].VERSION,
                fingerprint=scorer.fingerprints[part.task],
                n=items[part.task],
                left_out=scorer.left_out[part.task] or UNSET,
            )
            for part in session.parts
        },
        "skipped": tuple(schema.SkippedTask(task=part.task, reason=part.reason) for part in session.skipped),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": runtime.hardware(str(loaded.model.device)),
    }


def _file_name(model: str, spec: str) -> str:
    """At most 120 characters; the record's hash, which follows, tells longer ones apart."""
    return "".join(c if c.isalnum() or c in "-_.+=" else "_" for c in f"{Path(model).name[:40]}_{spec}")[:120]
