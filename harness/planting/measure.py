"""How well a model recites the passages, by their dose: one teacher-forced pass over each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..lm.forward import teacher_forced
from ..models.token_ids import passage_ids
from .passages import Row

Figures = dict[str, float]
NAMES = ("passages", "recited", "token_accuracy", "bits")
"""Of the figures of a dose."""


def recitation(model: Any, tokenizer: Any, passages: Sequence[Row], *, batch: int) -> dict[int, Figures]:
    """By dose, the number of passages and means over them.

    ``recited`` is the share whose suffix is the model's first choice at every token; ``token_accuracy`` the share of
    the suffix's tokens that are; ``bits`` the code length of a token of the suffix, -log2 of its probability.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        passages: rows of a pack with doses.
        batch: the most passages a forward pass.
    """
    by_dose: dict[int, list[tuple[float, float, float]]] = defaultdict(list)
    pairs = [passage_ids(row, tokenizer) for row in passages]
    stats = teacher_forced(model, pairs, batch=batch, suffix_alone=True)
    for row, of_row in zip(passages, stats, strict=True):
        right = of_row.suffix(of_row.rank) == 0
        bits = -float(of_row.suffix(of_row.log_p).mean()) / math.log(2)
        by_dose[row["dose"]].append((float(right.all()), float(right.mean()), bits))
    return {
        dose: dict(zip(NAMES, (len(rows), *np.mean(rows, axis=0).tolist()), strict=True))
        for dose, rows in sorted(by_dose.items())
    }
