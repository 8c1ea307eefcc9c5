"""The unseen counterpart: a model that never saw the passages. What it needs for them is the floor of all memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import pandas as pd

from ...errors import UserError
from ...results.records.schema import Reference
from ...results.records.tables import UNSEEN
from ..lm.adapter import MemsplitLM
from ..models import loading, model_table
from . import attacks
from .editing import ModelEditor
from .passages import PassageScorer
from .request import Request, pack_kinds


def score(
    name: str, request: Request, pack: str, names: Sequence[str], scorer: PassageScorer
) -> tuple[Reference, dict[str, pd.DataFrame], str, list[str]]:
    """The counterpart's name and weights, its items (see ``statistics.aggregate``) of the passages, and notes on them.

    Args:
        name: the counterpart's.
        request: how the evaluated model is loaded.
        pack: the evaluated model's.
        names: canonical specs of the attacks after each of which the counterpart is scored too.
        scorer: the evaluated model's.

    Returns:
        The items are by side of a record: ``unseen``, and ``unseen+ATTACK`` of each attack. The first note is
        that of :meth:`.PassageScorer.cut_anew`, the others those of ``attacks.score``.

    Raises:
        UserError: the model cannot be loaded or attacked, or does not fit the pack.
    """
    entry = model_table.resolve(name, pack, **{how: getattr(request, how) for how in model_table.HOW})
    loaded = loading.load(entry, device=request.device, dtype=request.dtype, parallelize=request.parallelize)
    loading.check_pack(loaded, pack_kinds(scorer.parts))
    lm, editor = MemsplitLM(loaded, batch_size=request.batch_size), ModelEditor(loaded)
    for reason in scorer.too_long(lm):
        raise UserError(f"the reference model {name!r} cannot be asked: {reason}")
    about = Reference(model=name, weights=loaded.weights, revision=loaded.revision)
    sides = {UNSEEN: scorer.score(loaded.weights, lambda: nullcontext((lm, ""))).items}
    chains = {attack: editor.chain(attack) for attack in names}
    after, notes = attacks.score(chains, editor, lm, scorer, side=UNSEEN, weights={}, weights_hash=loaded.weights)
    return about, sides | after, scorer.cut_anew(lm), notes
