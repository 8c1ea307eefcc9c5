"""``--batch-size auto``: half as many sequences a forward pass wherever the memory does not suffice."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

P = ParamSpec("P")
T = TypeVar("T")
FIRST = 64
"""The size that it begins with, which is lm-eval's."""
log = logging.getLogger("memsplit")


class Adaptive(Protocol):
    """What is known of a model whose batch size may adapt itself."""

    adapts: bool
    batch_size_per_gpu: Any


def adapting(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A model's method that begins anew, with half the batch size, where memory runs out.

    See :func:`within_memory`.
    """

    @functools.wraps(method)
    def run(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return within_memory(self, lambda: method(self, *args, **kwargs))

    return run


def within_memory(lm: Adaptive, run: Callable[[], T]) -> T:
    """What ``run`` returns; where memory runs out, and the model's batch size adapts itself, run with half of it.

    The size that is found is kept for what comes after. No figure depends on it beyond rounding.
    """
    while True:
        try:
            return run()
        except RuntimeError as error:
            size = lm.batch_size_per_gpu
            if not (lm.adapts and size > 1 and should_reduce_batch_size(error)):
                raise
        lm.batch_size_per_gpu = size // 2
        log.info("out of memory with %d sequences a pass: going on with %d", size, size // 2)
        clear_device_cache()
