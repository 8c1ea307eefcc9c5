"""Measure how strongly texts act on bands of a model's curvature, matrix by matrix."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from ...errors import UserError
from ...model_edits import registry, spec, targets
from ...model_edits.architecture.logits import logits_at
from ...model_edits.bands import DECILES, OF_THE_SOURCE, SHARES, Band, Banded, spectrum
from ...model_edits.curvature.factors import Factors
from ...model_edits.targets import Target
from ...results.records.record import Record
from ...results.statistics import band_strength
from ...tasks import packs
from ..common.progress import track
from ..evaluation.request import Request
from ..evaluation.session import EvalSession
from ..lm.forward import batches, padded
from ..lm.memory import within_memory
from ..models import loading
from .cost import EditCost, check_record, edit_cost
from .report import SpectrumReport
from .texts import KINDS, ProbeText, table, texts

LOW_MASS = 80
"""Percent of the curvature mass after which the lowest band by mass begins, where the model table names no other."""


@dataclass(frozen=True, kw_only=True)
class SpectrumRequest:
    """What to measure.

    Attributes:
        evaluation: the model, the tasks and the split; its ``edits`` hold the one whose cost is measured, or none.
        layers: which layers; ``None`` for all.
        proj: which projections; ``None`` for those of the MLP.
        everywhere: count every position of a text, not only those whose next token the model is asked for.
        record: a record to take the cost of an edit from.
    """

    evaluation: Request
    layers: tuple[int, ...] | None = None
    proj: tuple[str, ...] | None = None
    everywhere: bool = False
    record: Record | None = None


def run(request: SpectrumRequest) -> SpectrumReport:
    """Measure the strength of every text on every band of every matrix, and what an edit costs.

    Raises:
        UserError: the request cannot be met.
    """
    if request.record:
        check_record(request.record, request.evaluation)
    session = EvalSession(request.evaluation)
    loading.check_pack(session.loaded, [kind for kind in KINDS if packs.find(session.loaded.entry.pack).has(kind)])
    matrices = _matrices(session, request)
    if request.record and request.record.content.weights != session.loaded.weights:
        raise UserError(f"the record is of other weights than {request.evaluation.model!r}: expected one of this model")
    found, left_out = texts(session)
    shown = [text for text in found if text.counted(request.everywhere)]
    bands = (*OF_THE_SOURCE, *(band for band in DECILES if band not in OF_THE_SOURCE), _beyond(session))
    spectra, curves, sums = [], [], []
    factors = _factors(session, matrices)
    for layer, group in itertools.groupby(matrices, key=lambda target: target.layer):
        of_layer = list(group)
        banded = [(t.module, Banded(t.matrix(session.loaded.model), _known(factors, t), bands)) for t in of_layer]
        for target in of_layer:
            row, curve = _spectrum(target, factors[target.name])
            spectra.append(row)
            curves.append(curve)
        measure = partial(_sums, session, banded, shown, request.everywhere, f"layer {layer}")
        sums.append(within_memory(session.scorer.lm, measure))
    measured = band_strength.Measured(
        texts=table(shown, request.everywhere),
        matrices=pd.DataFrame(spectra),
        bands=[band.name for band in bands],
        ends=(bands.index(OF_THE_SOURCE[0]), bands.index(OF_THE_SOURCE[-1])),
        sums=np.concatenate(sums, axis=1),
    )
    cost = edit_cost(session, request.record)
    return _report(request, session, measured, pd.concat(curves, ignore_index=True), cost, left_out)


def _report(
    request: SpectrumRequest,
    session: EvalSession,
    measured: band_strength.Measured,
    curves: pd.DataFrame,
    cost: EditCost,
    left_out: Mapping[str, int],
) -> SpectrumReport:
    """Compare the kinds of text, over the matrices that the edit changes together, or over all if it changes none."""
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
        "left_out": dict(left_out),
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
        correlations=band_strength.correlations(tables[0], cost.by_kind if changed else {}, seed),
        cost=cost.by_kind,
    )


def _edit() -> registry.Edit:
    """The edit whose factors are needed: K-FAC with the default labels."""
    return registry.build(spec.parse("kfac-100"))


def _edit_name(session: EvalSession, record: Record | None) -> str | None:
    """The canonical spec of the edit whose cost is measured, or ``None``."""
    if record is not None:
        return record.spec
    return registry.chain_text(session.chains[0]) if session.chains else None


def _matrices(session: EvalSession, request: SpectrumRequest) -> tuple[Target, ...]:
    """The matrices to measure.

    Raises:
        UserError: a layer or projection is not there, or has experts.
    """
    model: Any = session.loaded.model
    layers = request.layers if request.layers is not None else range(targets.layer_count(model))
    matrices = targets.find(model, layers, request.proj or (*targets.default_proj(model), "down"))
    if any(target.expert is not None for target in matrices):
        raise UserError(
            f"{type(model).__name__} has experts, whose inputs are not told apart by text: expected --proj q+k+v+o"
        )
    return matrices


def _factors(session: EvalSession, matrices: Sequence[Target]) -> Mapping[str, Factors]:
    """The curvature factors by matrix name; those that are not cached are collected."""
    curvature, edit = session.editor.curvature, _edit()
    curvature.collect_missing([(edit, matrices)])
    return curvature.read(curvature.arguments(edit), matrices)


def _known(factors: Mapping[str, Factors], target: Target) -> Factors:
    """The factors of a matrix, or a ``UserError`` where they are 0."""
    of_target = factors[target.name]
    if not of_target.known:
        raise UserError(f"{target.name} has no curvature: its inputs or gradients are all 0")
    return of_target


def _beyond(session: EvalSession) -> Band:
    """The band of components that K-FAC removes at the model's default percent."""
    return Band(start=session.loaded.entry.percent.get("kfac", LOW_MASS), stop=100, by="mass")


