"""Every class of causal language model in the installed transformers, small and random: what memsplit makes of it.

    python -m memsplit.benchmarks.architectures [MODEL_TYPE …]

Prints a Markdown table. Each class has a process of its own and at most :data:`LIMIT_S` seconds.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import tempfile
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from memsplit.errors import UserError
from memsplit.model_edits import targets
from memsplit.model_edits.architecture.linear_maps import blocks
from memsplit.model_edits.target_names import EVERY, ROLES
from memsplit.tests.support.matrices import curvature, divided, edited

from .tiny_configs import tiny

LIMIT_S = 60
IDS = torch.randint(3, 60, (3, 12), generator=torch.Generator().manual_seed(1))
COLUMNS = ("class", "`model_type`", "layers", "roles", "maps without a role", "edit", "export", "curvature")


def row(model_type: str) -> list[str]:
    """The cells behind the class and the model type; a single one if the model is refused, or is not to be had."""
    try:
        model = _model(model_type)
        model(input_ids=IDS, use_cache=False)
    except Exception as error:
        return [f"not to be had: {_line(error)}"]
    try:
        name, layers = blocks(model)
        found = divided(model)
        roles = [role for role in ROLES if any(target.proj == role for target in found)]
        others = sorted(
            {t.proj for t in targets.find(model, (EVERY,), ("*",)) if t.proj not in ROLES and not t.divided}
        )
        with tempfile.TemporaryDirectory() as folder:
            done = edited(model, "svd-50", found, IDS, Path(folder))
        agree = list(curvature(model, found, IDS).values())
    except UserError as error:
        return [f"refused: {_line(error)}"]
    except Exception as error:
        return [f"**failed**: {type(error).__name__}: {_line(error)}"]
    return [
        f"`{name}` ({len(layers)})",
        " ".join(f"`{role}`" for role in roles) or "-",
        " ".join(f"`{other}`" for other in others) or "-",
        "yes" if done["moves"] and done["restores"] else f"**{'not restored' if done['moves'] else 'moves nothing'}**",
        "yes" if done["reloads"] else "**differs**",
        _curvature(agree),
    ]


def _model(model_type: str) -> Any:
    """The model of a small configuration; the weights are multiplied by 3, so that nothing is nearly linear."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(tiny(model_type), dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    return model


def _curvature(agree: list[bool | None]) -> str:
    """How many matrices have the curvature of autodiff, if not all: some are not seen, and some would be wrong."""
    unseen, wrong = agree.count(None), agree.count(False)
    if wrong:
        return f"**{wrong} of {len(agree)} differ**"
    if unseen == len(agree):
        return "not seen"
    return f"yes; {unseen} of {len(agree)} are not seen" if unseen else "yes"


def _line(error: Exception) -> str:
    text = " ".join(str(error).replace("|", "\\|").split())
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/\w+", "FOLDER", text)
    return text if len(text) < 240 else f"{text[:240]}…"


def _child(model_type: str, end: Connection) -> None:
    end.send(row(model_type))


def in_a_process(model_type: str, limit_s: float = LIMIT_S) -> list[str]:
    """The row, made by a process that may crash or take too long."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(model_type, theirs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: it computes on its own
        process.start()
    theirs.close()
    try:
        return list(ours.recv()) if ours.poll(limit_s) else [f"**no answer within {limit_s:g} s**"]
    except EOFError:
        process.join()
        return [f"**crashed** (exit code {process.exitcode})"]
    finally:
        process.kill()
        process.join()


def main(model_types: list[str]) -> None:
    """Print the table."""
    names = {**MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    print(f"transformers {transformers.__version__}, {len(set(names.values()))} classes, {len(names)} model types\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for model_type in model_types or names:
        cells = in_a_process(model_type)
        cells += [""] * (len(COLUMNS) - 2 - len(cells))
        print(f"| {names[model_type]} | `{model_type}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(sys.argv[1:])
