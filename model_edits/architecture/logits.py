"""Logits of chosen positions: the head, in a large vocabulary the largest product of all, is applied to these alone.

Shapes: b = sequences, t = tokens, n = chosen positions, v = vocabulary, d = width of what the head reads.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ..lazy import torch

T = TypeVar("T")
AT_ONCE = 1 << 28
"""Most logits that a pass is asked for, unless one sequence alone has more: 1 GiB in float32."""
_checked: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def logits_at(model: Any, ids_bt: torch.Tensor, chosen_bt: torch.Tensor) -> torch.Tensor:
    """The logits [n, v] of the chosen positions, row by row.

    Args:
        model: a causal language model.
        ids_bt: the sequences.
        chosen_bt: which positions are chosen.
    """
    with head_at(model, chosen_bt) as logits_of:
        return logits_of(model(input_ids=ids_bt, use_cache=False))


def last_of(ids_bt: torch.Tensor) -> torch.Tensor:
    """Each sequence's last position alone, as a choice [b, t]."""
    last_bt = torch.zeros(ids_bt.shape, dtype=torch.bool)
    last_bt[:, -1] = True
    return last_bt


@contextmanager
def head_at(model: Any, chosen_bt: torch.Tensor) -> Iterator[Callable[[Any], torch.Tensor]]:
    """While the body calls the model on sequences [b, t], its output embedding reads the chosen positions alone.

    A forward pre-hook on the output embedding selects their hidden states [n, d]. Whatever the model does to logits
    after that, such as a cap or a scale, it does to those of the chosen positions. A model for which that gives other
    logits (see :func:`chooses`) computes all of them, and the chosen ones are selected afterwards.

    Yields:
        A function from the model's output to the logits [n, v].
    """
    if bool(chosen_bt.all()):
        yield lambda output: output.logits.reshape(chosen_bt.numel(), output.logits.shape[-1])
    elif not chooses(model):
        yield lambda output: output.logits[chosen_bt.to(output.logits.device)]
    else:
        with _shown(model, chosen_bt):
            yield lambda output: output.logits[0]


@contextmanager
def _shown(model: Any, chosen_bt: torch.Tensor) -> Iterator[None]:
    def choose(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden_btd, *others = arguments
        return hidden_btd[chosen_bt.to(hidden_btd.device)][None], *others

    handle = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def chooses(model: Any) -> bool:
    """Whether the logits of some positions can be computed alone.

    It is found the first time that a model is asked, by comparing logits of random ids, and holds for whatever weights
    the model has later. With weights that make logits of nan, nothing is found.
    """
    if model not in _checked:
        agrees = _agrees(model)
        if agrees is None:
            return False
        _checked[model] = agrees
    return _checked[model]


def _agrees(model: Any) -> bool | None:
    """Whether the logits of a few positions are those of a whole pass but for rounding; ``None`` where one is nan."""
    if _head(model) is None:
        return False
    generator = torch.Generator().manual_seed(0)
    ids_bt = torch.randint(model.get_input_embeddings().num_embeddings, (2, 5), generator=generator).to(model.device)
    chosen_bt = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 1, 0, 0]], dtype=torch.bool)
    with torch.no_grad():
        try:
            whole_btv = model(input_ids=ids_bt, use_cache=False).logits
            whole_nv = whole_btv[chosen_bt.to(whole_btv.device)]
            if bool(whole_nv.isnan().any()):
                return None
            with _shown(model, chosen_bt):
                found_nv = model(input_ids=ids_bt, use_cache=False).logits[0]
        except (IndexError, RuntimeError, TypeError, ValueError):
            return False
    if found_nv.shape != whole_nv.shape:
        return False
    allowed = 1e-4 if model.dtype.itemsize >= 4 else 0.02
    same = found_nv == whole_nv  # infinities
    scale = whole_nv.float().nan_to_num(0, 0, 0).abs().max()
    return bool((same | ((found_nv - whole_nv).float().abs() <= allowed * scale)).all())


def vocabulary(model: Any) -> int:
    """The number of logits of a position; 1 where neither the head nor the embeddings tell it."""
    tables = getattr(model, "get_input_embeddings", lambda: None)()
    size: int = getattr(_head(model), "out_features", 0) or getattr(tables, "num_embeddings", 1)
    return size


def _head(model: Any) -> torch.nn.Module | None:
    """The output embedding, if the model says which it is."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return head if isinstance(head, torch.nn.Module) else None


def batched(model: Any, items: Sequence[T], batch: int, size: Callable[[T], tuple[int, int]]) -> Iterator[Sequence[T]]:
    """Consecutive items, ``batch`` at a time, or fewer where a pass over them would make too many logits.

    Args:
        model: a causal language model.
        items: of whatever kind, of which those of like length are neighbours.
        batch: the most items at a time.
        size: the number of an item's tokens, and of those that are chosen.
    """
    limit = AT_ONCE // vocabulary(model)
    alone = chooses(model)
    some: list[T] = []
    longest = chosen = 0
    for item in items:
        tokens, wanted = size(item)
        longest, chosen = max(longest, tokens), chosen + wanted
        if some and (len(some) == batch or (chosen if alone else longest * (len(some) + 1)) > limit):
            yield some
            some, longest, chosen = [], tokens, wanted
        some.append(item)
    if some:
        yield some
