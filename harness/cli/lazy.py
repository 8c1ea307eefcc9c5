"""The modules that commands compute with: each is imported when a command first uses it.

They import torch, transformers, lm_eval, pandas or rich, which takes seconds. A command uses them as attributes of this
module (``lazy.runner.run(request)``), so that help, listings and refusals answer without them. Everything else is
imported at the top of its file.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich import console

    from ...model_edits.curvature import factors, reference, store, sums
    from ...results.board import formats, page, ranking
    from ...results.gate import judge, reports, verdict
    from ...results.statistics import band_strength, compare, migrate, paired, selection
    from ...results.views import terminal
    from ..evaluation import editing, estimate, runner
    from ..mining import mine
    from ..models import loading, pack_import
    from ..organism import artifacts, train
    from ..planting import plant
    from ..publishing import export, publish
    from ..spectrum import measure, report
    from ..sweep import optuna_search, ray_workers, sweep, workers
else:
    PACKAGES = {
        "...model_edits.curvature": ("factors", "reference", "store", "sums"),
        "...results.board": ("formats", "page", "ranking"),
        "...results.gate": ("judge", "reports", "verdict"),
        "...results.statistics": ("band_strength", "compare", "migrate", "paired", "selection"),
        "...results.views": ("terminal",),
        "..evaluation": ("editing", "estimate", "runner"),
        "..mining": ("mine",),
        "..models": ("loading", "pack_import"),
        "..organism": ("artifacts", "train"),
        "..planting": ("plant",),
        "..publishing": ("export", "publish"),
        "..spectrum": ("measure", "report"),
        "..sweep": ("optuna_search", "ray_workers", "sweep", "workers"),
        "rich": ("console",),
    }
    MODULES = {name: f"{package}.{name}" for package, names in PACKAGES.items() for name in names}

    def __getattr__(name: str) -> ModuleType:
        """Import a module of :data:`MODULES` by its name here."""
        if name not in MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return importlib.import_module(MODULES[name], __package__)
