"""What the commands' options have in common: how they are declared, and checked before anything is loaded."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ...errors import UserError, unknown
from ...results.records import record
from ...tasks import suite
from ..common.runtime import DTYPES, check_dtype, device
from ..evaluation import request
from ..evaluation.request import Request, resolve
from ..models import model_table

SPEC = "NAME[-PERCENT][:key=value,…][@DIAL], or a chain of them joined by +"


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one line, with the nearest name."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise unknown(str(action.metavar or action.dest).lower(), str(value), map(str, action.choices))

    def error(self, message: str) -> NoReturn:
        """Raise instead of leaving."""
        raise UserError(message)


CORPUS = (
    "pack, a file or folder of text, JSON lines or parquet, or OWNER/NAME[@REVISION][:CONFIG[:SPLIT[:COLUMN]]] of the "
    "hub"
)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """What names a model, and says where it is computed."""
    add = parser.add_argument
    add(
        "--model",
        default="olmo-tiny",
        metavar="NAME",
        help="a name of --list-models, a folder, a GGUF file, or a hub id (default: %(default)s)",
    )
    add("--device", help="default: cuda if there is one, else cpu")
    add("--dtype", help=f"one of {', '.join(DTYPES)} (default: the model's; float32 on a CPU)")
    add("--parallelize", action="store_true", help="spread the model over all devices (device_map=auto)")


def add_model(parser: argparse.ArgumentParser) -> None:
    """What names a model and its pack, and decides its curvature."""
    add_weights(parser)
    add = parser.add_argument
    add("--pack", metavar="NAME", help="probe data: a pack, a folder, or several joined by + (default: the model's)")
    add(
        "--corpus",
        metavar="NAME",
        help=f"text that curvature is collected from: {CORPUS} (default: the pack's, else the model's)",
    )
    add(
        "--factor-tokens",
        type=positive,
        metavar="N",
        help="tokens that curvature is collected from (default: the model's)",
    )


def add_items(parser: argparse.ArgumentParser) -> None:
    """What is asked and how, but of which part and how many."""
    add = parser.add_argument
    add("--suite", default="memsplit", metavar="NAME", help=f"one of {', '.join(suite.SUITES)} (default: %(default)s)")
    add("--tasks", metavar="A,B", help="only these tasks of the suite")
    add("--batch-size", type=positive, default=32, metavar="N", help="sequences a forward pass (default: %(default)s)")
    add("--seed", type=seed, default=0, help="of the intervals' resampling (default: %(default)s)")


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """What is asked, how, and where records go."""
    add_items(parser)
    add = parser.add_argument
    add("--split", default="test", metavar="PART", help="the part of the items: dev or test (default: %(default)s)")
    add("--limit", type=positive, metavar="N", help="only the first N items of each task")
    add(
        "--out",
        type=path,
        default=Path("memsplit-results"),
        metavar="FOLDER",
        help="where records go (default: %(default)s)",
    )


def check_scoring(arguments: argparse.Namespace, edits: Sequence[str], *, write: bool = True) -> Request:
    """What is to be scored; everything is refused here that can be without loading a model.

    Args:
        arguments: the options of :func:`add_model` and :func:`add_scoring`, and others of ``request.Request``.
        edits: their specs.
        write: whether records will be.
    """
    tasks = arguments.tasks.split(",") if arguments.tasks is not None else []
    given = {
        option.name: getattr(arguments, option.name)
        for option in dataclasses.fields(Request)
        if hasattr(arguments, option.name)
    }
    asked = Request(**{**given, "edits": edits, "tasks": tasks})
    resolve(asked)
    if write:
        record.check_writable(arguments.out)
    return dataclasses.replace(asked, device=device(arguments.device))


def check_model(arguments: argparse.Namespace, edits: Sequence[str]) -> model_table.ModelEntry:
    """The model, once its options and the edits' texts are found good."""
    check_dtype(arguments.dtype)
    return request.check_model(arguments.model, edits, arguments.pack, arguments.corpus, arguments.factor_tokens)


def positive(text: str) -> int:
    """A whole number above 0."""
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a whole number above 0")
    return int(text)


def seed(text: str) -> int:
    """A whole number."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a whole number of at most 18 digits")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    if not re.fullmatch(r"0|1|[01]?\.[0-9]{1,9}", text) or float(text) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} found, expected a number from 0 to 1")
    return float(text)


def path(text: str) -> Path:
    """A path."""
    if not text:
        raise argparse.ArgumentTypeError("'' found, expected a path")
    return Path(text)
