"""The built-in edits, one a file. None imports torch when it is imported, so that listings answer at once."""

from . import kfac, none, random

__all__ = ["kfac", "none", "random"]
