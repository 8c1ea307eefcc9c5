"""The policy of a gate: what is required of an edit, and the TOML file that says so."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ...errors import UserError, unknown
from ..records.encoding import checked

_SHARE = "a number between 0 and 1"
Share = Annotated[float, Meta(gt=0, lt=1, description=_SHARE)]
Ratio = Annotated[float, Meta(gt=1, lt=1000, description="a number between 1 and 1000")]
Alpha = Annotated[float, Meta(gt=0, lt=0.5, description="a number between 0 and 0.5")]
Margins = Annotated[Mapping[str, Share], Meta(description="a table such as [margins]")]


class Policy(Struct, frozen=True, kw_only=True):
    """What is required of an edit; ``None``, and an axis that is not named, are not required.

    Attributes:
        removed: the least share of the base's strict recitation that is removed; between 0 and 1.
        perplexity_ratio: the most that perplexity may grow to, over that of the base or the edit compared with.
        margins: the most that an axis's ``acc`` (``AXIS``), or a metric (``AXIS/METRIC``), may fall below that of the
            base or the edit compared with, in its own unit. ``recitation``: the most that its strict share may rise
            above that of the edit compared with; without such an edit it is not tested.
        alpha: the probability of either wrong verdict.

    Raises:
        UserError: a value is out of its range.
    """

    removed: Share | None = None
    perplexity_ratio: Ratio | None = None
    margins: Margins = {}
    alpha: Alpha = 0.05

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(Policy):
            value = checked(getattr(self, field.name), field.type, f"$.{field.name}")
            msgspec.structs.force_setattr(self, field.name, value)


DEFAULT = Policy(removed=0.9, perplexity_ratio=1.05, margins={"logic": 0.02, "facts_open": 0.03, "recitation": 0.05})
"""Nine tenths of recitation removed, logic and open-book facts kept; closed-book facts and arithmetic are left open."""


def given(policy: Policy | Mapping[str, Any] | str | Path | None) -> Policy:
    """A policy, from a file's path, from such a file's content, or the default for ``None``.

    Raises:
        UserError: see :func:`read` and :func:`parse`.
    """
    if policy is None:
        return DEFAULT
    if isinstance(policy, str | Path):
        return read(Path(policy))
    return parse(policy) if isinstance(policy, Mapping) else policy


def read(path: Path) -> Policy:
    """The policy of a TOML file; what it does not name is not required, and ``alpha`` is 0.05.

    Raises:
        UserError: it cannot be read, or is no policy (see :func:`parse`).
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"the policy {path} cannot be read ({reason}): expected a TOML file") from error
    return parse(content, str(path))


def parse(content: Mapping[str, Any], name: str = "policy") -> Policy:
    """The policy of such a file's content.

    Args:
        content: its keys.
        name: what errors call it.

    Raises:
        UserError: a key that a policy does not have, a value out of its range, or nothing that is required.
    """
    known = Policy.__struct_fields__
    for key in content:
        if key not in known:
            raise unknown(f"key in {name}", str(key), known)
    try:
        policy = Policy(**content)
    except UserError as error:
        raise UserError(f"bad value in {name}: {error}") from error
    if not policy.margins and not content.keys() - {"alpha", "margins"}:
        raise UserError(f"{name} asks for nothing: expected removed, perplexity_ratio, or an axis in [margins]")
    return policy
