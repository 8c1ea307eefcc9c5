"""Shared: the organism loaded once, its curvature collected once from a small sample."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

from memsplit.harness.evaluation import editing
from memsplit.harness.models import loading, model_table
from memsplit.model_edits.curvature.store import FactorStore
from memsplit.tests.support import browsing

SMALL = 8 * 128
hypothesis.settings.register_profile("any machine", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def organism() -> loading.LoadedModel:
    return loading.load(model_table.resolve("olmo-tiny"), device="cpu")


@pytest.fixture(scope="session")
def editor(organism: loading.LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> editing.ModelEditor:
    return editing.ModelEditor(organism, SMALL, FactorStore(tmp_path_factory.mktemp("factors")))


@pytest.fixture
def untouched(organism: loading.LoadedModel) -> Iterator[None]:
    """Fails the test that leaves the shared model changed."""
    before = {name: p.data_ptr() for name, p in organism.model.named_parameters()}
    copy = {name: p.detach().clone() for name, p in organism.model.named_parameters()}
    yield
    for name, p in organism.model.named_parameters():
        assert p.data_ptr() == before[name]
        assert torch.equal(p, copy[name])


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsing.started() as found:
        yield found
