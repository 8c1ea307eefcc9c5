"""What the commands' options have in common: how they are declared, and checked before anything is loaded."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ...errors import UserError, unknown
from ...results.records import record
from ...tasks import packs, suite
from ..evaluation.request import Request, fill_in
from ..evaluation.task_selection import choose_parts
from ..models import model_table

DTYPES = ("auto", "float32", "bfloat16", "float16")
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


def add_suite(parser: argparse.ArgumentParser) -> None:
    """What names the tasks."""
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
    """What is asked and how, but of which part and how many."""
    add = parser.add_argument
    add_suite(parser)
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
    entry = check_model(arguments, edits)
    tasks = arguments.tasks.split(",") if arguments.tasks is not None else []
    choose_parts(arguments.suite, tasks, entry, arguments.include_path)
    packs.check_split(arguments.split)
    if write:
        record.check_writable(arguments.out)
    given = {
        option.name: getattr(arguments, option.name)
        for option in dataclasses.fields(Request)
        if hasattr(arguments, option.name)
    }
    return Request(**{**given, "edits": edits, "tasks": tasks, "device": device(arguments.device)})


def check_model(arguments: argparse.Namespace, edits: Sequence[str]) -> model_table.ModelEntry:
    """The model, once its options and the edits' texts are found good."""
    entry = model_table.resolve(arguments.model, arguments.pack, arguments.corpus)
    config = model_table.local_config(entry)
    for text in edits:
        fill_in(text, entry, model_table.layer_count(config) if config else None)
    check_dtype(arguments.dtype)
    if arguments.factor_tokens is not None and arguments.factor_tokens < entry.factor_length:
        raise UserError(f"bad --factor-tokens {arguments.factor_tokens}: expected at least {entry.factor_length}")
    return entry


def check_dtype(name: str | None) -> None:
    """Refuse a type that is none of :data:`DTYPES`."""
    if name not in (None, *DTYPES):
        raise unknown("dtype", str(name), DTYPES)


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


def device(name: str | None) -> str:
    """The device to compute on.

    Raises:
        UserError: there is none of that name.
    """
    import torch

    here = ["cpu", *(["mps"] if torch.backends.mps.is_available() else [])]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    chosen = name or ("cuda" if "cuda" in here else "cpu")
    if chosen not in here:
        raise unknown("device", chosen, here)
    return chosen


def processes() -> int:
    """How many processes a launcher (``accelerate launch``, ``torchrun``) has started for this command."""
    text = os.environ.get("WORLD_SIZE", "")
    return int(text) if text.isdecimal() and "RANK" in os.environ else 1


def init_distributed(chosen: str, *, parallelize: bool) -> str:
    """Meet the other processes of a launcher, where there are any; the device of this one.

    Args:
        chosen: the device that was asked for.
        parallelize: whether the model was to be spread over all devices.

    Raises:
        UserError: both at once.
    """
    if processes() == 1:
        return chosen
    if parallelize:
        raise UserError("--parallelize spreads one process over all devices: expected one process, or no such option")
    from datetime import timedelta

    from accelerate import PartialState

    return str(PartialState(cpu=chosen == "cpu", timeout=timedelta(days=30)).device)


def quiet() -> None:
    """Leave the terminal to our own progress and errors."""
    warnings.filterwarnings("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    logging.getLogger("datasets").setLevel(logging.CRITICAL)
