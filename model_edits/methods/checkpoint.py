"""Any other weights of the same architecture: a fine-tune, an earlier step, somebody's unlearned model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError
from ..registry import Edit, Outcome, register_edit

if TYPE_CHECKING:
    import torch

    from ..material import Material


@register_edit("checkpoint")
@dataclass(frozen=True, kw_only=True)
class Checkpoint(Edit):
    """Puts every weight of another checkpoint in the place of the model's.

    Attributes:
        path: a folder or hub id.
        revision: of the hub's repository.
    """

    summary = "the weights of another checkpoint of the same architecture: a folder or hub id"
    targeted = False

    path: str
    revision: str | None = None

    def __post_init__(self) -> None:
        check_path(self.path)

    def new_weights(self, model: torch.nn.Module, material: Material) -> Iterator[tuple[str, Outcome]]:
        """Every parameter."""
        from transformers import AutoModelForCausalLM

        from ..pretrained import fetch

        where = {"revision": self.revision} if self.revision else {}
        dtype = next(model.parameters()).dtype
        other = fetch(
            self.path, "checkpoint", lambda: AutoModelForCausalLM.from_pretrained(self.path, dtype=dtype, **where)
        )
        return replaced(model, dict(other.named_parameters()), self.path)


def check_path(path: str) -> None:
    """Refuse what is neither there nor a hub's id, before anything is loaded.

    Raises:
        UserError: it is neither.
    """
    if not Path(path).exists() and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", path):
        raise UserError(f"bad path {path!r}: there is no such folder or file, and it is no hub id OWNER/NAME")


def replaced(model: torch.nn.Module, other: Mapping[str, torch.Tensor], path: str) -> Iterator[tuple[str, Outcome]]:
    """Outcomes that put ``other`` in the place of every parameter of the model; kept are the weights that are equal.

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
        yield name, Outcome(weight=new if new.element_size() > 4 else new.float(), kept=kept, total=weight.numel())
