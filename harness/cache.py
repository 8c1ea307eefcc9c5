"""Where caches are, and the hash that tells scores of other code from those of this."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import platformdirs

VARIABLE = "MEMSPLIT_CACHE"
_PACKAGE = Path(__file__).parents[1]
_SCORING = (
    "tasks/*.py",
    "tasks/suites/**/*.yaml",
    *(f"harness/{name}.py" for name in ("adapter", "answers", "passages", "probes", "reading", "scoring")),
)


def folder() -> Path:
    """``$MEMSPLIT_CACHE``, else the platform's cache folder for memsplit."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("memsplit"))


def scoring_code() -> str:
    """sha256 of every file that has a say in an item's score."""
    return code(*_SCORING)


@functools.cache
def code(*patterns: str) -> str:
    """sha256 of the package's files that fit one of the patterns, as they are when it is first asked for."""
    sha = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in _PACKAGE.glob(pattern)):
        sha.update(path.relative_to(_PACKAGE).as_posix().encode() + path.read_bytes())
    return sha.hexdigest()
