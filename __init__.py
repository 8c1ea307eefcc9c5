"""memsplit: did this weight edit remove verbatim memorization and leave reasoning alone?

Names are imported when they are first used, so that ``import memsplit`` itself costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import MemsplitError, UserError
    from .harness.api import board, compare, edited, evaluate, records
    from .harness.evaluation.runner import Report
    from .model_edits.edit import CurvatureEdit, Edit, EditedWeight, MatrixEdit
    from .model_edits.registry import register_edit
    from .results.records.record import Record

    __version__: str

_MODULES = {
    ".errors": ("MemsplitError", "UserError"),
    ".harness.api": ("board", "compare", "edited", "evaluate", "records"),
    ".harness.evaluation.runner": ("Report",),
    ".model_edits.edit": ("CurvatureEdit", "Edit", "EditedWeight", "MatrixEdit"),
    ".model_edits.registry": ("register_edit",),
    ".results.records.record": ("Record",),
}
__all__ = [
    "CurvatureEdit",
    "Edit",
    "EditedWeight",
    "MatrixEdit",
    "MemsplitError",
    "Record",
    "Report",
    "UserError",
    "__version__",
    "board",
    "compare",
    "edited",
    "evaluate",
    "records",
    "register_edit",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("memsplit")
    else:
        module = next((module for module, names in _MODULES.items() if name in names), None)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported yet or not."""
    return __all__
