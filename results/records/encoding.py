"""Convert typed values to JSON and back, with one-line errors for values of another type."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

import msgspec

from ...errors import UserError


def plain(value: object) -> Any:
    """``value`` as a JSON file holds it.

    Args:
        value: made of msgspec types, dataclasses, mappings, sequences, strings and numbers.

    Returns:
        Dicts, lists, strings, numbers and ``None``. A number that JSON has no word for (nan, infinities) is ``None``.
    """
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_builtin))


def _builtin(value: object) -> object:
    """Convert what msgspec does not write itself: NumPy's floats, and read-only mappings."""
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} has no place in JSON")


def nan_for_null(value: Any, optional: frozenset[str] = frozenset()) -> Any:
    """``value`` with each ``None`` as nan, which is what :func:`plain` wrote it for.

    Args:
        value: of dicts and lists that hold metrics.
        optional: keys whose ``None`` says that there is nothing, and stays.
    """
    if isinstance(value, dict):
        return {k: v if v is None and k in optional else nan_for_null(v, optional) for k, v in value.items()}
    if isinstance(value, list):
        return [nan_for_null(item, optional) for item in value]
    return math.nan if value is None else value


def checked(value: Any, kind: Any, path: str = "$") -> Any:
    """``value`` as a type: ``msgspec.convert`` with an error that says where the mistake is.

    Args:
        value: of dicts, lists, strings and numbers.
        kind: a type that msgspec knows. A ``Meta(description=…)`` in it is what the error says was expected.
        path: the place of ``value``.

    Raises:
        UserError: what is wrong, in one line that begins with its place, such as ``$.summary.split_score.value``.
            (msgspec leaves keys of mappings out: ``$.summary[...].value``.)
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        for key, item, its_kind in _parts(value, kind):
            checked(item, its_kind, f"{path}.{key}")
        raise UserError(_sentence(str(error), value, kind, path)) from error


def _sentence(error: str, value: object, kind: Any, path: str) -> str:
    text, _, below = error.replace(" - at `key` in `$", " as a key - at `$").partition(" - at `$")
    described = [meta.description for meta in _metas(kind) if meta.description]
    if described:
        text = f"{value!r:.80} found, expected {described[0]}"
    else:
        text = text[0].lower() + text[1:]
        if ", got " not in text and isinstance(value, str | int | float):
            text += f", got {value!r:.80}"
    return f"`{path}{below or '`'}: {text}"


def _choices(kind: Any) -> tuple[Any, ...]:
    """The types of a union; a type that is none by itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _metas(kind: Any) -> list[msgspec.Meta]:
    of_each = (getattr(choice, "__metadata__", ()) for choice in _choices(kind))
    return [meta for metas in of_each for meta in metas if isinstance(meta, msgspec.Meta)]


def _parts(value: Any, kind: Any) -> list[tuple[str, Any, Any]]:
    """Key, value and type of each part of a mapping or a struct."""
    parts: list[tuple[str, Any, Any]] = []
    for choice in _choices(kind) if isinstance(value, Mapping) else ():
        inner = get_args(choice)[0] if hasattr(choice, "__metadata__") else choice
        origin = get_origin(inner) or inner
        if isinstance(origin, type) and issubclass(origin, Mapping):
            parts += [(str(key), item, get_args(inner)[1]) for key, item in value.items()]
        elif isinstance(origin, type) and issubclass(origin, msgspec.Struct):
            known = {field.encode_name: field.type for field in msgspec.structs.fields(inner)}
            parts += [(key, item, known[key]) for key, item in value.items() if key in known]
    return parts
