"""Spectra as steep as a trained model's, at any size: those of olmo-tiny, stretched over the relative rank."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from memsplit.harness.evaluation import editing
from memsplit.harness.models import loading, model_table
from memsplit.model_edits.curvature.store import FactorStore


def trained(rows: int, columns: int, tokens: int = 40_960) -> tuple[torch.Tensor, torch.Tensor]:
    """Falling eigenvalues of ggT [rows] and aaT [columns] of layer 3's up projection, interpolated in the logarithm."""
    loaded = loading.load(model_table.resolve("olmo-tiny"), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        editor = editing.ModelEditor(loaded, tokens, FactorStore(Path(folder)))
        (edit,) = editor.chain("kfac-50:layers=3,proj=up")
        editor.collect_missing([edit])
        (target,) = editor.matrices(edit)
        curvature = editor.curvature
        basis = curvature.read(curvature.arguments(edit), [target])[target.name].eigenbasis
    return _stretched(basis.lam_o, rows), _stretched(basis.mu_i, columns)


def _stretched(values: torch.Tensor, n: int) -> torch.Tensor:
    known = values.double().clamp(min=values.max() * 1e-12).log().numpy()
    where = np.linspace(0, len(known) - 1, n)
    return torch.from_numpy(np.exp(np.interp(where, np.arange(len(known)), known)))
