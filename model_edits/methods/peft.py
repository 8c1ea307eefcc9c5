"""An adapter of the library ``peft`` (LoRA and similar methods), merged.

Source of LoRA: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import UserError
from ..inputs import EditInputs
from ..lazy import torch
from ..pretrained import fetch
from ..registry import Edit, EditedWeight, register_edit
from .checkpoint import checked_path, replaced


@register_edit("peft")
@dataclass(frozen=True, kw_only=True)
class PEFT(Edit):
    """Merges an adapter into the weights that it adapts.

    Attributes:
        path: a folder or hub id.
        revision: branch, tag or commit of the hub's repository.
    """

    summary = "an adapter of the peft library, merged: a folder or hub id"
    source = "Hu et al., arXiv 2106.09685"
    version = 2
    targeted = False

    path: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if importlib.util.find_spec("peft") is None:
            raise UserError("the edit 'peft' needs the package peft: pip install 'memsplit[peft]'")
        object.__setattr__(self, "path", checked_path(self.path, "adapter_config.json", "adapter_model.*"))

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """Every parameter, most of them unchanged. The adapter is merged into a copy of the model.

        In the copy no module shares its weight with another: while an adapter is trained, what it adds to an output
        head that is the embeddings is added to the head alone.
        """
        from peft import PeftModel  # optional: the extra memsplit[peft]

        from ..apply import other_names, put  # which imports torch

        where: dict[str, Any] = {"revision": self.revision} if self.revision else {}

        def load() -> Any:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                copied = copy.deepcopy(model)
                put(copied, {name: copied.get_parameter(name).detach().clone() for name in other_names(copied)})
                adapted = PeftModel.from_pretrained(copied, self.path, **where)
                missing = [str(w.message) for w in caught if "missing adapter keys" in str(w.message)]
                if missing:
                    raise ValueError(f"it is not whole, or of another model: {missing[0][:200]}")
                return adapted.merge_and_unload()

        merged = fetch(self.path, "adapter", load)
        return replaced(model, dict(merged.named_parameters(remove_duplicate=False)), self.path)
