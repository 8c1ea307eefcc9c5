"""The reference model, whose loss on each passage is compared with that of the evaluated model."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ...errors import UserError
from ...results.records.schema import Reference
from ...tasks.suite import TaskSpec
from ..lm.adapter import MemsplitLM
from ..models import loading, model_table
from .request import Request, pack_kinds
from .scoring import Scorer


def score(request: Request, pack: str, parts: Sequence[TaskSpec], scorer: Scorer) -> tuple[pd.DataFrame, Reference]:
    """The reference model's scores of the passages, and its name, weights and revision.

    Args:
        request: names the reference model.
        pack: the evaluated model's.
        parts: the tasks that are scored.
        scorer: the evaluated model's.

    Raises:
        UserError: no task asks for passages, or the model cannot be loaded or does not fit the pack.
    """
    assert request.reference is not None
    parts = [part for part in parts if "mia_loss" in part.metrics]
    if not parts:
        raise UserError(f"--reference {request.reference!r} is compared on passages, and no task that is asked has any")
    entry = model_table.resolve(request.reference, pack)
    loaded = loading.load(entry, device=request.device, dtype=request.dtype, parallelize=request.parallelize)
    for reason in loading.check_pack(loaded, pack_kinds(parts)).values():
        raise UserError(f"the reference model {request.reference!r} cannot be asked: {reason}")
    other = scorer.of(MemsplitLM(loaded, batch_size=request.batch_size), parts)
    about = Reference(model=request.reference, weights=loaded.weights, revision=loaded.revision)
    return other.score(loaded.weights, "reference").items, about
