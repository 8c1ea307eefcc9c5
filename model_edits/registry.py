"""The registry of edits: which there are, and the edit of a spec.

An edit is a class with ``@register_edit("NAME")`` in a file NAME.py of the package ``methods``, or in a notebook; or a
class that another package names in the entry-point group ``memsplit.edits``. Names are known without importing any of
these. Authors of edits import the base classes from here too.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..errors import UserError, unknown
from .edit import COMMON, CurvatureEdit, Edit, EditedWeight, MatrixEdit
from .option_values import parse_value
from .spec import EditSpec, number
from .target_names import ALL, ROLES, SETS

__all__ = [
    "COMMON",
    "DEFAULT_ATTACKS",
    "CurvatureEdit",
    "Edit",
    "EditedWeight",
    "MatrixEdit",
    "build",
    "chain_text",
    "edit_names",
    "edits",
    "find_edit",
    "is_control",
    "register_edit",
]
METHODS = f"{__package__}.methods"
ENTRY_POINTS = "memsplit.edits"
DEFAULT_ATTACKS = ("relearn", "relearn:on=clean", "quantize:bits=4", "noise:seed=1")
"""The attacks that ``--attacks`` stands for."""
E = TypeVar("E", bound=type[Edit])
_EDITS: dict[str, type[Edit]] = {}


def register_edit(name: str) -> Callable[[E], E]:
    """Register the class below under ``name``.

    A class that is defined again, by a notebook's cell or a reloaded module, takes the place of the earlier one.

    Raises:
        ValueError: the name belongs to a built-in edit, to another package's, or to another class of the module; or it
            is that of a projection, so that ``proj=gate+NAME`` could be a chain.
    """

    def register(cls: E) -> E:
        _check_free(name, cls)
        cls.name = name
        _EDITS[name] = cls
        return cls

    return register


def _check_free(name: str, cls: type[Edit]) -> None:
    if cls.__module__ == f"{METHODS}.{name}":
        return
    if name in (*ROLES, *SETS, ALL):
        raise ValueError(f"edit {name!r} has the name of a projection")
    owners = [f"{METHODS}.{name}"] if name in _built_in() else []
    owners += [entry.value for entry in _of_packages(name) if _top(entry.module) != _top(cls.__module__)]
    known = _EDITS.get(name)
    if known is not None and known is not cls and not _redefines(cls, known):
        owners.append(_path(known))
    if owners:
        raise ValueError(f"edit {name!r} is registered already, by {owners[0]}")


def _redefines(cls: type[Edit], known: type[Edit]) -> bool:
    """Whether the class is a new definition of its author's own edit: all of ``__main__`` is of one author."""
    return cls.__module__ == known.__module__ and (
        cls.__module__ == "__main__" or cls.__qualname__ == known.__qualname__
    )


def _path(cls: type[Edit]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _top(module: str) -> str:
    return module.partition(".")[0]


def edits() -> Mapping[str, type[Edit]]:
    """Every edit by name, sorted: built-in edits, those of installed packages, and those registered in this process.

    Raises:
        UserError: a package's edit cannot be imported, is no edit, or has a name that is taken.
    """
    return {name: find_edit(name) for name in edit_names()}


def edit_names() -> list[str]:
    """The names of all edits, sorted. No edit is imported for that."""
    return sorted({*_EDITS, *_built_in(), *_entry_points().names})


@cache
def _built_in() -> frozenset[str]:
    """The names of the modules in ``methods``, which are those of the built-in edits."""
    return frozenset(module.name for module in pkgutil.iter_modules([str(Path(__file__).with_name("methods"))]))


@cache
def _entry_points() -> EntryPoints:
    """Those of all installed packages, which take some 50 ms to read."""
    return entry_points(group=ENTRY_POINTS)


def _of_packages(name: str) -> EntryPoints:
    return _entry_points().select(name=name)


def find_edit(name: str) -> type[Edit]:
    """The edit of a name.

    Raises:
        UserError: there is none (the nearest name is given), or it cannot be imported, is no edit, or its name is
            taken.
    """
    known = edit_names()
    if name not in known:
        raise unknown("edit", name, known)
    if name in _built_in():
        importlib.import_module(f"{METHODS}.{name}")
    for entry in _of_packages(name):
        if name not in _EDITS or _path(_EDITS[name]) != entry.value:
            _register(entry)
    return _EDITS[name]


def _register(entry: EntryPoint) -> None:
    whose = f"the edit {entry.name!r} of the package {entry.dist.name if entry.dist else entry.value!r}"
    try:
        cls = entry.load()
        if not (isinstance(cls, type) and issubclass(cls, Edit)):
            raise UserError(f"{whose} is no subclass of memsplit.model_edits.registry.Edit")
        register_edit(entry.name)(cls)
    except _UNUSABLE as error:
        raise UserError(f"{whose} cannot be used: {error}") from error


_UNUSABLE = (ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError, RuntimeError, OSError)
"""What importing another package's module may raise."""


def chain_text(steps: Iterable[Edit]) -> str:
    """The canonical text of a chain of edits, which are applied from left to right."""
    return "+".join(str(step.spec) for step in steps)


def is_control(steps: Iterable[Edit]) -> bool:
    """Whether a chain is a control: one of its steps is, not counting attacks on an edit before them."""
    edits = [step for step in steps if step.name != "none"]
    return any(step.control for step in [each for each in edits if not each.attack] or edits)


def build(spec: EditSpec, percent: Mapping[str, float] | None = None) -> Edit:
    """The edit of a spec.

    Args:
        spec: the parsed spec.
        percent: default percents by method, from the model table, for a spec that gives none.

    Raises:
        UserError: unknown method or key, or a value that does not fit.
    """
    cls = find_edit(spec.name)
    values: dict[str, Any] = {"dial": spec.dial, "percent": spec.percent}
    if cls.budget is None and spec.percent is not None:
        raise UserError(f"bad edit '{spec}': {spec.name!r} takes no percent, found {number(spec.percent)!r}")
    if cls.budget is not None and spec.percent is None:
        values["percent"] = (percent or {}).get(spec.name)
    hints = get_type_hints(cls)
    keys = {field.name for field in cls.option_fields()} | ({"layers", "proj"} if cls.targeted else set())
    for key, text in spec.options:
        if key not in keys:
            expected = unknown("key", key, keys) if keys else f"{spec.name!r} takes no keys, found {key!r}"
            raise UserError(f"bad edit '{spec}': {expected}")
        values[key] = parse_value(spec, key, text, hints[key])
    for field in cls.option_fields():
        if field.default is dataclasses.MISSING and field.name not in values:
            raise UserError(f"bad edit '{spec}': {field.name}=… expected, as in {spec.name}:{field.name}=…")
    edit = cls(**values)
    if edit.percent is None and edit.needs_percent():
        raise UserError(f"bad edit '{spec}': a percent expected, as in {spec.name}-50 (the model's table gives none)")
    return edit
