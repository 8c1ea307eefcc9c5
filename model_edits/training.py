"""What the edits that train share: reading texts with other weights in the model's place, and gradients of these.

The model is never changed: it is called with ``torch.func.functional_call``, all that is not trained detached.
Shapes: b = texts of a batch, t = tokens, v = vocabulary, o = out features, i = in features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from .targets import Target

T = TypeVar("T")


class Text(NamedTuple):
    """Ids, and the first of them that is asked for: those before are given. The very first is never asked for."""

    ids: list[int]
    start: int = 1


class Reading(NamedTuple):
    """Of each text, over the tokens asked for.

    Attributes:
        log_p_b: the sum of their log-probabilities, each given all before it.
        tokens_b: how many they are.
        right_b: how many of them are the likeliest token; where all are, greedy decoding recites the text.
    """

    log_p_b: torch.Tensor
    tokens_b: torch.Tensor
    right_b: torch.Tensor

    @property
    def loss_b(self) -> torch.Tensor:
        """Cross-entropy per token of each text."""
        return -self.log_p_b / self.tokens_b

    @property
    def loss(self) -> torch.Tensor:
        """Cross-entropy per token of all texts together."""
        return -self.log_p_b.sum() / self.tokens_b.sum()


def place(
    model: torch.nn.Module, targets: Sequence[Target], matrices: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Copies of the parameters that hold the targets, in the model's type, with these matrices [out, in] in them.

    Gradients can be taken in them.
    """
    weights: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for target in targets:
            if target.parameter not in weights:
                weights[target.parameter] = model.get_parameter(target.parameter).detach().clone()
            target.view(weights[target.parameter]).copy_(matrices[target.name])
    return {name: weight.requires_grad_() for name, weight in weights.items()}


def read(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], texts: Sequence[Text]) -> Reading:
    """Read texts in one batch, with ``weights`` by parameter name; differentiable in these.

    Shorter texts are filled up on the right, which no token before sees.
    """
    device = next(model.parameters()).device
    length = max(len(text.ids) for text in texts)
    ids_bt = torch.tensor([[*text.ids, *[0] * (length - len(text.ids))] for text in texts], device=device)
    start_b, end_b = torch.tensor([(text.start, len(text.ids)) for text in texts], device=device).T
    position_t = torch.arange(length, device=device)
    inside_bt = position_t < end_b[:, None]
    asked_bt = (inside_bt & (position_t >= start_b[:, None]))[:, 1:]
    frozen = {name: parameter.detach() for name, parameter in model.named_parameters()}
    arguments = {"input_ids": ids_bt, "attention_mask": inside_bt.long(), "use_cache": False}
    called = functional_call(model, {**frozen, **weights}, (), arguments)
    logits_btv, next_bt = called.logits[:, :-1].float(), ids_bt[:, 1:]
    loss_bt = cross_entropy(logits_btv.flatten(0, 1), next_bt.flatten(), reduction="none").view(next_bt.shape)
    right_bt = logits_btv.argmax(dim=-1) == next_bt
    return Reading(-(loss_bt * asked_bt).sum(dim=1), asked_bt.sum(dim=1), (right_bt & asked_bt).sum(dim=1))


@torch.no_grad()
def read_all(model: torch.nn.Module, weights: Mapping[str, torch.Tensor], texts: Sequence[Text], batch: int) -> Reading:
    """Read texts batch by batch, without gradients."""
    parts = [read(model, weights, texts[n : n + batch]) for n in range(0, len(texts), batch)]
    return Reading(*(torch.cat(values) for values in zip(*parts, strict=True)))


def gradients(
    loss: torch.Tensor, weights: Mapping[str, torch.Tensor], targets: Sequence[Target]
) -> dict[str, torch.Tensor]:
    """The gradient [out, in] of a loss in each target's matrix, float32, of the weights that :func:`place` made."""
    by_parameter = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    return {target.name: target.view(by_parameter[target.parameter]).float() for target in targets}


def batches(items: Sequence[T], size: int, generator: torch.Generator) -> Iterator[list[T]]:
    """One pass over the items, shuffled; the last batch may be smaller."""
    order = torch.randperm(len(items), generator=generator).tolist()
    for first in range(0, len(items), size):
        yield [items[n] for n in order[first : first + size]]


def cycle(items: Sequence[T], size: int, generator: torch.Generator) -> Iterator[list[T]]:
    """Pass after pass over the items, without end."""
    while True:
        yield from batches(items, size, generator)
