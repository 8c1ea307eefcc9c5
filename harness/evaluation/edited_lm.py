"""lm-eval's model ``memsplit``: a causal language model whose weights are edited when it is made.

lm-eval knows the name once this module is imported::

    lm_eval.simple_evaluate("memsplit", model_args="pretrained=olmo-tiny,edit=kfac-50", tasks=["lambada_openai"])

A spec with commas needs ``model_args`` as a dictionary.
"""

from __future__ import annotations

from typing import Any

from lm_eval.api.registry import register_model

from ...model_edits.apply import put
from ..common import runtime
from ..lm.adapter import MemsplitLM
from ..models import loading, model_table
from .canary import Canary
from .editing import ModelEditor


@register_model("memsplit")
class EditedLM(MemsplitLM):
    """A model under an edit, loaded by name.

    Args:
        pretrained: a name of the model table, a folder, a hub id, or a model that is loaded and will be changed.
        edit: an edit's spec.
        device: where to compute; by default CUDA if there is one, else the CPU.
        dtype: to compute in; the model table's by default.
        batch_size: sequences a forward pass.
        options: of ``HFLM``.

    Raises:
        UserError: the model cannot be loaded, or the edit cannot be made.
    """

    def __init__(
        self,
        pretrained: str | loading.LoadedModel = "olmo-tiny",
        edit: str = "none",
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | str = 32,
        **options: Any,
    ) -> None:
        loaded = pretrained
        if isinstance(loaded, str):
            loaded = loading.load(model_table.resolve(loaded), device=runtime.device(device), dtype=dtype)
        editor = ModelEditor(loaded)
        canary = Canary(loaded.model, loaded.entry.name)
        prepared = editor.prepare(*editor.chain(edit))
        base = {name: loaded.model.get_parameter(name).data for name in prepared.weights}
        super().__init__(loaded, base=base, batch_size=batch_size, **options)
        if prepared.weights:
            put(loaded.model, prepared.weights)
            canary.check(prepared.spec)
