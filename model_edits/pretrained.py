"""Loading of published models and files, with errors of one line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError

from ..errors import UserError
from .constants import without_constants
from .lazy import huggingface_hub, torch, transformers

T = TypeVar("T")
BROKEN = (
    *(OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError, NotImplementedError),
    struct.error,
)
"""What transformers, peft and tokenizers raise for a broken file, an unknown format or an absent network."""


def fetch(pretrained: str, part: str, load: Callable[[], T], hint: str = "", code_hint: str = "") -> T:
    """The result of ``load``, whose exceptions become a ``UserError``.

    Args:
        pretrained: the folder or hub id that ``load`` reads.
        part: a word for what is loaded, for errors.
        load: the function that loads it.
        hint: what works without a network, for errors.
        code_hint: what runs code that comes with it, for errors.

    Raises:
        UserError: the file or repository cannot be fetched, is damaged, or needs code that comes with it.
    """
    try:
        return load()
    except SafetensorError as error:
        raise UserError(f"the weights of {pretrained!r} are damaged ({error})") from error
    except BROKEN as error:
        if "trust_remote_code=True" in str(error):
            raise UserError(
                f"the {part} of {pretrained!r} needs code that comes with it, and transformers has none{code_hint}"
            ) from error
        if Path(pretrained).exists():
            raise UserError(f"the {part} in {pretrained!r} cannot be loaded: {_reason(error)}") from error
        raise UserError(f"the {part} of {pretrained!r} could not be fetched: {_reason(error)}{hint}") from error


def load_model(pretrained: str, part: str = "model", hint: str = "", code_hint: str = "", **arguments: Any) -> Any:
    """A causal language model with all of its weights. No code that comes with it is run, unless ``arguments`` say so.

    Args:
        pretrained: as in :func:`fetch`.
        part: as in :func:`fetch`.
        hint: as in :func:`fetch`.
        code_hint: as in :func:`fetch`.
        arguments: of ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        UserError: as :func:`fetch` and :func:`check_merged`; or weights are missing, have no place in the model (see
            ``constants.without_constants``), are not finite, or do not fit into memory.
    """
    arguments = {"trust_remote_code": False, **arguments, "output_loading_info": True}
    load = partial(transformers.AutoModelForCausalLM.from_pretrained, pretrained, **arguments)
    model, info = fetch(pretrained, part, load, hint, code_hint)
    absent = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if absent:
        raise UserError(f"the weights of {pretrained!r} lack {absent[0]} ({len(absent)} tensors in all)")
    if surplus := without_constants(info["unexpected_keys"], model, pretrained, arguments.get("revision")):
        raise UserError(
            f"the weights of {pretrained!r} hold {surplus[0]} ({len(surplus)} tensors in all), for which "
            f"{type(model).__name__} has no place: expected the weights of that architecture alone"
        )
    check_merged(model)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UserError(f"{pretrained!r} does not fit into this machine's memory: expected more or larger devices")
    check_finite(model, pretrained)
    return model


def check_merged(model: Any) -> None:
    """Refuse a model with an adapter beside its weights: an edit would change the weights alone.

    Raises:
        UserError: a module is one of the library peft.
    """
    adapters = (name for name, module in model.named_modules() if type(module).__module__.split(".")[0] == "peft")
    if name := next(adapters, None):
        raise UserError(
            f"{type(model).__name__} has an adapter that is not merged, in {name}: merge it first "
            "(peft.PeftModel.merge_and_unload), or take the model without it and the edit peft:path=…"
        )


def check_finite(model: Any, name: str) -> None:
    """Check that a model's weights are numbers; what only a quantization can read is passed over.

    That is types of a byte, and tensors of another class than torch's own.

    Raises:
        UserError: a weight is nan or an infinity.
    """
    own = ((weight, tensor) for weight, tensor in model.named_parameters() if type(tensor.data) is torch.Tensor)
    wide = (pair for pair in own if pair[1].is_floating_point() and pair[1].itemsize > 1)
    if broken := [weight for weight, tensor in wide if not bool(tensor.isfinite().all())]:
        raise UserError(f"the weights of {name!r} are not finite: {broken[0]} ({len(broken)} tensors in all)")


def _reason(error: Exception) -> str:
    """The first line of a message; all lines if it ends in a colon; two of an error of the hub, the first a status."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if lines[0].endswith(":"):
        return " ".join(lines)
    return " ".join(lines[: 2 if isinstance(error, huggingface_hub.errors.HfHubHTTPError) else 1])[:300]
