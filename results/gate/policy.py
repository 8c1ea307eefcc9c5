"""What a gate asks for: the policy file, checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...errors import UserError, unknown

FORGOTTEN = ("recitation", "strict")
"""What is to be removed; as an axis in ``[margins]`` it is compared with another edit's, and less is better."""

_RANGES = {"removed": (0, 1), "perplexity_ratio": (1, 1000), "alpha": (0, 0.5)}


def _number(value: Any, what: str, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        raise UserError(f"bad {what} in {name}: {value!r} found, expected a number between {low} and {high}")
    return float(value)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is asked of an edit; ``None``, and an axis that is not named, are not asked for.

    Attributes:
        removed: the least share of the base's strict recitation that is removed; between 0 and 1.
        perplexity_ratio: the most that perplexity may grow to, over that of the base or the edit compared with.
        margins: the most that an axis's ``acc`` (``AXIS``), or a metric (``AXIS/METRIC``), may fall below that of the
            base or the edit compared with, in its own unit; ``recitation``: the most that it may rise above that
            edit's, asked only where there is one.
        alpha: the probability of either wrong verdict.
    """

    removed: float | None = None
    perplexity_ratio: float | None = None
    margins: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    alpha: float = 0.05

    def __post_init__(self) -> None:
        for key, span in _RANGES.items():
            if (value := getattr(self, key)) is not None:
                _number(value, key, "policy", *span)
        for axis, margin in self.margins.items():
            _number(margin, f"margin of {axis!r}", "policy", 0, 1)


DEFAULT = Policy(
    removed=0.9,
    perplexity_ratio=1.05,
    margins=MappingProxyType({"logic": 0.02, "facts_open": 0.03, "recitation": 0.05}),
)
"""Nine tenths of recitation gone, reasoning and reading kept; facts from memory and arithmetic are not asked for."""


def given(policy: Policy | Mapping[str, Any] | str | Path | None) -> Policy:
    """A policy, of what stands for one: a file's path, what it would hold, or ``None`` for the default.

    Raises:
        UserError: see :func:`read` and :func:`parse`.
    """
    if policy is None:
        return DEFAULT
    if isinstance(policy, str | Path):
        return read(Path(policy))
    return parse(policy) if isinstance(policy, Mapping) else policy


def read(path: Path) -> Policy:
    """The policy of a TOML file; what it does not name is not asked for, but for ``alpha``.

    Raises:
        UserError: it cannot be read, or says what a policy does not have.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"the policy {path} cannot be read ({reason}): expected a TOML file") from error
    return parse(content, str(path))


def parse(content: Mapping[str, Any], name: str = "policy") -> Policy:
    """The same of what such a file holds.

    Args:
        content: its keys.
        name: what errors call it.

    Raises:
        UserError: a key or a value that a policy does not have.
    """
    known = [option.name for option in fields(Policy)]
    for key in content:
        if key not in known:
            raise unknown(f"key in {name}", str(key), known)
    margins = content.get("margins", {})
    if not isinstance(margins, Mapping):
        raise UserError(f"bad margins in {name}: {margins!r} found, expected a table such as [margins]")
    given = {key: _number(content[key], key, name, *span) for key, span in _RANGES.items() if key in content}
    checked = {str(axis): _number(margin, f"margin of {axis!r}", name, 0, 1) for axis, margin in margins.items()}
    if not checked and not given.keys() - {"alpha"}:
        raise UserError(f"{name} asks for nothing: expected removed, perplexity_ratio, or an axis in [margins]")
    return Policy(**given, margins=MappingProxyType(checked))
