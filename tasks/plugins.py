"""Folders of tasks and packs that installed packages add by entry points (``memsplit.tasks``, ``memsplit.packs``)."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from ..errors import UserError

TASKS, PACKS = "memsplit.tasks", "memsplit.packs"


def names(group: str) -> list[str]:
    """The names of a group's entry points, in order."""
    return sorted({entry.name for entry in entry_points(group=group)})


def folder(group: str, name: str) -> Path | None:
    """The folder that an entry point names; ``None`` if there is no entry point of that name.

    Its value is a path, a module with a path ``FOLDER``, or a function that is given the name and returns a path.

    Raises:
        UserError: the value cannot be imported or is no folder, or the function says why there is none.
    """
    for entry in entry_points(group=group, name=name):
        return _folder(entry)
    return None


def _folder(entry: EntryPoint) -> Path:
    package = f"the package {entry.dist.name if entry.dist else entry.value!r} ({entry.group}: {entry.name})"
    try:
        value = entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{package} cannot be used: {error}") from error
    if isinstance(value, ModuleType):
        value = getattr(value, "FOLDER", None)
    elif callable(value):
        value = value(entry.name)
    if not isinstance(value, str | Path) or not Path(value).is_dir():
        raise UserError(f"{package} names {str(value)!r}: expected a folder")
    return Path(value)
