"""Texts fed to a model piece by piece, and the state that it carries from one piece to the next.

Attention layers carry keys and values (``past_key_values``), Mamba and its kind convolutions and a recurrence
(``cache_params``), RWKV five vectors a layer (``state``). A model may take an argument of any name and make nothing of
it, so what it carries is compared once, with the weights that it has before any edit, with a pass over the whole text;
where the two differ, or nothing is carried, every piece is a pass over the whole text.
"""

from __future__ import annotations

import inspect
import logging
import math
import weakref
from typing import Any

import torch
from transformers import DynamicCache

from ...model_edits.architecture.logits import head_at, last_of

NAMES = ("past_key_values", "cache_params", "state")
"""Names of the state, as an argument and in the output."""
FIRST, LATER = 3, 6
"""Ids of the first piece, and later ones of one id each, of the comparison."""
_FAULTS = (AttributeError, TypeError, ValueError, RuntimeError, LookupError, NotImplementedError)
"""What models raise for a state that they do not take, and states that cannot be reordered."""
_checked: weakref.WeakKeyDictionary[Any, str | None] = weakref.WeakKeyDictionary()
log = logging.getLogger("memsplit")


class Steps:
    """Texts of one length that grow together.

    Args:
        model: a causal language model.
        name: of the state that it carries; ``None`` for a model that carries none (see :func:`carried`).
    """

    def __init__(self, model: Any, name: str | None) -> None:
        self.model = model
        self.name = name
        self.state: Any = DynamicCache(config=model.config) if name == "past_key_values" else None
        self.ids: torch.Tensor | None = None

    @torch.inference_mode()
    def feed(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits [b, vocabulary] after these ids [b, n], which follow those that were fed before."""
        if self.name is None:
            self.ids = ids = ids if self.ids is None else torch.cat([self.ids, ids], 1)
        with head_at(self.model, last_of(ids)) as logits_of:
            if self.name is None:
                out = self.model(ids, use_cache=False)
            else:
                out = self.model(ids, use_cache=True, **{self.name: self.state})
                self.state = out[self.name]
        return logits_of(out)

    @torch.inference_mode()
    def select(self, rows: torch.Tensor) -> None:
        """Go on with these of the texts [c], in this order; one that is named twice goes on twice."""
        if self.ids is not None:
            self.ids = self.ids[rows]
        elif hasattr(self.state, "reorder_cache"):
            self.state.reorder_cache(rows)
        else:
            self.state = [part[rows] for part in self.state]


def carried(model: Any) -> str | None:
    """The name of the state that a model carries; ``None`` where it must see the whole text at each step.

    It is found once, when this is first asked, and holds for whatever weights the model has later: a session asks
    before it edits. Random texts are fed in pieces and change places on the way. The logits at their end may differ
    from those of a whole pass by a hundredth (in types narrower than float32, a tenth) of what the last id alone would
    make of them. Where that makes no difference, or one that is not finite, nothing is shown.
    """
    if model not in _checked:
        taken = inspect.signature(model.forward).parameters
        name = next((name for name in NAMES if name in taken), None)
        _checked[model] = name if name and _agrees(model, name) else None
        if _checked[model] is None:
            log.warning("%s carries no state that agrees with whole passes: decoding is slow", type(model).__name__)
    return _checked[model]


def _agrees(model: Any, name: str) -> bool:
    """Whether steps with this state end in the logits of a whole pass."""
    generator = torch.Generator().manual_seed(0)
    size = (2, FIRST + LATER)
    ids = torch.randint(model.get_input_embeddings().num_embeddings, size, generator=generator).to(model.device)
    rows = torch.tensor([1, 0, 1], device=model.device)
    try:
        steps = Steps(model, name)
        steps.feed(ids[:, :FIRST])
        steps.select(rows)
        ids = ids[rows]
        for place in range(FIRST, FIRST + LATER):
            found = steps.feed(ids[:, place : place + 1])
    except _FAULTS:
        return False
    whole, alone = (Steps(model, None).feed(text).float() for text in (ids, ids[:, -1:]))
    allowed = 0.01 if model.dtype.itemsize >= 4 else 0.1
    scale = float((alone - whole).norm())
    return 0 < scale < math.inf and bool((found.float() - whole).norm() <= allowed * scale)
