"""Options that several commands share: their declaration, and checks that need no loaded model."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...model_edits import registry
from ...results.records import record
from ...results.records.store import DEFAULT
from ...tasks import suite
from ..common.runtime import AUTO_BATCH, DTYPES, check_dtype, device
from ..evaluation import request
from ..evaluation.request import Request, resolve
from ..models import model_table

SPEC = "NAME[-PERCENT][:key=value,…][@DIAL], or a chain of them joined by +"
CORPUS = (
    "pack, a file or folder of text, JSON, CSV or parquet (PATH[:COLUMN]), or "
    "OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]] of the hub"
)


def add_weights(parser: argparse.ArgumentParser, *, dtypes: Sequence[str] = DTYPES, spread: bool = True) -> None:
    """Declare the options that name a model and say where it is computed.

    Args:
        parser: the command's.
        dtypes: the types that the command computes in.
        spread: whether the command can spread a model over several devices.
    """
    add = parser.add_argument
    add(
        "--model",
        default="olmo-tiny",
        metavar="NAME",
        help="a name of --list-models, a folder, a GGUF file, or a hub id (default: %(default)s)",
    )
    add("--device", help="default: cuda if there is one, else cpu")
    default = "the model's" if "auto" in dtypes else dtypes[-1]
    add("--dtype", help=f"one of {', '.join(dtypes)} (default: {default}; float32 on a CPU)")
    if spread:
        add("--parallelize", action="store_true", help="spread the model over all devices (device_map=auto)")
    add(
        "--dequantize",
        action="store_true",
        help="make floating weights of quantized ones when a model is loaded (default: they are not changed)",
    )
    add_source(parser)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which files of a model are taken, and whether code among them is run."""
    add = parser.add_argument
    add("--revision", metavar="NAME", help="branch, tag or commit of the model's repository on the hub (default: main)")
    add(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with a model, which nothing checks (default: one that needs it is refused)",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name a model, its pack, and the calibration data of its curvature."""
    add_weights(parser)
    add = parser.add_argument
    add("--pack", metavar="NAME", help="probe data: a pack, a folder, or several joined by + (default: the model's)")
    add(
        "--corpus",
        metavar="NAME",
        help=f"calibration data, the text that curvature is collected from: {CORPUS} (default: the pack's, else the "
        "model's)",
    )
    add(
        "--factor-tokens",
        type=positive,
        metavar="N",
        help="tokens of calibration data that curvature is collected from (default: the model's)",
    )


def add_suite(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name the tasks."""
    add = parser.add_argument
    suites = ", ".join(suite.SUITES)
    add("--suite", default="memsplit", metavar="NAME", help=f"one of {suites} (default: %(default)s)")
    add(
        "--include-path",
        action="append",
        type=path,
        default=[],
        metavar="DIR",
        help="a folder with further tasks and suites, as lm-eval's YAML; repeatable",
    )
    add(
        "--tasks",
        metavar="A,B",
        help="only these tasks or groups, of the suite or of lm-eval's own; * in a name stands for any text",
    )


def add_items(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose tasks and say how they are scored."""
    add = parser.add_argument
    add_suite(parser)
    add(
        "--chat-template",
        action="store_true",
        help="ask by the tokenizer's chat template, examples as turns; passages and plain text are never put into it",
    )
    add_batch_size(parser)
    add("--seed", type=seed, default=0, help="seed of the intervals' bootstrap (default: %(default)s)")


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Declare the option that says how many sequences the model is given at once."""
    parser.add_argument(
        "--batch-size",
        type=batch_size,
        default=32,
        metavar="N",
        help="sequences a forward pass; auto for 64, and half wherever memory runs out (default: %(default)s)",
    )


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """Declare the options of :func:`add_items`, with the split, the number of items and the folder of records."""
    add_items(parser)
    add = parser.add_argument
    add("--split", default="test", metavar="PART", help="the part of the items: dev or test (default: %(default)s)")
    add(
        "--limit",
        type=positive,
        metavar="N",
        help="only the first N items of each task; of passages with doses those of the highest come first",
    )
    add("--out", type=path, default=DEFAULT, metavar="FOLDER", help="where records go (default: %(default)s)")


def add_memory(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say what memory is measured against, and after which attacks it is measured again."""
    add = parser.add_argument
    add(
        "--reference",
        metavar="NAME",
        help="a model that never saw the passages: the floor of memory (default: the model table's; 'none' for none)",
    )
    add(
        "--attack",
        dest="attacks",
        action="append",
        default=[],
        metavar="SPEC",
        help="score each edit after this attack too, such as relearn or quantize:bits=4; repeatable",
    )
    add(
        "--attacks",
        dest="default_attacks",
        action="store_true",
        help=f"score each edit after the default attacks: {', '.join(registry.DEFAULT_ATTACKS)}",
    )


def check_scoring(arguments: argparse.Namespace, edits: Sequence[str], *, write: bool = True) -> Request:
    """The request of an evaluation, once everything is checked that needs no loaded model.

    Args:
        arguments: the options of :func:`add_model` and :func:`add_scoring`, and others of ``request.Request``.
        edits: specs of the edits.
        write: whether records will be written.

    Raises:
        UserError: an option does not fit the model, the suite or this machine.
    """
    evaluation = make_request(arguments, edits=edits)
    resolve(evaluation)
    if write:
        record.check_writable(arguments.out)
    return dataclasses.replace(evaluation, device=device(arguments.device))


def make_request(arguments: argparse.Namespace, **more: Any) -> Request:
    """A request of the options that it has fields for, and of ``more``, which comes before them."""
    names = {field.name for field in dataclasses.fields(Request)} & vars(arguments).keys()
    given = {name: getattr(arguments, name) for name in names}
    if getattr(arguments, "default_attacks", False):
        given["attacks"] = list(dict.fromkeys([*registry.DEFAULT_ATTACKS, *arguments.attacks]))
    return Request(**{**given, "tasks": task_names(arguments), **more})


def task_names(arguments: argparse.Namespace) -> list[str]:
    """The tasks that ``--tasks`` names; none where it is not given or not an option of the command."""
    names: str | None = getattr(arguments, "tasks", None)
    return names.split(",") if names is not None else []


def model_entry(arguments: argparse.Namespace) -> model_table.ModelEntry:
    """The model's entry, with the pack and the corpus where the command has options for them.

    Raises:
        UserError: an option does not fit the model.
    """
    given = vars(arguments)
    how = {name: given[name] for name in ("revision", *model_table.HOW) if name in given}
    return model_table.resolve(arguments.model, given.get("pack"), given.get("corpus"), **how)


def check_model(arguments: argparse.Namespace, edits: Sequence[str]) -> model_table.ModelEntry:
    """The model's entry, once its options and the specs of the edits are checked.

    Raises:
        UserError: an option or a spec does not fit the model.
    """
    check_dtype(arguments.dtype)
    return request.check_model(model_entry(arguments), edits, arguments.factor_tokens)


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a whole number above 0")
    return int(text)


def batch_size(text: str) -> int | str:
    """Parse a whole number above 0, or ``auto``."""
    if text == AUTO_BATCH:
        return text
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error} or {AUTO_BATCH!r}") from error


def seed(text: str) -> int:
    """Parse a whole number of at most 18 digits."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a whole number of at most 18 digits")
    return int(text)


def above_zero(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a number above 0")
    return value


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    if not re.fullmatch(r"0|1|[01]?\.[0-9]{1,9}", text) or float(text) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a number from 0 to 1")
    return float(text)


def path(text: str) -> Path:
    """Parse a path that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("'' found, expected a path")
    return Path(text)
