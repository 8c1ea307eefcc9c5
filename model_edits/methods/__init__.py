"""The built-in edits, one a file. None imports torch when it is imported, so that listings answer at once."""

from . import checkpoint, delta, ekfac, kfac, magnitude, none, peft, random, svd, wanda

__all__ = [
    "checkpoint",
    "delta",
    "ekfac",
    "kfac",
    "magnitude",
    "none",
    "peft",
    "random",
    "svd",
    "wanda",
]
