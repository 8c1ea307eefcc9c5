"""Score a base model and its edits on one suite: loaded once, base scored once, restored bit for bit in between."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import logging
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ...errors import UserError
from ...model_edits import registry
from ...model_edits.apply import applied
from ...results.records import record, schema
from ...results.records.encoding import plain
from ...results.records.record import Record
from ...results.records.schema import Evaluation, Key, Results, Risk, Sides
from ...results.records.score_cache import Scores, ScoreStore
from ...results.records.store import Store
from ...results.statistics import aggregate, extraction
from ...results.statistics.paired import Paired
from ...tasks.suite import NO_RATES, TaskSpec
from ..common import cache
from ..lm.adapter import MemsplitLM
from ..models import loading, model_table
from . import hub_tasks
from .editing import ModelEditor, Prepared
from .request import NOT_ASKED, Request, choose_parts, command, leave_out
from .scoring import Scorer, load_tasks

PACKAGES = ("memsplit", "torch", "transformers", "lm-eval", "datasets", "rapidfuzz", "pandas", "scipy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a command found: a record an edit."""

    model: str
    suite: str
    fingerprint: str
    records: list[Record]
    skipped: list[TaskSpec]

    def to_json(self) -> dict[str, Any]:
        """The one object of ``--json``."""
        first = self.records[0].content
        report: dict[str, Any] = plain(
            {
                "model": self.model,
                "suite": self.suite,
                "fingerprint": self.fingerprint,
                "skipped": [{"task": part.task, "reason": part.reason} for part in self.skipped],
                "base": first.base,
                "base_risk": first.risk.base,
                "edits": [
                    {
                        "spec": entry.spec,
                        "axes": entry.content.edited,
                        "summary": {name: interval.value for name, interval in entry.summary.items()},
                        "risk": entry.content.risk.edit,
                        "seconds": sum(entry.seconds.values()),
                        "record": str(entry.path),
                    }
                    for entry in self.records
                ],
            }
        )
        return report


class EvalSession:
    """One loaded model with its edits, its tasks, and what scores them.

    Args:
        request: what to run.
        loaded: the request's model, where it is loaded already; it must be the base.

    Raises:
        UserError: the request cannot be met.
    """

    def __init__(self, request: Request, loaded: loading.LoadedModel | None = None) -> None:
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        torch.manual_seed(request.seed)
        self.request = request
        entry = model_table.resolve(request.model, request.pack, request.corpus)
        parts, skipped = choose_parts(request.suite, request.tasks, entry)
        self.loaded = loaded or loading.load(
            entry, device=request.device, dtype=request.dtype, parallelize=request.parallelize
        )
        long = loading.check_pack(self.loaded, _kinds(parts))
        too_long = [
            dataclasses.replace(part, note=reasons[0])
            for part in parts
            if (reasons := [long[kind] for kind in _kinds([part]) if kind in long])
        ]
        parts = leave_out(parts, too_long)
        self.editor = ModelEditor(self.loaded, request.factor_tokens)
        self.chains = [self.editor.chain(text) for text in request.edits]
        lm = MemsplitLM(self.loaded, batch_size=request.batch_size)
        tasks, missing = hub_tasks.load([part for part in parts if part.hub], lm)
        self.skipped = [*skipped, *too_long, *missing]
        self.parts = leave_out(parts, missing)
        tasks |= load_tasks([part for part in parts if not part.hub], entry.pack, request.split)
        self.scorer = Scorer(
            lm,
            self.parts,
            {part.task: tasks[part.task] for part in self.parts},
            limit=request.limit,
            store=ScoreStore(cache.folder() / "scores"),
            rescore=request.rescore,
        )

    @functools.cached_property
    def reference(self) -> tuple[pd.DataFrame | None, schema.Reference | None]:
        """The reference model's scores of the passages that are asked, and what it is; ``None`` where none is named."""
        return _reference(self) if self.request.reference else (None, None)

    @functools.cached_property
    def base(self) -> tuple[Scores, Risk]:
        """The base model's scores, and what can be extracted from it."""
        scores = self._score(self.loaded.weights, "base")
        return scores, extraction.risk(scores.items, self.request.seed)

    def made_from(self) -> dict[str, str | None]:
        """What decides each edit's weights, by spec (see ``ModelEditor.made_from``)."""
        return {registry.chain_text(chain): self.editor.made_from(chain) for chain in self.chains}

    def prepare(self, chains: Sequence[Sequence[registry.Edit]]) -> None:
        """Have ready what edits have in common: the reference's scores, missing factors, the base's scores.

        Raises:
            UserError: a matrix that an edit names is not there, or factors cannot be had.
        """
        if chains:
            _ = self.reference
            self.editor.collect_missing([edit for chain in chains for edit in chain])
            _ = self.base

    def evaluate(self, chain: Sequence[registry.Edit], out: Path | None = None) -> Record:
        """Score an edit and write its record, into the request's folder or ``out``; the base is in place afterwards."""
        base, base_risk = self.base
        prepared = self.editor.prepare(*chain)
        edited = base
        if prepared.weights:
            with applied(self.loaded.model, prepared.weights) as base_weights:
                edited = self._score(prepared.weights_hash, prepared.spec, base_weights)
        return _compare(self, prepared, base, edited, base_risk, out or self.request.out)

    def _score(self, weights: str, label: str, base: Mapping[str, torch.Tensor] | None = None) -> Scores:
        """The suite's scores with, where there is a reference model, the passages' ratio to its loss."""
        reference, _ = self.reference
        scores = self.scorer.score(weights, label, base)
        if reference is None:
            return scores
        return dataclasses.replace(scores, items=extraction.with_reference(scores.items, reference))


