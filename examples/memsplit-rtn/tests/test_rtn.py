"""Run with ``pytest`` where the package is installed."""

import torch

from memsplit.model_edits import registry
from memsplit.model_edits.spec import parse


def test_weights_are_on_few_levels() -> None:
    edit = registry.build(parse("rtn:bits=3"))
    assert isinstance(edit, registry.MatrixEdit)
    weight = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    rounded = edit.new_weight(weight, "m").weight
    assert all(len(row.unique()) <= 7 for row in rounded)
    assert torch.equal(edit.new_weight(rounded, "m").weight.round(decimals=5), rounded.round(decimals=5))
