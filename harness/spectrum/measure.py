"""Where memorization lives: which bands of curvature a model's texts act on, matrix by matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ...errors import UserError
from ...model_edits import registry, spec, targets
from ...model_edits.apply import applied
from ...model_edits.bands import DECILES, OF_THE_SOURCE, SHARES, Band, Banded, spectrum
from ...model_edits.curvature.factors import Factors
from ...model_edits.targets import Target
from ...results.records.record import Record
from ...results.records.schema import Change, Key
from ...results.statistics import band_strength as results
from ...results.statistics.paired import Paired
from ...tasks import packs
from ..common.progress import track
from ..evaluation.request import Request
from ..evaluation.runner import EvalSession
from ..lm.forward import batches
from ..models import loading, model_table
from .texts import KINDS, Text, kind_of, table, texts

BANDS = tuple(band.name for band in OF_THE_SOURCE)
LOW_MASS = 80
"""Percent of the curvature mass beyond which a band by mass begins, where the model's table names no other."""


@dataclass(frozen=True, kw_only=True)
class SpectrumRequest:
    """What to look at.

    Attributes:
        evaluation: what to load and ask; its ``edits`` hold the one whose cost is measured, or none.
        layers: ``None`` is all.
        proj: ``None`` is the MLP's.
        everywhere: count every position of a text, not those alone where something is asked.
        record: a record that tells what its edit costs.
    """

    evaluation: Request
    layers: tuple[int, ...] | None = None
    proj: tuple[str, ...] | None = None
    everywhere: bool = False
    record: Record | None = None


@dataclass(frozen=True, kw_only=True)
class SpectrumReport:
    """What was found.

    Attributes:
        about: what was looked at, and how.
        matrices: one row a matrix: how its curvature is spread.
        curves: one row a point of a matrix's curve, ``layer, proj, components, count, mass``.
        strengths: one row a text, matrix and band (see ``Measured.tidy``).
        relative: every kind of text against clean text, and memorized passages against twins (see
            ``Measured.relative``).
        correlations: of what the edit costs a kind of text (see ``band_strength.correlations``); empty without an edit,
            and where it changes none of the matrices.
        cost: the cost by kind; empty without an edit.
    """

    about: dict[str, Any]
    matrices: pd.DataFrame
    curves: pd.DataFrame
    strengths: pd.DataFrame
    relative: pd.DataFrame
    correlations: pd.DataFrame
    cost: dict[str, float]

    def findings(self, measure: str, against: str = "clean") -> list[results.Finding]:
        """Of memorized passages, matrix by matrix and layer by layer."""
        rows = self.relative[self.relative["against"] == against]
        return list(results.findings(rows, "memorized", measure, BANDS))

    def against_cost(self, measure: str) -> pd.DataFrame:
        """``kind, band, value, low, high, cost``: relative strength on the lowest band and SKEW, and the cost."""
        every = self.relative
        rows = every[(every["against"] == "clean") & (every["measure"] == measure) & every["layer"].isna()]
        rows = rows[rows["band"].isin((BANDS[-1], results.SKEW)) & rows["kind"].isin(self.cost)]
        return (
            rows[["kind", "band", "value", "low", "high"]]
            .assign(cost=rows["kind"].map(self.cost))
            .reset_index(drop=True)
        )

    def to_json(self) -> dict[str, Any]:
        """All but the long tables."""
        return {
            **self.about,
            "findings": {
                measure: {
                    against: [
                        {**dataclasses.asdict(found), "verdict": found.verdict}
                        for found in self.findings(measure, against)
                    ]
                    for against in dict.fromkeys(self.relative["against"])
                }
                for measure in results.MEASURES
            },
            "cost": self.cost,
            "correlations": self.correlations.to_dict("records"),
        }


