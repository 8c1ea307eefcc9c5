"""The grammar of edit specs: ``NAME[-PERCENT][:key=value,…][@DIAL]``, and chains of them: ``SPEC+SPEC``.

Specs are parsed as text here; the registry knows which names, keys and values exist.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal

from ..errors import UserError

SHAPE = "NAME[-PERCENT][:key=value,…][@DIAL]"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BEGINS = re.compile(r"([a-z][a-z0-9_]*)(-[0-9.]+(?=[:@+]|$)|:|(?=[@+]|$))")
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_VALUE = re.compile(r"[^,:@=\s]+(?:=[^,:@=\s]+)?|[^,:@\s]+")


@dataclass(frozen=True, kw_only=True)
class EditSpec:
    """A parsed spec.

    Attributes:
        name: name of the method.
        percent: how much of the method's own budget is kept, 0 to 100; ``None`` if the text gives none.
        options: the keys and their values as text, sorted by key.
        dial: factor that multiplies what the edit removes; 0 removes it.
    """

    name: str
    percent: float | None = None
    options: tuple[tuple[str, str], ...] = field(default=())
    dial: float = 0.0

    def __str__(self) -> str:
        """The canonical text, which parses to this spec: sorted keys, shortest numbers, no ``@0``."""
        percent = "" if self.percent is None else f"-{number(self.percent)}"
        options = ",".join(f"{key}={value}" for key, value in sorted(self.options))
        dial = "" if self.dial == 0 else f"@{number(self.dial)}"
        return f"{self.name}{percent}{':' if options else ''}{options}{dial}"


def number(value: float) -> str:
    """The shortest text of a number without an exponent: ``50`` for 50.0, ``99.5`` for 99.5."""
    text = f"{Decimal(repr(float(value))):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def parse_chain(text: str, names: Collection[str]) -> tuple[EditSpec, ...]:
    """The specs of a chain, in the order in which they are applied.

    Values may contain a ``+`` too (``proj=gate+up``). After a value, a ``+`` begins a new spec only if ``NAME-PERCENT``
    or ``NAME:`` follows, or a known name that an ``@``, a ``+`` or the end of the text follows.

    Args:
        text: the chain.
        names: the names of all edits (``registry.edit_names``).

    Raises:
        UserError: a spec is not of the grammar.
    """
    steps, start = [], 0
    for plus in re.finditer(r"\+", text):
        step = text[start : plus.start()]
        begins = _BEGINS.match(text, plus.end())
        in_value = ":" in step and "@" not in step
        if not in_value or (begins and (begins[2] or begins[1] in names)):
            steps.append(step)
            start = plus.end()
    return tuple(_parse(step, text) for step in [*steps, text[start:]])


def parse(text: str) -> EditSpec:
    """Parse a spec.

    Raises:
        UserError: the text is not of the grammar; the message quotes it and the bad token.
    """
    return _parse(text, text)


def _parse(step: str, text: str) -> EditSpec:
    """Parse one step; errors quote the whole text."""
    head, at, dial_text = step.partition("@")
    head, colon, options_text = head.partition(":")
    name, dash, percent_text = head.partition("-")
    if not _NAME.fullmatch(name):
        raise _bad(text, name, f"a method's name, as in {SHAPE}")
    percent = _number(text, percent_text, 0, 100, "a percent from 0 to 100") if dash else None
    dial = _number(text, dial_text, 0, 1e6, "a dial from 0 to a million") if at else 0.0
    options: dict[str, str] = {}
    for token in options_text.split(",") if colon else ():
        key, equals, value = token.partition("=")
        if not (equals and _KEY.fullmatch(key) and _VALUE.fullmatch(value)):
            raise _bad(text, token, "key=value")
        if key in options:
            raise _bad(text, token, f"each key once, {key!r} stands twice")
        options[key] = value
    return EditSpec(name=name, percent=percent, options=tuple(sorted(options.items())), dial=dial)


def _number(text: str, token: str, low: float, high: float, expected: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]{1,10})?", token) or not low <= float(token) <= high:
        raise _bad(text, token, expected)
    return float(token)


def _bad(text: str, token: str, expected: str) -> UserError:
    return UserError(f"bad edit {text!r}: {token!r} found, expected {expected}")
