"""What an edit is given to work with, beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .curvature.factors import Factors
from .targets import Target


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A passage, as ids.

    Attributes:
        prefix: what a model is prompted with.
        suffix: how it goes on.
    """

    prefix: list[int]
    suffix: list[int]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What an edit is given.

    Attributes:
        targets: the matrices to edit, of an edit that is ``targeted``.
        factors: the curvature of each by name, read when asked for, of one that ``needs_factors``.
        forget: passages that the model recites, of one that ``needs_passages``.
        retain: other text as ids, of one that ``needs_passages``.
    """

    targets: Sequence[Target] = ()
    factors: Mapping[str, Factors] = field(default_factory=dict)
    forget: Sequence[Passage] = ()
    retain: Sequence[list[int]] = ()
