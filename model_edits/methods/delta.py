"""An edit that was exported before, as the weights that it changed (``memsplit export --delta``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..registry import Edit, Outcome, register_edit
from .checkpoint import checked_path

if TYPE_CHECKING:
    import torch

    from ..material import Material


@register_edit("delta")
@dataclass(frozen=True, kw_only=True)
class Delta(Edit):
    """Puts the weights of an exported edit in the place of the model's, which must be those that it was made from.

    Attributes:
        path: the exported folder, its file, or a hub id.
        revision: of the hub's repository.
    """

    summary = "an edit that memsplit export --delta wrote: a folder, a file, or a hub id"
    targeted = False

    path: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            object.__setattr__(self, "path", checked_path(self.path, "delta.safetensors"))

    def new_weights(self, model: torch.nn.Module, material: Material) -> Iterator[tuple[str, Outcome]]:
        """The weights in the file."""
        from huggingface_hub import hf_hub_download

        from .. import delta_file
        from ..pretrained import fetch

        file = Path(self.path)
        if not file.exists():
            name = delta_file.NAME
            file = Path(fetch(self.path, "delta", lambda: hf_hub_download(self.path, name, revision=self.revision)))
        elif file.is_dir():
            file = file / delta_file.NAME
        for name, weight in delta_file.read(file, model).items():
            old = model.get_parameter(name).detach()
            new = weight.to(old.device)
            kept = int((new == old).sum())
            yield name, Outcome(weight=new, kept=kept, total=old.numel())
