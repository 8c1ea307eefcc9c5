"""Listings of models, edit methods and tasks, and ``memsplit edits``. Imports no torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ....errors import UserError
from ....model_edits import registry
from ...evaluation.task_selection import named_tasks
from ...models.model_table import TABLE


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``memsplit edits``."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="list only these (default: all)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``memsplit edits``."""
    print("\n".join(methods(arguments.names)))
    return 0


def models(*_: object) -> list[str]:
    """One line for each name that ``--model`` takes."""
    names = [(entry.name, entry.summary) for entry in TABLE]
    names += [
        ("FOLDER", "any causal language model in a local folder"),
        ("OWNER/NAME", "any on the Hugging Face hub"),
    ]
    width = max(len(name) for name, _ in names) + 2
    return [f"{name:<{width}}{summary}" for name, summary in names]


def edits(*_: object) -> list[str]:
    """One line for each edit method that ``--edit`` takes."""
    lines = []
    for name in registry.edit_names():
        try:
            cls = registry.find_edit(name)
        except UserError as error:  # another package's: the others are good all the same
            lines.append(f"{name:<18}{error}")
            continue
        keys = ", ".join(cls.usage())
        usage = name + ("-PERCENT" if cls.budget else "")
        lines.append(f"{usage:<18}{_summary(cls)}" + (f" (keys: {keys})" if keys else ""))
    return lines


def _summary(cls: type[registry.Edit]) -> str:
    """The edit's summary, after what it is beside an edit: an attack, a control, or both."""
    kinds = [kind for kind, is_one in (("attack", cls.attack), ("control", cls.control)) if is_one]
    return f"{' and '.join(kinds)}: {cls.summary}" if kinds else cls.summary


def tasks(name: str, words: Sequence[str], include_path: Sequence[Path]) -> list[str]:
    """One line for each task of a suite, or for each that the words name.

    Args:
        name: the suite.
        words: tasks, groups or patterns, if any.
        include_path: folders with further suites.

    Raises:
        UserError: there is no such suite or task.
    """
    parts = named_tasks(name, words, include_path)
    width = max(len(part.task) for part in parts) + 2
    notes = {part.task: f" (not asked: {part.note})" if part.note else "" for part in parts}
    return [f"{part.task:<{width}}{part.axis:<14}{part.summary}{notes[part.task]}" for part in parts]


def methods(names: Sequence[str]) -> list[str]:
    """What is known of each of these edit methods, or of all: PERCENT's budget, needs, source and keys.

    Raises:
        UserError: there is no such method.
    """
    lines = []
    for name in names or registry.edit_names():
        cls = registry.find_edit(name)
        needs = [("curvature", cls.statistic), ("a pack's passages", cls.needs_forget_set)]
        needed = ", ".join(what for what, needed in needs if needed)
        facts = {"PERCENT is of": cls.budget, "needs": needed, "source": cls.source}
        lines.append(f"{name}{'-PERCENT' if cls.budget else ''}: {_summary(cls)}")
        lines += [f"    {label}: {value}" for label, value in facts.items() if value]
        lines += [f"    {key}={takes}" for key, takes in cls.usage().items()]
    return lines
