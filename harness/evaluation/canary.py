"""A few tokens that a model is asked before anything is scored: is it a number, and does an edit change it?"""

from __future__ import annotations

import logging
from typing import Any

import torch

from ...errors import UserError

ROWS, TOKENS = 2, 32
log = logging.getLogger("memsplit")


class Canary:
    """The base model's logits of random tokens.

    Args:
        model: the base model, in evaluation mode.
        name: what it is called, for errors.

    Raises:
        UserError: a logit is not finite.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        vocabulary = model.get_input_embeddings().weight.shape[0]
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or TOKENS
        size = (ROWS, min(TOKENS, longest))
        self.ids = torch.randint(vocabulary, size, generator=torch.Generator().manual_seed(0)).to(model.device)
        self.base = self._logits()
        if not bool(self.base.isfinite().all()):
            raise UserError(f"the logits of {name!r} are not finite: expected a model that computes numbers")

    def check(self, spec: str) -> None:
        """Say so where the weights that the model holds now, other than the base's, change no logit.

        So it is where what is computed with is a copy of the weights, as in quantized modules; of a mixture of experts,
        one that no token is routed to may have been changed. Logits that are not finite are told too.
        """
        logits = self._logits()
        if torch.equal(logits, self.base):
            log.warning("%s changes weights, but no logit of %d random tokens", spec, self.ids.numel())
        elif not bool(logits.isfinite().all()):
            log.warning("%s makes logits that are not finite: its figures are not known", spec)

    @torch.inference_mode()
    def _logits(self) -> torch.Tensor:
        """The logits of the tokens, [rows, tokens, vocabulary], with the weights that the model holds now."""
        logits: torch.Tensor = self.model(self.ids, use_cache=False).logits
        return logits
