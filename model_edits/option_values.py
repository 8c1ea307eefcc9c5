"""Values of an edit's options: what a field of the class accepts, and its value from the text of a spec."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

from ..errors import UserError, unknown
from .spec import EditSpec
from .target_names import parse_layers, parse_proj


def accepted(hint: Any) -> list[str]:
    """The words of a ``Literal``, or the name of the type, of a field that is annotated with ``hint``."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not type(None)]
    return [kind.__name__ for kind in kinds]


def parse_value(spec: EditSpec, key: str, text: str, hint: Any) -> Any:
    """The value of a key, converted to the type of its field.

    Args:
        spec: the whole spec, which errors quote.
        key: the field's name.
        text: the value as it stands in the spec.
        hint: the field's annotation: ``int``, ``float``, ``str`` or a ``Literal`` of words, each or ``None``.

    Raises:
        UserError: the text is no value of that type.
    """
    if key in ("layers", "proj"):
        try:
            return parse_layers(text) if key == "layers" else parse_proj(text)
        except UserError as error:
            raise UserError(f"bad edit '{spec}': {error}") from error
    options = accepted(hint)
    if get_origin(hint) is Literal:
        if text not in options:
            raise UserError(f"bad edit '{spec}': {unknown(key, text, options)}")
        return text
    try:
        return _PARSERS[options[0]](text)
    except ValueError:
        raise UserError(f"bad edit '{spec}': {text!r} found, expected {key}={options[0]}") from None


def _int(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError(text)
    return int(text)


_PARSERS: dict[str, Callable[[str], Any]] = {"int": _int, "float": float, "str": str}
