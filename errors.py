"""The exceptions that memsplit raises on purpose.

::

    MemsplitError
    └── UserError        the user's mistake: one line, exit code 2, no traceback
        └── Diverged     a training whose loss or weights are not finite
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MemsplitError(Exception):
    """Base class of memsplit's exceptions."""


class UserError(MemsplitError):
    """A mistake of the user's; the message is one line with the bad token, what was expected, and the remedy."""


class Diverged(UserError):
    """A training's loss or weights are not finite, because of its settings or of the weights that it began with."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in ``known``; it lists the known names and suggests the nearest."""
    known = sorted(known)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}: expected one of {', '.join(known)}{hint}")
