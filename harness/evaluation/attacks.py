"""Score a model's passages after each attack: does what an edit took away come back?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import pandas as pd
import torch

from ...errors import Diverged
from ...files import digest
from ...model_edits import registry
from ...model_edits.apply import applied
from ...results.records.tables import EDIT, attacked
from ..common.progress import track
from ..lm.adapter import MemsplitLM
from .editing import ModelEditor
from .passages import PassageScorer

Chain = tuple[registry.Edit, ...]


def score(
    attacks: Mapping[str, Chain],
    editor: ModelEditor,
    lm: MemsplitLM,
    scorer: PassageScorer,
    *,
    side: str,
    weights: Mapping[str, torch.Tensor],
    weights_hash: str,
    spec: str = "",
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The items (see ``statistics.aggregate``) of the passages after each attack, by side of a record, and notes.

    A note is a line on an attack that changes no weight or no output, or makes some that are not finite (see
    ``canary``), or that diverges: what the edit's passages are after it is not known.

    Args:
        attacks: by name, each a chain of edits of ``editor``'s model.
        editor: of the model.
        lm: the same model.
        scorer: of the evaluated model.
        side: what is attacked, ``edit`` or ``unseen``.
        weights: what is attacked, by parameter name, where it differs from the editor's model.
        weights_hash: sha256 that names the weights that are attacked.
        spec: the edit that is attacked, if it is one.

    Raises:
        UserError: an attack cannot be made; on the unseen counterpart, which is sound, that it diverges is one too.
    """
    sides, notes = {}, []
    for name, chain in track(list(attacks.items()), f"attacks on {side}", len(attacks)):
        recipe = editor.recipe_hash(chain)
        key = None if recipe is None else digest([weights_hash, recipe])
        try:
            scores = scorer.score(key, partial(_after, chain, editor, lm, weights))
        except Diverged as error:
            if side != EDIT:
                raise
            sides[attacked(side, name)] = scorer.unknown()
            notes.append(f"no figure after the attack on {spec!r} is known: {error}")
            continue
        sides[attacked(side, name)] = scores.items
        notes += [f"the attack on {side}: {note}" for note in scores.notes]
    return sides, notes


@contextmanager
def _after(
    chain: Chain, editor: ModelEditor, lm: MemsplitLM, weights: Mapping[str, torch.Tensor]
) -> Iterator[tuple[MemsplitLM, str]]:
    """The model with these weights after an attack, inside the block, and a note where it does nothing or harm."""
    with applied(editor.loaded.model, weights):
        prepared = editor.prepare(*chain)
        with editor.applied(prepared) as (_, note):
            yield lm, note if prepared.weights else f"{prepared.spec} changes no weight, and so brings nothing back"


def chains(attacks: Sequence[str], editor: ModelEditor) -> dict[str, Chain]:
    """The chains of attacks' specs, by canonical text."""
    found = [editor.chain(text) for text in attacks]
    return {registry.chain_text(chain): chain for chain in found}
