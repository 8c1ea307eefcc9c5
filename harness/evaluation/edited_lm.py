"""lm-eval's model ``memsplit``: a causal language model whose weights are edited when it is made.

lm-eval knows the name once this module is imported::

    lm_eval.simple_evaluate("memsplit", model_args="pretrained=olmo-tiny,edit=kfac-50", tasks=["lambada_openai"])

A spec with commas needs ``model_args`` as a dictionary.
"""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model

from ...errors import UserError
from ...model_edits.apply import put
from ...tasks import suite
from ..common import runtime
from ..lm.adapter import MemsplitLM
from ..models import loading, model_table
from .editing import ModelEditor


@register_model("memsplit")
class EditedLM(MemsplitLM):
    """A model under an edit, loaded by name.

    Args:
        pretrained: a name of the model table, a folder, a hub id, or a model that is loaded and will be changed.
        edit: an edit's spec.
        device: where to compute; by default CUDA if there is one, else the CPU.
        dtype: to compute in; the model table's by default.
        revision: branch, tag or commit of the hub's repository.
        trust_remote_code: run code that comes with the model.
        dequantize: dequantize its weights where they are quantized.
        batch_size: sequences a forward pass, or ``auto``.
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
        revision: str | None = None,
        trust_remote_code: bool = False,
        dequantize: bool = False,
        batch_size: int | str = 32,
        **options: Any,
    ) -> None:
        loaded = pretrained
        if isinstance(loaded, str):
            entry = model_table.resolve(
                loaded, revision=revision, trust_remote_code=trust_remote_code, dequantize=dequantize
            )
            loaded = loading.load(entry, device=runtime.device(device), dtype=dtype)
        editor = ModelEditor(loaded)
        before = loaded.canary.logits()
        prepared = editor.prepare(*editor.chain(edit))
        base = {name: loaded.model.get_parameter(name).data for name in prepared.weights}
        super().__init__(loaded, base=base, batch_size=batch_size, **options)
        if prepared.weights:
            put(loaded.model, prepared.weights)
            loaded.canary.check(prepared.spec, before)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """As of ``MemsplitLM``, once memsplit's items are known to fit (see :meth:`_check`)."""
        self._check(requests)
        return super().loglikelihood(requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """As of ``MemsplitLM``, once memsplit's items are known to fit (see :meth:`_check`)."""
        self._check(requests)
        return super().loglikelihood_rolling(requests, disable_tqdm)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """As of ``MemsplitLM``, once memsplit's items are known to fit (see :meth:`_check`)."""
        self._check(requests)
        return super().generate_until(requests, disable_tqdm)

    def _check(self, requests: list[Instance]) -> None:
        """Refuse memsplit's items that are longer than the context: lm-eval scores all items that it has.

        Items of other tasks are lm-eval's to cut.

        Raises:
            UserError: there are some; the message counts them.
        """
        ours = [each for each in requests if each.task_name in suite.own().tasks or "pack" in (each.doc or {})]
        long = {(each.task_name, each.doc_id) for each in ours if not self.fits(each)}
        if long:
            task = min(str(name) for name, _ in long)
            items = len({each.doc_id for each in ours if each.task_name == task})
            raise UserError(
                f"{sum(name == task for name, _ in long)} of {items} items of {task} are longer than the model's "
                f"context of {self.max_length} tokens: memsplit-eval leaves them out; or name others by --samples"
            )
