"""``memsplit organism train``: train the embedded model again."""

from __future__ import annotations

import argparse
from pathlib import Path

from ....results.records import record
from ...common.runtime import device
from .. import lazy
from ..arguments import path, positive, seed
from ..parser import Parser


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the action and its options."""
    actions = parser.add_subparsers(required=True, parser_class=Parser, metavar="ACTION")
    train = actions.add_parser(
        "train",
        help="train olmo-tiny again",
        description="Train olmo-tiny again; a killed run continues from its last checkpoint.",
    )
    add = train.add_argument
    add(
        "--out",
        type=path,
        help="folder for checkpoint, model and pack (default: olmo-tiny-run, or olmo-tiny-unseen-run)",
    )
    add("--seed", type=seed, default=0, help="seed of the world, the weights and the order of the data")
    add("--steps", type=positive, default=3600, help="updates (default: %(default)s)")
    add(
        "--without",
        choices=["passages"],
        help="train the unseen counterpart: the same, with other prose in the place of each passage",
    )
    add("--device", help="default: cuda if there is one, else cpu")
    train.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``memsplit organism train``."""
    recipe = lazy.train.Recipe(seed=arguments.seed, steps=arguments.steps, unseen=arguments.without == "passages")
    out = arguments.out or Path("olmo-tiny-unseen-run" if recipe.unseen else "olmo-tiny-run")
    record.check_writable(out)
    model, tokenizer, world = lazy.train.train(recipe, out, device=device(arguments.device))
    for name, written in lazy.artifacts.export(model.cpu(), tokenizer, world, recipe, out).items():
        print(f"{name}: {written}")
    return 0
