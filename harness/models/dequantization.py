"""``--dequantize``: the weights of a quantized checkpoint as ordinary floating ones, by transformers' own means.

Some of its quantizers dequantize while they load (compressed-tensors, FP8, MXFP4, Metal), others a model that is loaded
(bitsandbytes, HIGGS), and the rest not at all. Weights that are tensors of a class of their own (torchao, of plain
modules) are dequantized one by one.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import torch
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from ...errors import UserError
from ...model_edits.architecture.linear_maps import maps_of, quantization
from ...model_edits.pretrained import BROKEN

log = logging.getLogger("memsplit")


def ask(config: Any) -> str:
    """Ask for dequantization while loading, in a model's configuration, where its quantizer can do so then.

    Returns:
        The quantization method that the configuration tells; empty if it tells none.
    """
    method = ""
    for part in (config, config.get_text_config(decoder=True)):
        settings = getattr(part, "quantization_config", None)
        if isinstance(settings, dict) and settings:
            method = str(settings.get("quant_method") or "an unnamed method")
            known = AUTO_QUANTIZATION_CONFIG_MAPPING.get(method)
            if known is not None and "dequantize" in inspect.signature(known).parameters:
                part.quantization_config = {**settings, "dequantize": True}
    return method


def dequantized(model: Any, method: str, name: str) -> Any:
    """A loaded model with floating weights in place of quantized ones, in the type of its other weights.

    Args:
        model: as transformers loaded it, with the configuration that :func:`ask` was given.
        method: what :func:`ask` returned.
        name: what it is called, for errors.

    Raises:
        UserError: transformers cannot dequantize it, or something else than floating weights is left.
    """
    dtype = model.dtype
    try:
        singly = _of_own_class(model)
        plain: dict[int, torch.nn.Parameter] = {}  # one of a weight that several modules share
        for weight, parameter in singly.items():
            owner, _, leaf = weight.rpartition(".")
            if id(parameter) not in plain:
                values = parameter.data.dequantize().to(dtype)
                plain[id(parameter)] = torch.nn.Parameter(values, requires_grad=parameter.requires_grad)
            setattr(model.get_submodule(owner), leaf, plain[id(parameter)])
        if not singly and getattr(model, "hf_quantizer", None) is not None:
            model = model.dequantize(dtype=dtype)
    except NotImplementedError as error:
        raise UserError(
            f"the weights of {name!r} are quantized by {method}, which transformers cannot dequantize: "
            "expected a checkpoint that is not quantized"
        ) from error
    except BROKEN as error:
        raise UserError(f"the weights of {name!r}, quantized by {method}, are not dequantized: {error}") from error
    if left := _quantized(model):
        raise UserError(
            f"the weights of {name!r}, quantized by {method}, are not all dequantized: {left}; expected a checkpoint "
            "that is not quantized"
        )
    forget(model)
    log.info("the weights of %r, quantized by %s, are dequantized", name, method)
    return model


def check_plain(model: Any, name: str) -> None:
    """Check that a model's weights have bytes of their own, by which they are named.

    Raises:
        UserError: some are tensors of another class than torch's own.
    """
    for weight, parameter in _of_own_class(model).items():
        raise UserError(
            f"the weights of {name!r} are quantized: {weight} is of the type {type(parameter.data).__name__}; "
            "expected --dequantize, or a checkpoint that is not quantized"
        )


def _of_own_class(model: Any) -> dict[str, Any]:
    """By name, the parameters whose tensors are of another class than torch's own; one that is shared, by each name."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: each for name, each in named if type(each.data) is not torch.Tensor}


def _quantized(model: Any) -> str:
    """What is not floating of a model's linear maps, its head among them, and parameters; empty if all is."""
    faults = [f"{each.path} {each.fault}" for each in maps_of(model, "", quantization(model)) if each.fault]
    faults += [
        f"{name} has {str(parameter.dtype).removeprefix('torch.')} values"
        for name, parameter in model.named_parameters()
        if not parameter.is_floating_point() or parameter.itemsize == 1
    ]
    return faults[0] if faults else ""


def forget(model: Any) -> None:
    """Take what tells of a quantization from a model and its configuration: it is a plain model, and saved as one.

    What transformers did to its weights as it loaded them is forgotten too, as transformers does itself of GGUF files:
    it would be undone as they are saved, and FP8 weights be quantized again. They are saved as a model's are that was
    never loaded.
    """
    model.hf_quantizer = None
    model._weight_conversions = None
    for part in (model.config, model.config.get_text_config(decoder=True)):
        if getattr(part, "quantization_config", None) is not None:
            del part.quantization_config
