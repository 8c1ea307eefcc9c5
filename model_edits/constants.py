"""Tensors of published files that are no weights: what older versions of transformers saved of a model's constants."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from safetensors import safe_open

from .lazy import torch, transformers

MASKED = -1e4
"""What attention adds where a token may not look, at most, in the files of older versions."""


def without_constants(names: Iterable[str], model: Any, pretrained: str, revision: str | None = None) -> list[str]:
    """The names, in order, of those tensors of a model's files that are no constants.

    A constant is a buffer of the model's own, saved or not, such as a table of positions; frequencies of a rotary
    embedding; a causal mask, [1, 1, n, n] with ones in its lower triangle; a single number that masks, such as -1e9.
    The first two are told by their names, the others by their values in the files.

    Args:
        names: of tensors that the model has no place for.
        model: the model.
        pretrained: the folder or hub id that it was loaded from.
        revision: of the hub's repository.
    """
    prefix = f"{model.base_model_prefix}."
    buffers = {name.removeprefix(prefix) for name, _ in model.named_buffers()}
    left = sorted(name for name in names if not _is_buffer(name.removeprefix(prefix), buffers))
    if not left:
        return []
    values = _values(left, pretrained, revision)
    return [name for name in left if name not in values or not _masks(values[name])]


def _is_buffer(name: str, buffers: Collection[str]) -> bool:
    """Whether the name is a buffer's; frequencies may have changed places."""
    frequencies = ".inv_freq"
    moved = name.endswith(frequencies) and any(f".{buffer}".endswith(frequencies) for buffer in buffers)
    return moved or name in buffers


def _masks(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a causal mask, or the number that stands for what is masked."""
    if tensor.ndim == 0:
        return bool(tensor <= MASKED)
    square = tensor.ndim == 4 and tensor.shape[:3] == (1, 1, tensor.shape[3])
    return square and torch.equal(tensor[0, 0].float(), torch.ones(tensor.shape[2:]).tril())


def _values(names: Iterable[str], pretrained: str, revision: str | None) -> dict[str, torch.Tensor]:
    """The tensors of these names in the files that the model was loaded from; none of a file of another format."""
    folder = Path(pretrained)
    if not folder.is_dir():
        config = transformers.utils.cached_file(pretrained, "config.json", revision=revision, local_files_only=True)
        folder = Path(config).parent
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    wanted, found = set(names), {}
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as tensors:
                found.update({name: tensors.get_tensor(name) for name in wanted & set(tensors.keys())})
        else:
            whole = transformers.modeling_utils.load_state_dict(file)
            found.update({name: whole[name] for name in wanted & whole.keys()})
    return found
