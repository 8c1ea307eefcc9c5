"""`wanda` against the lines of the authors' code that choose what is removed."""

import pytest
import torch

from memsplit.model_edits.curvature.factors import Factors
from memsplit.model_edits.registry import CurvatureEdit, build
from memsplit.model_edits.spec import parse


def authors(weight: torch.Tensor, scaler_row: torch.Tensor, sparsity: float) -> torch.Tensor:
    """As ``lib/prune.py`` of locuslab/wanda does for unstructured sparsity, one matrix at a time."""
    metric = weight.abs() * scaler_row.sqrt().reshape(1, -1)
    mask = torch.zeros_like(metric, dtype=torch.bool)
    indices = torch.sort(metric, dim=-1, stable=True)[1][:, : int(metric.shape[1] * sparsity)]
    mask.scatter_(1, indices, True)
    return weight.masked_fill(mask, 0)


@pytest.mark.parametrize(("percent", "sparsity"), [(10, 0.9), (30, 0.7), (50, 0.5), (71, 0.29), (0, 1.0), (100, 0.0)])
@pytest.mark.parametrize("width", [192, 100, 7])
def test_wanda_removes_what_the_authors_code_does(percent: float, sparsity: float, width: int) -> None:
    """Where the number is no whole one, and where weights tie."""
    generator = torch.Generator().manual_seed(width)
    weight = torch.randint(-3, 4, (6, width), generator=generator).float()
    squares = torch.rand(width, generator=generator).round(decimals=1)
    edit = build(parse(f"wanda-{percent}"))
    assert isinstance(edit, CurvatureEdit)
    found = edit.new_weight(weight, Factors({"aaT_diag": squares}, 1), "m")
    assert torch.equal(found.weight, authors(weight, squares, sparsity))
    if (percent, width) == (10, 192):
        assert found.kept == 6 * 20
