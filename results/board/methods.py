"""Which records are of one method, of one strength of it, and draws of that; and which methods are baselines.

An edit's spec has words, numbers and seeds. Its names, the words of its options and the matrices that it changes make
the method. Percent, dial and every other number (a learning rate, bits, a size), and what it is matched with, make a
strength: a point on the method's curve, which one chooses on dev. Seeds make a draw.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..records.record import Record
from ..records.schema import RecordContent

TARGETS = ("layers", "proj")
"""Options that name matrices: words, also where they are a number."""
DRAWN = ("seed", "label_seed")
"""Options that are the seed of what a method draws."""
STRENGTHS = ("match",)
"""Options that are words and yet a strength: how much is taken away is what another edit takes away."""
RANDOM = "random"
BASELINES = {
    "noise": "noise of equal norm",
    "quantize": "rounding",
    "deletion": "deletion of the matrices",
    RANDOM: "random components",
}
"""The baselines that every board should have, in words. They know nothing of what is memorized, nor look for it."""
_OPTIONS = r"(?P<percent>-[0-9.]+)?(?::(?P<options>[^@]*))?(?:@(?P<dial>[0-9.]+))?"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a record stands among others.

    Attributes:
        method: the spec without numbers and seeds, and what else decides the weights where it is not the default.
        short: the same without matrices and what else decides.
        strength: the spec without seeds.
        label: the strength in short: ``80 %``, ``match=kfac-80``; empty for a method that has none.
        draw: the seeds.
    """

    method: str
    short: str
    strength: str
    label: str
    draw: tuple[str, ...]

    @classmethod
    def of(cls, record: Record) -> Place:
        """The place of a record."""
        content = record.content
        steps = [_Step.of(text, step) for text, step in zip(_texts(content), content.steps, strict=True)]
        return cls(
            method="+".join(step.method for step in steps) + _mark(content),
            short="+".join(step.short for step in steps),
            strength="+".join(step.strength for step in steps),
            label=" + ".join(step.label for step in steps if step.label),
            draw=tuple(seed for step in steps for seed in step.draw),
        )


@dataclass(frozen=True, kw_only=True)
class _Step:
    """The same of one step of an edit."""

    method: str
    short: str
    strength: str
    label: str
    draw: tuple[str, ...]

    @classmethod
    def of(cls, text: str, step: Mapping[str, Any]) -> _Step:
        """The place of a step.

        Args:
            text: of its spec.
            step: its options, defaults filled in.
        """
        name = str(step["name"])
        found = re.fullmatch(re.escape(name) + _OPTIONS, text)
        if found is None:  # no spec of the grammar: a method by itself
            return cls(method=text, short=text, strength=text, label="", draw=())
        percent, dial = found["percent"] or "", found["dial"]
        options = [option for option in (found["options"] or "").split(",") if option]
        seeds = [option for option in options if option.partition("=")[0] in DRAWN]
        numbers = [option for option in options if option not in seeds and _is_number(option, step)]
        words = [option for option in options if option not in (*seeds, *numbers)]
        labels = [f"{percent[1:]} %" if percent else "", *numbers, f"@{dial}" if dial else ""]
        whole = [option for option in options if option not in seeds]
        apart = [option for option in words if option.partition("=")[0] not in TARGETS]
        if deletes(step):
            return cls(
                method=f"{name}{percent}{_joined(words)}",
                short=f"{name}{percent}{_joined(apart)}",
                strength=f"{name}{percent}{_joined(whole)}",
                label="",
                draw=(),
            )
        return cls(
            method=name + _joined(words),
            short=name + _joined(apart),
            strength=f"{name}{percent}{_joined(whole)}" + (f"@{dial}" if dial else ""),
            label=" ".join(filter(None, labels)),
            draw=tuple(seeds),
        )


def deletes(step: Mapping[str, Any]) -> bool:
    """Whether a step keeps nothing of its matrices."""
    return step.get("percent") == 0 and step.get("dial", 0.0) == 0


def baseline(record: Record) -> str | None:
    """Which of :data:`BASELINES` a record is; ``None`` for another edit."""
    steps = record.content.steps
    if len(steps) != 1:
        return None
    name = str(steps[0]["name"])
    return "deletion" if deletes(steps[0]) else name if name in BASELINES else None


def is_control(record: Record) -> bool:
    """Whether a record is a baseline, another control, or no edit: its row has no rank."""
    return record.is_control or baseline(record) is not None


def targets(record: Record) -> frozenset[str]:
    """The names of the matrices that a record's edit changed."""
    return frozenset(matrix.name for matrix in record.content.matrices)


def _texts(content: RecordContent) -> list[str]:
    """The text of each step. A ``+`` also stands in values (``proj=gate+up``): the steps' names say where it parts."""
    names = [re.escape(str(step["name"])) for step in content.steps]
    found = re.fullmatch(r"\+".join(rf"({name}(?:[-:@].*?)?)" for name in names), content.spec, re.DOTALL)
    if found is None:  # the whole spec for the first step, its name for another
        return [content.spec, *(str(step["name"]) for step in content.steps[1:])]
    return list(found.groups())


def _is_number(option: str, step: Mapping[str, Any]) -> bool:
    """Whether an option is a number, or stands for one."""
    key, _, text = option.partition("=")
    value = step.get(key, text)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return key not in TARGETS and (is_number or key in STRENGTHS)


def _joined(options: list[str]) -> str:
    return f":{','.join(options)}" if options else ""


def _mark(content: RecordContent) -> str:
    """What decides the weights beside the spec, where the command gave it."""
    arguments = content.arguments
    given = [f"{arguments.factor_tokens} factor tokens" if arguments.factor_tokens else "", arguments.corpus or ""]
    return f" ({', '.join(filter(None, given))})" if any(given) else ""
