"""What an edit is given to work with, beside the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .curvature.factors import Factors
from .targets import Target


@dataclass(frozen=True, kw_only=True)
class MemorizedSequence:
    """A sequence that a model completes word for word, as token ids.

    Attributes:
        prefix: the prompt.
        suffix: the continuation that the model recites.
    """

    prefix: list[int]
    suffix: list[int]


def untracked(items: Iterable[Any], label: str, total: int) -> Iterable[Any]:
    """The items; no progress is shown."""
    return items


@dataclass(frozen=True, kw_only=True)
class EditInputs:
    """The inputs of one edit.

    Attributes:
        targets: the matrices to edit; empty for an edit that is not ``targeted``.
        factors: each target's curvature by its name, read from disk on access; for an edit with a ``statistic``.
        forget: memorized sequences, for an edit that ``needs_forget_set``.
        retain: token ids of other text, for an edit that ``needs_forget_set``.
        track: given the steps of a training, a label and how many steps there are at most, it returns the steps and
            shows which are done; by default it shows nothing.
    """

    targets: Sequence[Target] = ()
    factors: Mapping[str, Factors] = field(default_factory=dict)
    forget: Sequence[MemorizedSequence] = ()
    retain: Sequence[list[int]] = ()
    track: Callable[[Iterable[Any], str, int], Iterable[Any]] = untracked
