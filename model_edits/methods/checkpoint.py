"""Any other weights of the same architecture: a fine-tune, an earlier step, somebody's unlearned model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..inputs import EditInputs
from ..lazy import torch
from ..pretrained import load_model
from ..registry import Edit, EditedWeight, register_edit

ASIDE = {
    *("architectures", "dtype", "torch_dtype", "transformers_version", "use_cache", "quantization_config"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings", "id2label", "label2id"),
}
"""Keys of a config that do not change the function that the weights compute."""


@register_edit("checkpoint")
@dataclass(frozen=True, kw_only=True)
class Checkpoint(Edit):
    """Replaces every weight of the model by that of another checkpoint.

    Attributes:
        path: a folder or hub id.
        revision: branch, tag or commit of the hub's repository.
    """

    summary = "the weights of another checkpoint of the same architecture: a folder or hub id"
    targeted = False

    path: str
    revision: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", checked_path(self.path, "config.json"))

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """Every parameter."""
        where = {"revision": self.revision} if self.revision else {}
        other = load_model(self.path, "checkpoint", dtype=next(model.parameters()).dtype, **where)
        models: tuple[Any, Any] = (model, other)
        own, its = (_computing(m.config.to_dict()) for m in models)
        for key in sorted(own.keys() | its.keys(), key=lambda key: (isinstance(own.get(key), list | dict), key)):
            if own.get(key) != its.get(key):
                raise UserError(
                    f"{self.path!r} is of another architecture: {key} is {its.get(key)}, not {own.get(key)}"
                )
        return replaced(model, dict(other.named_parameters()), self.path)


def _computing(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys and values of a config that determine the function that the weights compute."""
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in ASIDE}


def checked_path(path: str, *files: str) -> str:
    """The path, with ``~`` expanded, if it is a folder or may be a hub id. Nothing is loaded.

    Args:
        path: a folder or hub id.
        files: patterns of files, of each of which the folder must hold at least one.

    Raises:
        UserError: the path is neither, or the folder lacks a file.
    """
    path = str(Path(path).expanduser()) if path.startswith("~") else path
    here = Path(path)
    if here.is_dir():
        for pattern in files:
            if not any(here.glob(pattern)):
                raise UserError(f"bad path {path!r}: it holds no {pattern}")
    elif here.exists() or here.parent.is_dir() or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path):
        near = difflib.get_close_matches(here.name, [p.name for p in here.parent.glob("*") if p.is_dir()], n=1)
        hint = f"; did you mean {str(here.with_name(near[0]))!r}?" if near else ""
        raise UserError(f"bad path {path!r}: expected a folder that is there, or a hub id OWNER/NAME{hint}")
    return path


def replaced(
    model: torch.nn.Module, other: Mapping[str, torch.Tensor], path: str
) -> Iterator[tuple[str, EditedWeight]]:
    """The parameters of ``other`` in place of the model's; weights that are equal count as kept.

    Raises:
        UserError: a name or shape differs.
    """
    own = dict(model.named_parameters())
    for name in sorted(own.keys() ^ other.keys()):
        whose = "the model" if name in own else repr(path)
        raise UserError(f"{path!r} is of another architecture: only {whose} has {name}")
    for name, weight in own.items():
        new = other[name].detach().to(weight.device)
        if new.shape != weight.shape:
            found, expected = tuple(new.shape), tuple(weight.shape)
            raise UserError(f"{path!r} is of another architecture: {name} is {found}, expected {expected}")
        kept = int((new == weight).sum())
        yield name, EditedWeight(weight=new, kept=kept, total=weight.numel())
