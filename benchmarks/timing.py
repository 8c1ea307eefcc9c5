"""Measure how long a piece of work takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def timed(work: Callable[[], T], repeats: int) -> tuple[float, T]:
    """Do the work several times, and return the median of the seconds, with the result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result
