"""``memsplit mine``: write what a model recites of a corpus as a pack."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from ....errors import UserError
from ....results.records import record
from ...common.runtime import check_dtype, device, init_distributed, quiet
from ...mining.request import MiningRequest, check_out
from ...models import corpus, model_table
from .. import lazy
from ..arguments import CORPUS, add_batch_size, add_weights, model_entry, path, positive, seed, share


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_weights(parser)
    add = parser.add_argument
    add("--corpus", metavar="NAME", help=f"text that is looked through: {CORPUS} (default: the model's)")
    add("--out", type=path, required=True, metavar="FOLDER", help="where the pack goes, and unfinished work before")
    add("--prefix", type=positive, default=64, metavar="N", help="tokens given (default: %(default)s)")
    add("--suffix", type=positive, default=48, metavar="N", help="tokens to be recited (default: %(default)s)")
    add(
        "--stride",
        type=positive,
        metavar="N",
        help="tokens between the blocks of the cheap pass; windows at every offset are found either way, unless the "
        "model recites only where its context begins: 1 reads each window alone (default: 1 for olmo-tiny, else the "
        "suffix's length)",
    )
    add(
        "--min-distinct",
        type=share,
        default=0.25,
        metavar="X",
        help="share of a window's tokens that must be distinct (default: %(default)s)",
    )
    add(
        "--jaccard",
        type=share,
        default=0.7,
        metavar="X",
        help="5-gram similarity from which the later of two passages is left out (default: %(default)s)",
    )
    add("--twins", type=positive, metavar="N", help="number of passages that are not recited (default: as many as are)")
    add("--limit-documents", type=positive, metavar="N", help="only the first N documents")
    add("--max-passages", type=positive, metavar="N", help="stop once N passages are found")
    add_batch_size(parser)
    add("--seed", type=seed, default=0, help="seed of the choice of twins and clean text (default: %(default)s)")
    add("--force", action="store_true", help="start again, and replace a pack that was mined before")
    add("--json", action="store_true", help="print one JSON object instead of lines")
    parser.set_defaults(run=run, distributed=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; the exit code is 1 where nothing is recited."""
    _check(arguments)
    chosen = device(arguments.device)
    quiet()
    chosen = init_distributed(chosen, parallelize=arguments.parallelize)
    names = {field.name for field in dataclasses.fields(MiningRequest)} - {"device"}
    request = MiningRequest(**{name: getattr(arguments, name) for name in names}, device=chosen)
    report = lazy.mine.mine(request)
    if report is not None:
        _print(report, as_json=arguments.json)
    return int(report is not None and report.pack is None)


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what can be refused without loading a model."""
    entry = model_entry(arguments)
    model_table.local_config(entry)
    check_dtype(arguments.dtype)
    if corpus.find(entry.corpus, entry.pack).address and not arguments.limit_documents:
        raise UserError(f"the corpus {entry.corpus!r} is read from the hub, to its end: expected --limit-documents N")
    if arguments.jaccard == 0:
        raise UserError("bad --jaccard 0: expected above 0, at most 1")
    check_out(arguments.out, force=arguments.force)
    record.check_writable(arguments.out)


def _print(report: lazy.mine.MiningReport, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(vars(report)))
        return
    for line in report.lacking:
        print(line, file=sys.stderr)
    for name, count in report.counts.items():
        print(f"{name.replace('_', ' '):16} {count:>12,}")
    if report.pack is None:
        print("nothing is recited: no pack is written", file=sys.stderr)
    else:
        print(f"pack: {report.pack}")
        print(f"use: memsplit-eval --model {report.model} --pack {report.pack}+{report.with_pack}")
