"""An edit that was exported before, as the weights that it changed (``memsplit export --delta``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .. import delta_file
from ..inputs import EditInputs
from ..lazy import huggingface_hub, torch
from ..pretrained import fetch
from ..registry import Edit, EditedWeight, register_edit
from .checkpoint import checked_path


@register_edit("delta")
@dataclass(frozen=True, kw_only=True)
class Delta(Edit):
    """Replaces weights of the model by those of an exported edit, which must have been made from the same weights.

    Attributes:
        path: the exported folder, its file, or a hub id.
        revision: branch, tag or commit of the hub's repository.
    """

    summary = "an edit that memsplit export --delta wrote: a folder, a file, or a hub id"
    targeted = False

    path: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            object.__setattr__(self, "path", checked_path(self.path, "delta.safetensors"))

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """The weights in the file."""
        file = Path(self.path)
        if not file.exists():
            download = partial(huggingface_hub.hf_hub_download, self.path, delta_file.NAME, revision=self.revision)
            file = Path(fetch(self.path, "delta", download))
        elif file.is_dir():
            file = file / delta_file.NAME
        for name, weight in delta_file.read(file, model).items():
            old = model.get_parameter(name).detach()
            new = weight.to(old.device)
            kept = int((new == old).sum())
            yield name, EditedWeight(weight=new, kept=kept, total=old.numel())
