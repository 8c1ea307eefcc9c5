"""The folder of memsplit's caches."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

VARIABLE = "MEMSPLIT_CACHE"


def folder() -> Path:
    """``$MEMSPLIT_CACHE``, else the platform's cache folder for memsplit."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("memsplit"))
