"""Grids of edit specs, with braces as in a shell: ``kfac-{40..95..5}:proj={up,gate+up}@{0,0.5}``.

``{a,b,c}`` stands for each of its alternatives, which may be empty and may contain braces. ``{from..to}`` and
``{from..to..step}`` stand for the numbers of a range, rising or falling, with both ends if a step falls on them.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from ..errors import UserError

MOST = 10_000
"""The largest number of specs in a grid."""
EXPECTED = "alternatives {a,b} or a range {from..to[..step]}"
_DECIMAL = r"-?(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,9})?"
_RANGE = re.compile(rf"({_DECIMAL})\.\.({_DECIMAL})(?:\.\.({_DECIMAL}))?")


@dataclass(frozen=True, kw_only=True)
class Brace:
    """One brace of a grid, with the braces inside it expanded.

    Attributes:
        text: the brace as written.
        choices: the texts that it stands for, in order.
    """

    text: str
    choices: tuple[str, ...]

    @property
    def ordered(self) -> bool:
        """Whether the choices are numbers in rising or falling order."""
        if not all(re.fullmatch(_DECIMAL, choice) for choice in self.choices):
            return False
        numbers = [Decimal(choice) for choice in self.choices]
        return numbers in (sorted(set(numbers)), sorted(set(numbers), reverse=True))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid.

    Attributes:
        text: the grid as written.
        literals: the texts before, between and after the braces; one more than there are braces.
        braces: the braces, from left to right.
    """

    text: str
    literals: tuple[str, ...]
    braces: tuple[Brace, ...]

    def __len__(self) -> int:
        """The number of texts that the grid stands for."""
        return math.prod(len(brace.choices) for brace in self.braces)

    def __iter__(self) -> Iterator[str]:
        """The texts; the choice of the last brace changes fastest."""
        return map(self.at, itertools.product(*(range(len(brace.choices)) for brace in self.braces)))

    def at(self, choices: Sequence[int]) -> str:
        """The text with the choices of these indices, one index for each brace."""
        chosen = [brace.choices[i] for brace, i in zip(self.braces, choices, strict=True)]
        return self.literals[0] + "".join(map("".join, zip(chosen, self.literals[1:], strict=True)))


def parse(text: str) -> Grid:
    """Parse a grid.

    Raises:
        UserError: a brace is not of the grammar, or the grid too large; the message quotes both.
    """
    return _parse(text, text)


def _parse(text: str, whole: str) -> Grid:
    """Parse a grid, or an alternative within a brace; errors quote the whole grid."""
    literals, braces = [""], []
    place = 0
    while place < len(text):
        if text[place] == "{":
            brace, place = _brace(text, place, whole)
            braces.append(brace)
            literals.append("")
        elif text[place] == "}":
            raise _bad(whole, text[: place + 1], "a '{' before the '}'")
        else:
            literals[-1] += text[place]
            place += 1
    grid = Grid(text=text, literals=tuple(literals), braces=tuple(braces))
    if len(grid) > MOST:
        raise UserError(f"bad grid {whole!r}: it stands for {len(grid):,} edits, expected at most {MOST:,}")
    return grid


def _brace(text: str, start: int, whole: str) -> tuple[Brace, int]:
    """The brace that opens at ``start``, and the index after its end."""
    depth, parts, begins = 0, [], start + 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if (text[place] == "," and depth == 1) or depth == 0:
            parts.append(text[begins:place])
            begins = place + 1
        if depth == 0:
            own = text[start:begins]
            choices = (
                _range(own, whole) if len(parts) == 1 else [each for part in parts for each in _parse(part, whole)]
            )
            if len(choices) > MOST:
                raise _bad(whole, own, f"at most {MOST:,} choices")
            return Brace(text=own, choices=tuple(choices)), begins
    raise _bad(whole, text[start:], "a '}' after the '{'")


def _range(own: str, whole: str) -> list[str]:
    match = _RANGE.fullmatch(own[1:-1])
    if not match:
        raise _bad(whole, own, EXPECTED)
    if match[3] is None and "." in match[1] + match[2]:
        raise _bad(whole, own, "a step, as in {0..0.5..0.1}")
    first, last, step = (Decimal(number) for number in (match[1], match[2], match[3] or "1"))
    if step == 0:
        raise _bad(whole, own, "a step other than 0")
    count = int(abs(last - first) / abs(step)) + 1
    if count > MOST:
        raise _bad(whole, own, f"at most {MOST:,} numbers")
    way = abs(step) if last >= first else -abs(step)
    return [_number(first + i * way) for i in range(count)]


def _number(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _bad(text: str, token: str, expected: str) -> UserError:
    return UserError(f"bad grid {text!r}: {token!r} found, expected {expected}")