def _spectrum(target: Target, factors: Factors) -> tuple[dict[str, Any], pd.DataFrame]:
    """A matrix's row of ``SpectrumReport.matrices``, and its rows of ``SpectrumReport.curves``."""
    of_matrix = spectrum(factors.eigenbasis)
    about = {"layer": target.layer, "proj": target.proj}
    holding = {f"holding_{100 * share:g}": of_matrix.holding[share] for share in SHARES}
    row = {
        "name": target.name,
        **about,
        "components": of_matrix.components,
        "effective_rank": of_matrix.effective_rank,
        **holding,
    }
    curve = pd.DataFrame(of_matrix.curve, columns=["count", "mass"])
    return row, curve.assign(**about, components=of_matrix.components)


@torch.inference_mode()
def _sums(
    session: EvalSession, banded: Sequence[tuple[str, Banded]], shown: Sequence[ProbeText], everywhere: bool, label: str
) -> np.ndarray:
    """The sum of the strengths over the counted tokens of each text [texts, matrices, bands, measures].

    All texts go through the model once; hooks on the matrices read their inputs.
    """
    model, batch = session.loaded.model, session.scorer.lm.batch
    bands = len(banded[0][1].steps)
    sums = np.zeros((len(shown), len(banded), bands, len(band_strength.MEASURES)))
    chosen: tuple[list[int], list[int], list[int]] = ([], [], [])

    def hook(matrix: int, one: Banded) -> Any:
        def feed(module: Any, inputs: Any, output: Any) -> None:
            row_n, place_n, text_n = chosen
            strength = one.strength(inputs[0][row_n, place_n])
            values = torch.stack(strength, dim=2).cpu().double().numpy()
            np.add.at(sums[:, matrix], text_n, values)

        return feed

    with ExitStack() as stack:
        for matrix, (name, one) in enumerate(banded):
            stack.callback(model.get_submodule(name).register_forward_hook(hook(matrix, one)).remove)
        rows = [[*text.ids, 0] for text in shown]  # the last of a row is not read
        firsts = [len(row) - 2 for row in rows]
        for chunk in track(batches(model, rows, firsts, batch), label, len(shown), size=len):
            places = [(row, place, i) for row, i in enumerate(chunk) for place in shown[i].counted(everywhere)]
            chosen = ([p[0] for p in places], [p[1] for p in places], [p[2] for p in places])
            ids, one_each = padded([rows[i] for i in chunk], [firsts[i] for i in chunk])
            logits_at(model, ids.to(model.device), one_each)
    return sums
