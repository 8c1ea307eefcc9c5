"""The policy of a gate: what is required of an edit, and the TOML file that says so."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ...errors import UserError, unknown
from ..records.axes import LOG_PROB, PERPLEXITY, REASONING, RECITATION, STRICT, TWINS
from ..records.encoding import checked

_SHARE = "a number between 0 and 1"
Share = Annotated[float, Meta(gt=0, lt=1, description=_SHARE)]
Ratio = Annotated[float, Meta(gt=1, lt=1000, description="a number between 1 and 1000")]
Alpha = Annotated[float, Meta(gt=0, lt=0.5, description="a number between 0 and 0.5")]
Margins = Annotated[Mapping[str, Share], Meta(description="a table such as [margins]")]


WORST = 1.5
"""The worst texts are those whose perplexity is more than this many times what it was.

A text's change of nats a token is clipped to the log of it, either way, or to twice that of the limit if that is more.
"""
ASKS = "removed, erased, stays_erased, scar, reasoning, fluency, perplexity_ratio, worst_texts, or an axis in [margins]"
"""What a policy can ask for."""
_MEMORY = (f"{TWINS}/{LOG_PROB}", f"{RECITATION}/{LOG_PROB}")
_NEEDS = {
    "removed": ("/".join(STRICT),),
    "erased": _MEMORY,
    "stays_erased": _MEMORY,
    "scar": _MEMORY,
    "reasoning": REASONING,
    **dict.fromkeys(("fluency", "perplexity_ratio", "worst_texts"), ("/".join(PERPLEXITY),)),
}


class Policy(Struct, frozen=True, kw_only=True):
    """What is required of an edit; ``None``, and an axis that is not named, are not required.

    Attributes:
        removed: the least share of the base's strict recitation that is removed; between 0 and 1.
        erased: the least share of the base's memory of the passages, in bits a token, that is erased.
        stays_erased: the least share of it that is erased after each of the attacks.
        scar: the most that the passages may be less likely than they are to a model that never saw them, as a share of
            that memory.
        reasoning: the least share of the base's logic, arithmetic and open-book facts above guessing that is kept, the
            mean over the three.
        fluency: the least that the base's perplexity may be over the edit's; each text's change is clipped (see
            :data:`WORST`).
        perplexity_ratio: the most that perplexity may grow to, over that of the base or the edit compared with; clipped
            alike.
        worst_texts: the most texts, as a share, whose perplexity may be more than :data:`WORST` times that of the base
            or the edit compared with.
        margins: the most that an axis's ``acc`` (``AXIS``), or a metric (``AXIS/METRIC``), may fall below that of the
            base or the edit compared with, in its own unit. ``recitation``: the most that its strict share may rise
            above that of the edit compared with; without such an edit it is not tested.
        alpha: the probability of either wrong verdict.

    Raises:
        UserError: a value is out of its range.
    """

    removed: Share | None = None
    erased: Share | None = None
    stays_erased: Share | None = None
    scar: Share | None = None
    reasoning: Share | None = None
    fluency: Share | None = None
    perplexity_ratio: Ratio | None = None
    worst_texts: Share | None = None
    margins: Margins = {}
    alpha: Alpha = 0.05

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(Policy):
            value = checked(getattr(self, field.name), field.type, f"$.{field.name}")
            msgspec.structs.force_setattr(self, field.name, value)

    @property
    def needs(self) -> Iterator[tuple[str, str]]:
        """Each criterion but margins with an axis, or ``AXIS/METRIC``, that it is about."""
        for criterion, names in _NEEDS.items():
            if getattr(self, criterion) is not None:
                yield from ((criterion, name) for name in names)

    @property
    def hint(self) -> str:
        """One line where it asks for silence alone, else nothing."""
        if self.removed is None or self.erased is not None or self.stays_erased is not None:
            return ""
        return "hint: 'removed' counts a passage as gone once one token changes; silent is not erased, see stays_erased"


DEFAULT = Policy(
    removed=0.9,
    stays_erased=0.5,
    scar=0.25,
    perplexity_ratio=1.05,
    worst_texts=0.02,
    margins={"logic": 0.02, "facts_open": 0.03, "recitation": 0.05},
)
"""Nine tenths of recitation removed, half of the memory erased after each attack and no great scar in its place, logic,
open-book facts and fluency kept; closed-book facts and arithmetic are left open.
"""


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
        raise UserError(f"{name} asks for nothing: expected {ASKS}")
    return policy
