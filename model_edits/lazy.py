"""Heavy packages, each imported when an attribute of it is first used.

Listings and the parsing of specs import the modules of ``methods`` for the fields and summaries of their classes, and
must answer without the seconds that importing torch takes. So the methods, and the modules of this package that they
import, take torch and its like from here: ``from ..lazy import torch``. A type checker sees the packages themselves.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import huggingface_hub as huggingface_hub
    import safetensors.torch as safetensors_torch
    import torch as torch
    import transformers as transformers

    __all__ = ["huggingface_hub", "safetensors_torch", "torch", "transformers"]
else:

    class LazyModule:
        """Stands for a module, which is imported when an attribute of it is first used."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    huggingface_hub = LazyModule("huggingface_hub")
    safetensors_torch = LazyModule("safetensors.torch")
    torch = LazyModule("torch")
    transformers = LazyModule("transformers")
