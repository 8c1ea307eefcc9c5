"""The built-in edits, one a file. None imports torch when it is imported, so that listings answer at once."""

from . import bsn, checkpoint, delta, ekfac, finetune, kfac, magnitude, none, peft, random, svd, wanda

__all__ = [
    "bsn",
    "checkpoint",
    "delta",
    "ekfac",
    "finetune",
    "kfac",
    "magnitude",
    "none",
    "peft",
    "random",
    "svd",
    "wanda",
]
