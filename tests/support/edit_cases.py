"""Specs of every registered edit, made from its class, so that a new edit is in every table of properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal, get_args, get_origin, get_type_hints

from memsplit.model_edits.registry import Edit, edits

MATCHED = [
    f"{control}:match={edit}-80" for control in ("random", "noise") for edit in ("kfac", "ekfac", "svd", "wanda")
]
"""An option whose value is a spec, which no type tells."""


def by_options() -> list[type[Edit]]:
    """The edits that a spec describes in full: without a required option, which is the path of a file."""
    return [cls for cls in edits().values() if not required(cls)]


def required(cls: type[Edit]) -> list[str]:
    """The options that a spec must give."""
    return [field.name for field in cls.option_fields() if field.default is dataclasses.MISSING]


def plain(cls: type[Edit], percent: float = 50) -> str:
    """The spec with default options."""
    return f"{cls.name}-{percent:g}" if cls.budget else cls.name


def variants(cls: type[Edit], percent: float = 50) -> Iterator[str]:
    """The specs with one option that is not the default, of those that choose between words."""
    hints = get_type_hints(cls)
    for field in cls.option_fields():
        if get_origin(hints[field.name]) is Literal:
            for word in get_args(hints[field.name]):
                if word != field.default:
                    yield f"{plain(cls, percent)}:{field.name}={word}"


def all_specs() -> list[str]:
    """Default options, each other word of an option, and matched controls."""
    found = [spec for cls in by_options() for spec in (plain(cls), *variants(cls))]
    return [*found, *MATCHED]