def run(request: SpectrumRequest) -> SpectrumReport:
    """Measure.

    Raises:
        UserError: the request cannot be met.
    """
    if request.record:
        _check_record(request.record, request.evaluation)
    session = EvalSession(request.evaluation)
    loading.check_pack(session.loaded, [kind for kind in KINDS if packs.find(session.loaded.entry.pack).has(kind)])
    found = _matrices(session, request)
    if request.record and request.record.content.weights != session.loaded.weights:
        raise UserError(f"the record is of other weights than {request.evaluation.model!r}: expected one of this model")
    shown = [text for text in texts(session) if text.counted(request.everywhere)]
    bands = (*OF_THE_SOURCE, *(band for band in DECILES if band not in OF_THE_SOURCE), _beyond(session))
    spectra, curves, sums = [], [], []
    factors = _factors(session, found)
    for layer, of_layer in _by_layer(found):
        banded = {t.name: Banded(t.matrix(session.loaded.model), _known(factors, t), bands) for t in of_layer}
        for target in of_layer:
            row, curve = _spectrum(target, factors[target.name])
            spectra.append(row)
            curves.append(curve)
        sums.append(_sums(session, banded, shown, request.everywhere, f"layer {layer}"))
    measured = results.Measured(
        texts=table(shown, request.everywhere),
        matrices=pd.DataFrame(spectra),
        bands=[band.name for band in bands],
        ends=(bands.index(OF_THE_SOURCE[0]), bands.index(OF_THE_SOURCE[-1])),
        sums=np.concatenate(sums, axis=1),
    )
    return _report(request, session, measured, pd.concat(curves, ignore_index=True), _cost(session, request.record))


def _check_record(record: Record, request: Request) -> None:
    """Refuse a record whose items are not those that are looked at."""
    content, own = record.content, model_table.resolve(request.model)
    given = content.arguments
    for name, its, asked in (
        ("suite", content.suite, request.suite),
        ("split", given.split, request.split),
        ("pack", _names(given.pack or own.pack), _names(request.pack or own.pack)),
    ):
        if its != asked:
            raise UserError(
                f"the record {record.path} is of the {name} {its!r}, not {asked!r}: expected --{name} {its}"
            )


def _names(pack: str) -> str:
    """Of the pack's folders, wherever they lie."""
    return "+".join(Path(part).name for part in pack.split("+"))


def _report(
    request: SpectrumRequest, session: EvalSession, measured: results.Measured, curves: pd.DataFrame, cost: _Cost
) -> SpectrumReport:
    seed = request.evaluation.seed
    names = measured.matrices["name"]
    changed = [i for i, name in enumerate(names) if f"{name}.weight" in cost.changed]
    together = changed or list(range(len(names)))
    tables = [measured.relative("clean", together, seed)]
    if "twins" in set(measured.texts["kind"]):
        tables.append(measured.only(("memorized", "twins")).relative("twins", together, seed))
    loaded = session.loaded
    about = {
        "model": request.evaluation.model,
        "weights": loaded.weights,
        "pack": loaded.entry.pack,
        "split": request.evaluation.split,
        "limit": request.evaluation.limit,
        "positions": "all" if request.everywhere else "asked",
        "seed": seed,
        "curvature": session.editor.curvature.arguments(_edit()),
        "matrices": measured.matrices.to_dict("records"),
        "texts": {
            str(kind): {"texts": len(rows), "tokens": int(rows["tokens"].sum())}
            for kind, rows in measured.texts.groupby("kind", sort=False)
        },
        "edit": _edit_name(session, request.record),
        "together": names[together].tolist(),
        "changed": names[changed].tolist(),
        "cost_of": {"source": cost.source, "items": cost.items},
    }
    return SpectrumReport(
        about=about,
        matrices=measured.matrices,
        curves=curves,
        strengths=measured.tidy(),
        relative=pd.concat(tables, ignore_index=True),
        correlations=results.correlations(tables[0], cost.by_kind if changed else {}, seed),
        cost=cost.by_kind,
    )


def _edit() -> registry.Edit:
    """Whose factors are needed: K-FAC's, of the default labels."""
    return registry.build(spec.parse("kfac-100"))


def _edit_name(session: EvalSession, record: Record | None) -> str | None:
    if record is not None:
        return record.spec
    return registry.chain_text(session.chains[0]) if session.chains else None


def _matrices(session: EvalSession, request: SpectrumRequest) -> tuple[Target, ...]:
    model: Any = session.loaded.model
    n_layers = model_table.layer_count(model.config.to_dict())
    layers = request.layers if request.layers is not None else range(n_layers or 1)
    found = targets.find(model, layers, request.proj or (*targets.default_proj(model), "down"))
    if any(target.part for target in found):
        raise UserError(
            f"{type(model).__name__} has experts, whose inputs are not told apart by text: expected --proj q+k+v+o"
        )
    return found


def _factors(session: EvalSession, found: Sequence[Target]) -> Mapping[str, Factors]:
    curvature, edit = session.editor.curvature, _edit()
    curvature.collect_missing([(edit, found)])
    return curvature.read(curvature.arguments(edit), found)


