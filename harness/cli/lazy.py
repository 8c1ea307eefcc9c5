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
    from rich import console as console

    from ...model_edits.curvature import factors as factors
    from ...model_edits.curvature import reference as reference
    from ...model_edits.curvature import store as store
    from ...model_edits.curvature import sums as sums
    from ...results.board import formats as formats
    from ...results.board import page as page
    from ...results.board import ranking as ranking
    from ...results.gate import judge as judge
    from ...results.gate import reports as reports
    from ...results.gate import verdict as verdict
    from ...results.statistics import band_strength as band_strength
    from ...results.statistics import compare as compare
    from ...results.statistics import paired as paired
    from ...results.statistics import selection as selection
    from ...results.views import terminal as terminal
    from ..evaluation import editing as editing
    from ..evaluation import estimate as estimate
    from ..evaluation import runner as runner
    from ..mining import mine as mine
    from ..models import loading as loading
    from ..organism import artifacts as artifacts
    from ..organism import train as train
    from ..publishing import export as export
    from ..publishing import publish as publish
    from ..spectrum import measure as measure
    from ..spectrum import report as report
    from ..sweep import optuna_search as optuna_search
    from ..sweep import ray_workers as ray_workers
    from ..sweep import sweep as sweep
    from ..sweep import workers as workers
else:
    MODULES = {
        "factors": "...model_edits.curvature.factors",
        "reference": "...model_edits.curvature.reference",
        "store": "...model_edits.curvature.store",
        "sums": "...model_edits.curvature.sums",
        "formats": "...results.board.formats",
        "page": "...results.board.page",
        "ranking": "...results.board.ranking",
        "reports": "...results.gate.reports",
        "judge": "...results.gate.judge",
        "verdict": "...results.gate.verdict",
        "band_strength": "...results.statistics.band_strength",
        "compare": "...results.statistics.compare",
        "paired": "...results.statistics.paired",
        "selection": "...results.statistics.selection",
        "terminal": "...results.views.terminal",
        "editing": "..evaluation.editing",
        "estimate": "..evaluation.estimate",
        "runner": "..evaluation.runner",
        "mine": "..mining.mine",
        "loading": "..models.loading",
        "artifacts": "..organism.artifacts",
        "train": "..organism.train",
        "export": "..publishing.export",
        "publish": "..publishing.publish",
        "measure": "..spectrum.measure",
        "report": "..spectrum.report",
        "optuna_search": "..sweep.optuna_search",
        "ray_workers": "..sweep.ray_workers",
        "sweep": "..sweep.sweep",
        "workers": "..sweep.workers",
        "console": "rich.console",
    }

    def __getattr__(name: str) -> ModuleType:
        """Import a module of :data:`MODULES` by its name here."""
        if name not in MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return importlib.import_module(MODULES[name], __package__)
