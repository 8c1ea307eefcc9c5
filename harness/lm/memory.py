"""``--batch-size auto``: half as many sequences a forward pass wherever the memory does not suffice.

Of a number that is given, and of one sequence, it is a user's error.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from ...errors import UserError
from ..common.runtime import LARGER

P = ParamSpec("P")
T = TypeVar("T")
FIRST = 64
"""The size that it begins with, which is lm-eval's."""
SMALLER = "--batch-size auto, or a smaller number"
"""What helps where a number of sequences is too much."""
log = logging.getLogger("memsplit")


class Adaptive(Protocol):
    """What is known of a model whose batch size may adapt itself."""

    batch_size_per_gpu: Any

    @property
    def adapts(self) -> bool:
        """Whether it may."""


def adapting(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A model's method that begins anew, with half the batch size, where memory runs out.

    See :func:`within_memory`.
    """

    @functools.wraps(method)
    def run(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return within_memory(self, lambda: method(self, *args, **kwargs))

    return run


def within_memory(lm: Adaptive, run: Callable[[], T], smaller: str = SMALLER) -> T:
    """What ``run`` returns; where memory runs out, and the model's batch size adapts itself, run with half of it.

    The size that is found is kept for what comes after. No figure depends on it beyond rounding.

    Args:
        lm: the model, or what else has a batch size.
        run: what is run; it reads the batch size anew each time.
        smaller: what helps where the batch size does not adapt itself, for errors.

    Raises:
        UserError: memory runs out with a batch size that does not adapt itself, or with one sequence.
    """
    while True:
        try:
            return run()
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            size = int(lm.batch_size_per_gpu)
            if size == 1 or not lm.adapts:
                sequences = "one sequence" if size == 1 else f"{size} sequences"
                remedy = LARGER if size == 1 else smaller
                raise UserError(f"out of memory with {sequences} a pass: expected {remedy}") from error
        lm.batch_size_per_gpu = size // 2
        log.info("out of memory with %d sequences a pass: going on with %d", size, size // 2)
        clear_device_cache()
