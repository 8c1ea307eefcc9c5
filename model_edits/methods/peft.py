"""An adapter of the library ``peft`` (LoRA and its kin), merged."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ..registry import Edit, Outcome, register_edit
from .checkpoint import checked_path, replaced

if TYPE_CHECKING:
    import torch

    from ..material import Material


@register_edit("peft")
@dataclass(frozen=True, kw_only=True)
class PEFT(Edit):
    """Merges an adapter into the weights that it adapts.

    Attributes:
        path: a folder or hub id.
        revision: of the hub's repository.
    """

    summary = "an adapter of the peft library, merged: a folder or hub id"
    source = "Hu et al., arXiv 2106.09685"
    targeted = False

    path: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if importlib.util.find_spec("peft") is None:
            raise UserError("the edit 'peft' needs the package peft: pip install 'memsplit[peft]'")
        object.__setattr__(self, "path", checked_path(self.path, "adapter_config.json", "adapter_model.*"))

    def new_weights(self, model: torch.nn.Module, material: Material) -> Iterator[tuple[str, Outcome]]:
        """Every parameter, most of them as they are; a copy of the model is merged into."""
        import copy

        from peft import PeftModel

        from ..pretrained import fetch

        where: dict[str, Any] = {"revision": self.revision} if self.revision else {}

        def load() -> Any:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                adapted = PeftModel.from_pretrained(copy.deepcopy(model), self.path, **where)
            missing = [str(w.message) for w in caught if "missing adapter keys" in str(w.message)]
            if missing:
                raise ValueError(f"it is not whole, or of another model: {missing[0][:200]}")
            return adapted.merge_and_unload()

        return replaced(model, dict(fetch(self.path, "adapter", load).named_parameters()), self.path)
