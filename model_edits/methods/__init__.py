"""The built-in edits, one a file. None imports torch when it is imported, so that listings answer at once."""

from . import ekfac, kfac, magnitude, none, random, svd, wanda

__all__ = ["ekfac", "kfac", "magnitude", "none", "random", "svd", "wanda"]