def _kinds(parts: Iterable[TaskSpec]) -> list[str]:
    """The files of the pack that the parts need."""
    return [kind for part in parts if part.kind for kind in part.kind.split("+")]


def run(request: Request) -> Report:
    """Run a request and write its records.

    Raises:
        UserError: the request cannot be met.
    """
    session = EvalSession(request)
    finished = Store(request.out).of(identity(session), session.made_from()) if request.resume else {}
    chains = [chain for chain in session.chains if registry.chain_text(chain) not in finished]
    session.prepare(chains)
    for chain in chains:
        finished[registry.chain_text(chain)] = session.evaluate(chain)
    return Report(
        model=request.model,
        suite=request.suite,
        fingerprint=session.scorer.fingerprint,
        records=[finished[registry.chain_text(chain)] for chain in session.chains],
        skipped=session.skipped,
    )


def identity(session: EvalSession) -> Evaluation:
    """What is evaluated and how, apart from the edit."""
    request = session.request
    given = {k: v for k, v in dataclasses.asdict(request).items() if k not in NOT_ASKED}
    return Evaluation(
        model=request.model,
        weights=session.loaded.weights,
        arguments=schema.Arguments(**{**given, "tasks": tuple(request.tasks)}),
        suite=request.suite,
        fingerprint=session.scorer.fingerprint,
        reference=session.reference[1],
        dtype=str(session.loaded.model.dtype).removeprefix("torch."),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        code=session.scorer.settings["code"],
    )


def _reference(session: EvalSession) -> tuple[pd.DataFrame, schema.Reference]:
    """The reference model's scores of the passages that are asked, and what it is."""
    request = session.request
    assert request.reference is not None
    entry = model_table.resolve(request.reference, session.loaded.entry.pack)
    parts = [part for part in session.parts if "mia_loss" in part.metrics]
    if not parts:
        raise UserError(f"--reference {request.reference!r} is compared on passages, and no task that is asked has any")
    loaded = loading.load(entry, device=request.device, dtype=request.dtype, parallelize=request.parallelize)
    for reason in loading.check_pack(loaded, _kinds(parts)).values():
        raise UserError(f"the reference model {request.reference!r} cannot be asked: {reason}")
    lm = MemsplitLM(loaded, batch_size=request.batch_size)
    tasks = {part.task: session.scorer.tasks[part.task] for part in parts}
    scorer = Scorer(lm, parts, tasks, limit=request.limit, store=session.scorer.store, rescore=request.rescore)
    about = schema.Reference(model=request.reference, weights=loaded.weights, revision=loaded.revision)
    return scorer.score(loaded.weights, "reference").items, about


def _compare(
    session: EvalSession, prepared: Prepared, base: Scores, edited: Scores, base_risk: Risk, out: Path
) -> Record:
    """Compare an edit with the base, item by item, and write its record."""
    request, spec, chance = session.request, prepared.spec, _chance(session)
    both = Paired(base.items, edited.items, chance, request.seed)
    results = Results(
        spec=spec,
        **_context(session, prepared, edited.items.groupby("task")["item"].nunique().to_dict()),
        base=aggregate.metrics(base.items),
        edited=aggregate.metrics(edited.items),
        chance={"/".join(key): value for key, value in chance.items()},
        changes={"/".join(key): change for key, change in both.changes().items()},
        summary=both.summary(),
        risk=Sides(base=base_risk, edit=extraction.risk(edited.items, request.seed)),
        groups=Sides(base=aggregate.by_group(base.items), edit=aggregate.by_group(edited.items)),
        seconds={"base": base.seconds, **prepared.seconds, "suite": edited.seconds},
    )
    tables = [
        pd.concat([before.assign(side="base"), after.assign(side="edit")], ignore_index=True)
        for before, after in ((base.items, edited.items), (base.answers, edited.answers))
    ]
    return record.write(out, _file_name(request.model, spec), results, *tables)


def _chance(session: EvalSession) -> dict[Key, float]:
    """What guessing scores, by (axis, metric), where more is better and the metric is a rate."""
    return {
        (part.axis, name): part.chance
        for part in session.parts
        for metric, name in part.metrics.items()
        if session.scorer.tasks[part.task].higher_is_better().get(metric) and metric not in NO_RATES
    }


def _context(session: EvalSession, prepared: Prepared, items: Mapping[str, int]) -> dict[str, Any]:
    request, loaded, scorer, evaluation = session.request, session.loaded, session.scorer, identity(session)
    return {
        **{name: getattr(evaluation, name) for name in Evaluation.__struct_fields__},
        "command": command(request, prepared.spec),
        "control": any(step.control for step in prepared.steps),
        "pretrained": "memsplit" if loaded.entry.pretrained == str(model_table.ORGANISM) else loaded.entry.pretrained,
        "revision": loaded.revision,
        "parameters": loaded.model.num_parameters(),
        "recipe_hash": session.editor.made_from(prepared.steps),
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
            )
            for part in session.parts
        },
        "skipped": tuple(schema.SkippedTask(task=part.task, reason=part.reason) for part in session.skipped),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {
            "device": str(loaded.model.device),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }


def _file_name(model: str, spec: str) -> str:
    """At most 120 characters; the record's hash, which follows, tells longer ones apart."""
    return "".join(c if c.isalnum() or c in "-_.+=" else "_" for c in f"{Path(model).name[:40]}_{spec}")[:120]
