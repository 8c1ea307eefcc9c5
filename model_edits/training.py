"""Functions of the edits that train: teacher-forced forward passes with other weights, and gradients of these.

The model is never changed: it is called with ``torch.func.functional_call``, and weights that are not trained are
detached.
Shapes: b = texts of a batch, t = tokens, v = vocabulary, o = out features, i = in features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from .architecture.logits import head_at
from .lazy import torch
from .targets import Target

T = TypeVar("T")


class TokenSequence(NamedTuple):
    """Token ids, of which those from ``start`` on are scored, each given all before it."""

    ids: list[int]
    start: int = 1


class TeacherForced(NamedTuple):
    """Scores of each sequence of a batch, over its scored tokens.

    Attributes:
        log_p_b: the sum of the tokens' log-probabilities.
        tokens_b: the number of scored tokens.
        correct_b: the number of scored tokens that are the model's likeliest. If it equals ``tokens_b``, greedy
            decoding recites the sequence.
    """

    log_p_b: torch.Tensor
    tokens_b: torch.Tensor
    correct_b: torch.Tensor

    @property
    def loss_b(self) -> torch.Tensor:
        """Mean cross-entropy per token, of each sequence."""
        return -self.log_p_b / self.tokens_b

    @property
    def loss(self) -> torch.Tensor:
        """Mean cross-entropy per token, over the tokens of all sequences."""
        return -self.log_p_b.sum() / self.tokens_b.sum()


def insert_matrices(
    model: torch.nn.Module, targets: Sequence[Target], matrices: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Copies of the parameters that hold the targets, with these matrices [out, in] in the targets' places.

    The copies have the model's type and require gradients.
    """
    weights: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for target in targets:
            if target.parameter not in weights:
                weights[target.parameter] = model.get_parameter(target.parameter).detach().clone()
            target.put(weights[target.parameter], matrices[target.name])
    return {name: weight.requires_grad_() for name, weight in weights.items()}


def forward(
    model: torch.nn.Module, weights: Mapping[str, torch.Tensor], sequences: Sequence[TokenSequence]
) -> TeacherForced:
    """Scores of the sequences in one batch, with ``weights`` in place of the parameters of these names.

    The scores are differentiable in ``weights``. Shorter sequences are padded on the right, which no earlier token
    attends to.
    """
    device = next(model.parameters()).device
    length = max(len(sequence.ids) for sequence in sequences)
    ids_bt = torch.tensor([[*each.ids, *[0] * (length - len(each.ids))] for each in sequences], device=device)
    start_b, end_b = torch.tensor([(each.start, len(each.ids)) for each in sequences], device=device).T
    position_t = torch.arange(length, device=device)
    inside_bt = position_t < end_b[:, None]
    scored_bt = (inside_bt & (position_t >= start_b[:, None]))[:, 1:]
    frozen = {name: parameter.detach() for name, parameter in model.named_parameters()}
    arguments = {"input_ids": ids_bt, "attention_mask": inside_bt.long(), "use_cache": False}
    with head_at(model, torch.nn.functional.pad(scored_bt, (0, 1))) as logits_of:
        logits_nv = wide(logits_of(torch.func.functional_call(model, {**frozen, **weights}, (), arguments)))
    next_n = ids_bt[:, 1:][scored_bt]
    loss_n = torch.nn.functional.cross_entropy(logits_nv, next_n, reduction="none")
    log_p_bt = loss_n.new_zeros(scored_bt.shape).masked_scatter(scored_bt, -loss_n)
    correct_bt = torch.zeros_like(scored_bt).masked_scatter(scored_bt, logits_nv.argmax(dim=1) == next_n)
    return TeacherForced(log_p_bt.sum(dim=1), scored_bt.sum(dim=1), correct_bt.sum(dim=1))


def forward_all(
    model: torch.nn.Module, weights: Mapping[str, torch.Tensor], sequences: Sequence[TokenSequence], batch: int
) -> TeacherForced:
    """Scores of the sequences, computed ``batch`` at a time and without gradients."""
    with torch.no_grad():
        parts = [forward(model, weights, sequences[n : n + batch]) for n in range(0, len(sequences), batch)]
    return TeacherForced(*(torch.cat(values) for values in zip(*parts, strict=True)))


def gradients(
    loss: torch.Tensor, weights: Mapping[str, torch.Tensor], targets: Sequence[Target]
) -> dict[str, torch.Tensor]:
    """The gradients [out, in] of a loss with respect to the targets' matrices, by target name, float32 or wider.

    ``weights`` are those of :func:`insert_matrices`, from which the loss was computed.
    """
    by_parameter = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    return {target.name: wide(target.view(by_parameter[target.parameter])) for target in targets}


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, if it is float32 or wider; or else its copy in float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def count_tokens(sequences: Iterable[TokenSequence]) -> int:
    """The number of tokens of the sequences, padding not included."""
    return sum(len(sequence.ids) for sequence in sequences)


def batches(items: Sequence[T], size: int, generator: torch.Generator) -> Iterator[list[T]]:
    """One pass over the items, shuffled; the last batch may be smaller."""
    order = torch.randperm(len(items), generator=generator).tolist()
    for first in range(0, len(items), size):
        yield [items[n] for n in order[first : first + size]]


def cycle(items: Sequence[T], size: int, generator: torch.Generator) -> Iterator[list[T]]:
    """Endless passes over the items, each shuffled anew."""
    while True:
        yield from batches(items, size, generator)
