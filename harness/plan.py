"""What a command would do, told from the model table, the files at hand and the cache; and its early checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import models

if TYPE_CHECKING:
    from .runner import Request


def check_edits(specs: Sequence[str], entry: models.ModelEntry) -> None:
    """Refuse bad specs before anything is loaded; layers too where the model's config lies in a folder.

    Raises:
        UserError: a spec is bad.
    """
    from ..model_edits import registry, spec, targets

    config = models.local_config(entry)
    n_layers = models.layer_count(config) if config else None
    for text in specs:
        edit = registry.build(spec.parse(text), entry.percent)
        if edit.layers and n_layers:
            targets.check_layers(edit.layers, n_layers)


def describe(request: Request) -> list[str]:
    """The lines of ``--dry-run``: tasks, edits with their defaults filled in, and which factors are cached."""
    from .editing import Workshop
    from .loading import load
    from .runner import choose_parts

    entry = models.resolve(request.model)
    parts, skipped = choose_parts(request, entry)
    loaded = load(entry, device=request.device, dtype=request.dtype)
    workshop = Workshop(loaded, request.factor_tokens)
    lines = [
        f"model: {request.model} ({loaded.model.num_parameters() / 1e6:.1f} M parameters, {loaded.model.dtype})",
        f"tasks: {', '.join(part.task for part in parts)}",
    ]
    if skipped:
        lines.append(f"not asked, for there is no pack: {', '.join(skipped)}")
    for text in request.edits:
        edit = workshop.edit(text)
        missing = workshop.missing_factors(edit)
        tokens = workshop.factor_tokens
        state = "needs no factors" if not edit.needs_factors else "factors cached"
        if missing:
            state = f"collects factors of {len(missing)} matrices from {tokens} tokens, {workshop.estimate_s():.0f} s"
        lines.append(f"edit: {edit.spec}: {state}")
    return lines