def _known(factors: Mapping[str, Factors], target: Target) -> Factors:
    found = factors[target.name]
    if not found.known:
        raise UserError(f"{target.name} has no curvature: its inputs or gradients are all 0")
    return found


def _by_layer(found: Sequence[Target]) -> Iterator[tuple[int, list[Target]]]:
    for layer in dict.fromkeys(target.layer for target in found):
        yield layer, [target for target in found if target.layer == layer]


def _beyond(session: EvalSession) -> Band:
    """What K-FAC at the model's percent removes."""
    return Band(start=session.loaded.entry.percent.get("kfac", LOW_MASS), stop=100, by="mass")


def _spectrum(target: Target, factors: Factors) -> tuple[dict[str, Any], pd.DataFrame]:
    """A matrix's row and its curve."""
    found = spectrum(factors.eigenbasis)
    about = {"layer": target.layer, "proj": target.proj}
    holding = {f"holding_{100 * share:g}": found.holding[share] for share in SHARES}
    row = {
        "name": target.name,
        **about,
        "components": found.components,
        "effective_rank": found.effective_rank,
        **holding,
    }
    curve = pd.DataFrame(found.curve, columns=["count", "mass"])
    return row, curve.assign(**about, components=found.components)


@torch.inference_mode()
def _sums(
    session: EvalSession, banded: Mapping[str, Banded], shown: Sequence[Text], everywhere: bool, label: str
) -> np.ndarray:
    """Σ over each text's tokens of its strengths [texts, matrices, bands, measures], in one pass over all texts."""
    model, batch = session.loaded.model, session.scorer.lm.batch
    bands = len(next(iter(banded.values())).steps)
    sums = np.zeros((len(shown), len(banded), bands, len(results.MEASURES)))
    chosen: tuple[list[int], list[int], list[int]] = ([], [], [])

    def hook(matrix: int, one: Banded) -> Any:
        def feed(module: Any, inputs: Any, output: Any) -> None:
            row_n, place_n, text_n = chosen
            strength = one.strength(inputs[0][row_n, place_n])
            values = torch.stack(strength, dim=2).cpu().double().numpy()
            np.add.at(sums[:, matrix], text_n, values)

        return feed

    with ExitStack() as stack:
        for matrix, (name, one) in enumerate(banded.items()):
            stack.callback(model.get_submodule(name).register_forward_hook(hook(matrix, one)).remove)
        passes = batches([text.ids for text in shown], batch, model.device)
        for chunk, ids in track(passes, label, len(shown), size=lambda item: len(item[0])):
            places = [(row, place, i) for row, i in enumerate(chunk) for place in shown[i].counted(everywhere)]
            chosen = ([p[0] for p in places], [p[1] for p in places], [p[2] for p in places])
            model(ids, use_cache=False)
    return sums


@dataclass(frozen=True, kw_only=True)
class _Cost:
    """What an edit costs.

    Attributes:
        by_kind: of each kind of text.
        items: that each of these is of.
        source: where they were scored, in words.
        changed: names of the weights that the edit changes.
    """

    by_kind: dict[str, float] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    source: str = ""
    changed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, changes: Mapping[Key, Change], rates: Mapping[str, Key], source: str, names: Any) -> _Cost:
        by_kind = results.costs(changes, rates)
        items = {kind: changes[rates[kind]].n for kind in by_kind}
        return cls(by_kind=by_kind, items=items, source=source, changed=frozenset(map(str, names)))


def _cost(session: EvalSession, record: Record | None) -> _Cost:
    """Of the edit that the record or the request has; nothing where there is none."""
    rates: dict[str, Key] = {}
    for part in session.parts:  # of several tasks about the same texts, the first
        rates.setdefault(kind_of(part), (part.axis, next(iter(part.metrics.values()))))
    if record is not None:
        names = [matrix.name for matrix in record.content.matrices]
        return _Cost.of(record.changes, rates, f"record {record.id}", names)
    if not session.chains:
        return _Cost()
    scorer, loaded = session.scorer, session.loaded
    base = scorer.score(loaded.weights, "base")
    prepared = session.editor.prepare(*session.chains[0])
    with applied(loaded.model, prepared.weights) as before:
        edited = scorer.score(prepared.weights_hash, prepared.spec, before) if prepared.weights else base
    chance = {
        (part.axis, next(iter(part.metrics.values()))): part.chance for part in session.parts if part.axis != "fluency"
    }
    changes = Paired(base.items, edited.items, chance, session.request.seed).changes()
    return _Cost.of(changes, rates, "scored in this run", [change.name for change in prepared.changes])
