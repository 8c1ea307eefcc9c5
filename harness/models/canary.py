"""A few tokens that a model is asked first: are the logits numbers, is it causal, and does an edit change them?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...errors import UserError
from ...model_edits.architecture.context import context_length
from ...model_edits.architecture.linear_maps import quantization

ROWS, TOKENS, FEW = 2, 32, 4
"""Texts, their tokens, and how many of those are asked again with another last one."""
log = logging.getLogger("memsplit")


class Canary:
    """The base model's logits of random tokens.

    Args:
        model: the base model.
        name: what it is called, for errors.

    Raises:
        UserError: a logit is not finite, or hangs on a later token: by more than a thousandth (in types narrower than
            float32, a twentieth) of what changes at that token itself.
    """

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        vocabulary = model.get_input_embeddings().weight.shape[0]
        size = (ROWS, min(TOKENS, context_length(model.config, model) or TOKENS))
        self.ids = torch.randint(vocabulary, size, generator=torch.Generator().manual_seed(0)).to(model.device)
        self.base = self.logits()
        if not bool(self.base.isfinite().all()):
            raise UserError(f"the logits of {name!r} are not finite: expected a model that computes numbers")
        if not self._is_causal(vocabulary):
            method = quantization(model)
            remedy = f"is_decoder=True of {type(model).__name__}"
            raise UserError(
                f"{name!r} is no causal language model: its logits hang on later tokens (expected "
                f"{f'--dequantize, as it is quantized by {method}' if method else remedy}, or another model)"
            )

    def check(self, spec: str, before: torch.Tensor | None = None) -> str:
        """A line, which is logged too, where the weights that the model holds now change no logit; else ``""``.

        So it is where what is computed with is a copy of the weights, as in quantized modules; of a mixture of experts,
        one that no token is routed to may have been changed. Logits that are not finite are told too.

        Args:
            spec: the edit's.
            before: the logits that it is to change, where they are not the base's.
        """
        logits, note = self.logits(), ""
        if torch.equal(logits, self.base if before is None else before):
            note = f"{spec} changes weights, but no logit of {self.ids.numel()} random tokens"
        elif not bool(logits.isfinite().all()):
            note = f"{spec} makes logits that are not finite: its figures are not known"
        if note:
            log.warning("%s", note)
        return note

    def logits(self) -> torch.Tensor:
        """The logits of the tokens, [rows, tokens, vocabulary], with the weights that the model holds now."""
        return self._logits(self.ids)

    def _is_causal(self, vocabulary: int) -> bool:
        """Whether the logits of a text's beginning stay as they are where its last token becomes another."""
        ids = self.ids[:, :FEW]
        other = ids.clone()
        other[:, -1] = (other[:, -1] + 1) % vocabulary
        moved = (self._logits(other).float() - self._logits(ids).float()).norm(dim=-1)
        allowed = 1e-3 if self.model.dtype.itemsize >= 4 else 0.05
        return bool((moved[:, :-1] <= allowed * moved[:, -1:]).all())

    @torch.inference_mode()
    def _logits(self, ids: torch.Tensor) -> torch.Tensor:
        with in_evaluation_mode(self.model):
            logits: torch.Tensor = self.model(ids, use_cache=False).logits
        return logits


@contextmanager
def in_evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """The model in evaluation mode inside the block; on leaving, each of its modules is in the mode that it was in."""
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, was in training.items():
            module.training = was
