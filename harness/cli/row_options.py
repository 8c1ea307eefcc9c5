"""Options that say how rows of other formats become those of a pack."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence

from ...errors import UserError, unknown
from ...tasks import packs
from ...tasks.importing.row_fields import NAMES
from ...tasks.importing.splitting import BY, Splitting
from .arguments import positive


def add(parser: argparse.ArgumentParser, unit: str) -> None:
    """Declare the options that say how rows of other formats are read, cut and split.

    Args:
        parser: the command's.
        unit: what prefixes and suffixes are counted in.
    """
    option = parser.add_argument
    option(
        "--field",
        action="append",
        default=[],
        metavar="NAME=FIELD",
        help="where a field of the pack is in the rows, such as text=body or answer=answers.0; repeatable",
    )
    option("--prefix", type=positive, default=64, metavar="N", help=f"{unit} of a prefix (default: %(default)s)")
    option("--suffix", type=positive, default=48, metavar="N", help=f"{unit} of a suffix (default: %(default)s)")
    option("--split-by", metavar="WAY", help=f"one of {', '.join(BY)} (default: the first that the rows have)")
    option(
        "--split",
        action="append",
        default=[],
        metavar="NAME=PART",
        help="what a split's name in the rows stands for, dev or test; repeatable",
    )


def given(arguments: argparse.Namespace) -> tuple[dict[str, str], Splitting]:
    """Where fields are in the rows, and how the rows are split, by the options of :func:`add`.

    Raises:
        UserError: an option names no field, no way to split or no split.
    """
    by = one_of("--split-by", arguments.split_by, BY)
    splitting = Splitting(by=by, seed=arguments.seed, names=_pairs("--split", arguments.split))
    for part in splitting.names.values():
        packs.check_split(part)
    places = _pairs("--field", arguments.field)
    for name in places:
        one_of("field", name, NAMES)
    return places, splitting


def one_of(what: str, name: str | None, known: Collection[str]) -> str | None:
    """``name`` itself.

    Raises:
        UserError: it is given, and is not known.
    """
    if name is not None and name not in known:
        raise unknown(what, name, known)
    return name


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` words as a mapping.

    Raises:
        UserError: a word is none, or gives a name twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in pairs:
            raise UserError(f"bad {option} {text!r}: expected {'another NAME' if name in pairs else 'NAME=VALUE'}")
        pairs[name] = value
    return pairs
