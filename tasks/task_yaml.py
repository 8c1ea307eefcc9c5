"""One lm-eval YAML file, read as lm-eval does but with functions left as names, and the schema of its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml

OTHER = "other"
"""Axis of tasks whose YAML names none."""
Word = Annotated[str, msgspec.Meta(pattern="^[^/]+$")]
"""Name of an axis or metric; a record's keys are ``AXIS/METRIC``."""
_DEEPEST = 20
"""How deep files may include others."""
T = TypeVar("T")


class TaskYamlError(ValueError):
    """A YAML file that cannot be read as a task or group; the message names the file."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C one where PyYAML has it
    """PyYAML's safe loader, which also takes lm-eval's ``!function module.name`` and keeps the name."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def read(path: Path) -> Mapping[str, Any]:
    """The content of a task's or group's file, with what it includes.

    A key of the file replaces the same key of an included file as a whole, ``metadata`` too, as it does in lm-eval.

    Raises:
        TaskYamlError: the file or an included one cannot be read.
    """
    return _read(path, ())


def _read(path: Path, including: tuple[Path, ...]) -> dict[str, Any]:
    if path in including:
        raise TaskYamlError(path, "includes itself")
    if len(including) > _DEEPEST:
        raise TaskYamlError(including[0], f"includes files more than {_DEEPEST} deep")
    config = _parse(path)
    merged: dict[str, Any] = {}
    included = config.pop("include", None) or []
    for name in convert(path, [included] if isinstance(included, str) else included, list[str]):
        merged |= {k: v for k, v in _read(path.parent / name, (*including, path)).items() if k != "task_list"}
    return {**merged, **config}


def _parse(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506 (a safe loader)
    except OSError as error:
        raise TaskYamlError(path, f"cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TaskYamlError(path, f"is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise TaskYamlError(path, f"holds no mapping, but {type(content).__name__}")
    return content


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What ``metadata`` may say of a task; lm-eval's own keys beside it are ignored."""

    axis: Word = OTHER
    metrics: dict[str, Annotated[str, msgspec.Meta(min_length=1)]] | list[str] | None = None
    chance: str | float = 0.0
    filter: str = "none"
    needs: list[str] = []
    note: str = ""
    summary: str = ""


class Reference(Facts, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a group's ``metadata.tasks`` may say of a task that is defined elsewhere."""


def convert(path: Path, value: object, kind: type[T]) -> T:
    """``value`` as a type that msgspec knows.

    Raises:
        TaskYamlError: it is of another type or form.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise TaskYamlError(path, f"has a bad value: {error}") from error


def metadata_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a task or group; empty if it has none."""
    metadata = config.get("metadata")
    return metadata if isinstance(metadata, dict) else {}
