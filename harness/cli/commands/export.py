"""``memsplit export``: write an edited model as a Hugging Face folder."""

from __future__ import annotations

import argparse

from ....errors import UserError
from ....results.records import record
from ...common.runtime import device, quiet
from .. import lazy
from ..arguments import SPEC, add_model, check_model, make_request, path


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = "Write an edited model as a Hugging Face folder: weights, tokenizer, config and card."
    add_model(parser)
    add = parser.add_argument
    add("--edit", required=True, metavar="SPEC", help=SPEC)
    add("--out", type=path, required=True, metavar="FOLDER", help="where the model goes")
    add("--record", type=path, metavar="FILE", help="a record of this edit, whose figures go into the card")
    add("--delta", action="store_true", help="write the changed weights alone, for the edit delta:path=FOLDER")
    add("--force", action="store_true", help="replace a folder that is there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_model(arguments, [arguments.edit])
    record.check_writable(arguments.out)
    chosen = device(arguments.device)
    quiet()
    if arguments.out.exists() and not (arguments.force and lazy.export.is_ours(arguments.out)):
        remedy = "or one that was exported before" if arguments.force else "or --force"
        raise UserError(f"--out {str(arguments.out)!r} is there already: expected a new folder, {remedy}")
    request = make_request(arguments, edits=[arguments.edit], device=chosen)
    print(lazy.export.export(request, record_path=arguments.record, delta=arguments.delta))
    return 0
