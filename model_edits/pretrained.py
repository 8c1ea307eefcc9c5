"""Load what others have published; what goes wrong is told in one line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from ..errors import UserError

T = TypeVar("T")
BROKEN = (
    *(OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError, NotImplementedError),
    struct.error,
)
"""What transformers, peft and tokenizers raise for a broken file, an unknown format or an absent network."""


def fetch(pretrained: str, part: str, load: Callable[[], T], hint: str = "") -> T:
    """What ``load`` returns.

    Args:
        pretrained: the folder or hub id that it loads from.
        part: what is loaded, in a word.
        load: loads it.
        hint: what works without a network.

    Raises:
        UserError: it cannot be fetched, or is damaged.
    """
    try:
        return load()
    except SafetensorError as error:
        raise UserError(f"the weights of {pretrained!r} are damaged ({error})") from error
    except BROKEN as error:
        if Path(pretrained).exists():
            raise UserError(f"the {part} in {pretrained!r} cannot be loaded: {_reason(error)}") from error
        raise UserError(f"the {part} of {pretrained!r} could not be fetched: {_reason(error)}{hint}") from error


def load_model(pretrained: str, part: str = "model", hint: str = "", **arguments: Any) -> Any:
    """A causal language model with all of its weights.

    Args:
        pretrained: as in :func:`fetch`.
        part: as in :func:`fetch`.
        hint: as in :func:`fetch`.
        arguments: of ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        UserError: as :func:`fetch`; or weights are missing, or do not fit into memory.
    """
    arguments["output_loading_info"] = True
    load = partial(AutoModelForCausalLM.from_pretrained, pretrained, **arguments)
    model, info = fetch(pretrained, part, load, hint)
    absent = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if absent:
        raise UserError(f"the weights of {pretrained!r} lack {absent[0]} ({len(absent)} tensors in all)")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UserError(f"{pretrained!r} does not fit into this machine's memory: expected more or larger devices")
    return model


def _reason(error: Exception) -> str:
    """A message's first line; all where that only announces the rest; two of the hub's, which begin with a status."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].endswith(":"):
        return " ".join(lines)
    return " ".join(lines[: 2 if isinstance(error, HfHubHTTPError) else 1])[:300]
