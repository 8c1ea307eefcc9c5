"""``memsplit plant``: train any model with passages planted into its corpus, and its counterpart without them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re

from ....results.records import record
from ...common.runtime import device, quiet
from ...models import corpus, model_table
from ...planting.request import DTYPES, PLANTED, UNPLANTED, PlantingRequest, check_dtype, check_out
from .. import lazy, row_options
from ..arguments import CORPUS, above_zero, add_weights, model_entry, path, positive, seed


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_weights(parser, dtypes=DTYPES, spread=False)
    add = parser.add_argument
    add(
        "--passages",
        type=path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="passages, or texts that they are cut from, as for 'memsplit pack import'",
    )
    add(
        "--doses",
        type=doses,
        default=(1, 4, 16, 64),
        metavar="N,N",
        help="how often passages are met, in equal shares; as many are not (default: 1,4,16,64)",
    )
    add(
        "--out", type=path, required=True, metavar="FOLDER", help="where models and pack go, and unfinished work before"
    )
    add("--corpus", metavar="NAME", help=f"text that the passages are planted into: {CORPUS} (default: the model's)")
    row_options.add(parser, "tokens")
    add(
        "--share",
        type=part,
        default=0.25,
        metavar="X",
        help="share of the tokens that are of passages: decides the steps (default: %(default)s)",
    )
    add("--steps", type=positive, metavar="N", help="updates of each model (default: by --share)")
    add("--batch-size", type=positive, default=8, metavar="N", help="sequences an update (default: %(default)s)")
    add("--length", type=positive, metavar="N", help="tokens a sequence (default: 512, or the model's context)")
    add("--lr", type=above_zero, default=2e-4, metavar="X", help="highest learning rate (default: %(default)s)")
    add(
        "--lora",
        type=positive,
        metavar="RANK",
        help="train adapters of this rank, then merged (default: all weights)",
    )
    add("--seed", type=seed, default=0, help="of the doses, the places and the order (default: %(default)s)")
    add("--dry-run", action="store_true", help="say what would be planted and how long it may take, and stop")
    add("--force", action="store_true", help="start again, and replace what was planted before")
    add("--json", action="store_true", help="print one JSON object instead of lines")
    parser.set_defaults(run=run)


def doses(text: str) -> tuple[int, ...]:
    """Parse distinct whole numbers above 0, in ascending order."""
    found = [int(word) for word in text.split(",")] if re.fullmatch("[0-9]{1,6}(,[0-9]{1,6})*", text) else [0]
    if 0 in found or found != sorted(set(found)):
        raise argparse.ArgumentTypeError(f"{text!r} found, expected ascending numbers above 0, as in 1,4,16,64")
    return tuple(found)


def part(text: str) -> float:
    """Parse a number above 0 and below 1."""
    if not re.fullmatch(r"0?\.[0-9]{1,9}", text) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a number between 0 and 1")
    return float(text)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    entry = model_entry(arguments)
    model_table.local_config(entry)
    corpus.find(entry.corpus, entry.pack)
    check_dtype(arguments.dtype)
    places, splitting = row_options.given(arguments)
    check_out(arguments.out, entry.pretrained, force=arguments.force)
    if not arguments.dry_run:
        record.check_writable(arguments.out)
    chosen = device(arguments.device)
    quiet()
    names = {field.name for field in dataclasses.fields(PlantingRequest)} - {"device", "places", "splitting"}
    given = {name: getattr(arguments, name) for name in names}
    request = PlantingRequest(**given, device=chosen, places=places, splitting=splitting)
    if arguments.dry_run:
        print("\n".join(lazy.plant.estimate(request)))
        return 0
    _print(lazy.plant.plant(request), as_json=arguments.json)
    return 0


def _print(report: lazy.plant.PlantingReport, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(vars(report), allow_nan=False))
        return
    for name, count in report.counts.items():
        print(f"{name.replace('_', ' '):16} {count:>12,}")
    for reason, count in report.left_out.items():
        print(f"left out: {count} {reason}")
    print(f"\n{'':14}{'recited':^22}{'token accuracy':^22}{'bits a token':^22}")
    print(f"{'dose':>5} {'n':>6}  " + f"{PLANTED:>10} {UNPLANTED:>10} " * 3)
    for row in report.recitation:
        figures = [f"{row[model][name]:>10.3f}" for name in row[PLANTED] for model in (PLANTED, UNPLANTED)]
        print(f"{row['dose']:>5} {row['passages']:>6}  {' '.join(figures)}")
    print(f"\nmodels: {report.planted}, {report.unplanted}\npack: {report.pack}\nuse: {report.use}")
