"""Factors against autodiff, position by position, in float64; their independence of the batch; their store."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from memsplit.errors import UserError
from memsplit.model_edits.curvature.collect import collect, collect_ekfac, collect_input_squares, sample_labels
from memsplit.model_edits.curvature.factors import Factors
from memsplit.model_edits.curvature.store import FactorStore
from memsplit.model_edits.curvature.sums import SPLIT_FROM, Sums
from memsplit.model_edits.targets import Target

VOCABULARY, WIDTH = 11, 6


class Small(torch.nn.Module):
    """Three layers and a head; positions do not mix, so that each position's gradient is its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.first = torch.nn.Linear(WIDTH, WIDTH)
        self.second = torch.nn.Linear(WIDTH, WIDTH + 2, bias=False)
        self.head = torch.nn.Linear(WIDTH + 2, VOCABULARY)

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(self.second(self.first(self.embed(input_ids)).tanh()).tanh()))


@pytest.fixture
def model() -> Small:
    torch.manual_seed(0)
    return Small().double()


TARGETS = [Target(name=m, layer=0, proj="up", transposed=False) for m in ("first", "second")]


def oracle(model: Small, ids: torch.Tensor, labels: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Each position's input and gradient by one backward pass of its own."""
    moments = {}
    for target in TARGETS:
        module = model.get_submodule(target.name)
        aaT, ggT, n = torch.tensor(0), torch.tensor(0), 0
        for row, gold in zip(ids, labels, strict=True):
            for token, label in zip(row[:-1], gold, strict=True):
                kept: dict[str, torch.Tensor] = {}
                hook = module.register_forward_hook(lambda m, i, o, kept=kept: kept.update(a=i[0], g=o))
                loss = cross_entropy(model(token[None, None]).logits[0], label[None])
                hook.remove()
                (g,) = torch.autograd.grad(loss, kept["g"])
                aaT, ggT, n = aaT + kept["a"][0].T @ kept["a"][0], ggT + g[0].T @ g[0], n + 1
        moments[target.name] = (aaT / n, ggT / n)
    return moments


@pytest.mark.parametrize("labels", ["gold", "sampled"])
def test_factors_equal_autodiff(model: Small, labels: str) -> None:
    ids = torch.randint(VOCABULARY, (5, 7))
    batches = ids.split(2)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    found = collect(model, TARGETS, batches, labels=labels, seed=3)
    if labels == "gold":
        used = ids[:, 1:]
    else:
        p = model(ids).logits[:, :-1].float().softmax(-1)
        used = torch.stack([sample_labels(row, 3, i) for i, row in enumerate(p)])
    for module, (aaT, ggT) in oracle(model, ids, used).items():
        assert found[module].tokens == 5 * 6
        torch.testing.assert_close(found[module].aaT.double(), aaT, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(found[module].ggT.double(), ggT, rtol=1e-5, atol=1e-7)


def test_ekfac_equals_autodiff(model: Small) -> None:
    """Each position's gradient of the whole weight, by autodiff, turned into the basis and squared."""
    ids = torch.randint(VOCABULARY, (4, 6))
    batches = [ids[:3], ids[3:]]
    factors = collect(model, TARGETS, batches, labels="gold")
    found = collect_ekfac(model, TARGETS, factors, batches, labels="gold")
    for target in TARGETS:
        basis = factors[target.name].eigenbasis
        U, V = basis.U_oo.double(), basis.V_ii.double()
        weight = model.get_parameter(target.parameter)
        squares, n = torch.zeros_like(weight), 0
        for row in ids:
            for token, label in itertools.pairwise(row):
                loss = cross_entropy(model(token[None, None]).logits[0], label[None])
                (gradient,) = torch.autograd.grad(loss, weight)
                squares, n = squares + (U.T @ gradient @ V).square(), n + 1
        torch.testing.assert_close(found[target.name].fisher_oi.double(), squares / n, rtol=1e-4, atol=1e-8)


def test_input_squares_equal_the_inputs_own(model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against each position's input by itself; no gradient is computed."""
    monkeypatch.setattr(torch.Tensor, "backward", None)
    ids = torch.randint(VOCABULARY, (5, 7))
    found = collect_input_squares(model, TARGETS, [ids[:2], ids[2:]])
    for name, (aaT, _) in oracle(model, ids, ids[:, 1:]).items():
        assert found[name].tokens == 5 * 6
        torch.testing.assert_close(found[name].aaT_diag.double(), aaT.diagonal(), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="'ggT' was not collected, only aaT_diag"):
        _ = found["first"].ggT


def test_factors_do_not_depend_on_the_batch(model: Small) -> None:
    ids = torch.randint(VOCABULARY, (6, 5))
    one, six = (
        collect(model, TARGETS, ids.split(size))["first"]  # type: ignore[no-untyped-call]  # torch leaves it untyped
        for size in (1, 6)
    )
    torch.testing.assert_close(one.ggT, six.ggT, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(one.aaT, six.aaT, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("width", [5, SPLIT_FROM - 1, SPLIT_FROM, SPLIT_FROM + 3])
def test_symmetric_sums_are_whole(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    gg = Sums(lambda a, g: {"gg": (g, g)}, {"gg": (width, width)}, torch.device("cpu"), symmetric=True)
    ag = Sums(lambda a, g: {"ag": (a, g)}, {"ag": (2, width)}, torch.device("cpu"), symmetric=False)
    batches = [(torch.randn(n, 2, generator=generator), torch.randn(n, width, generator=generator)) for n in (3, 9)]
    for batch in batches:
        for sums in (gg, ag):
            sums.add(*batch)
            sums.fold()
    a, g = (torch.cat(parts).double() for parts in zip(*batches, strict=True))
    torch.testing.assert_close(gg.mean("gg").double(), g.T @ g / 12, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ag.mean("ag").double(), a.T @ g / 12, rtol=1e-4, atol=1e-5)


def test_collecting_leaves_the_model_as_it_was(model: Small) -> None:
    model.embed.weight.requires_grad_(False)
    collect(model, TARGETS, [torch.randint(VOCABULARY, (2, 5))])
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert all(p.grad is None for p in model.parameters())


def test_labels_are_drawn_from_the_models_distribution() -> None:
    p = torch.tensor([0.5, 0.0, 0.3, 0.2]).expand(20_000, 4)
    share = torch.bincount(sample_labels(p, 0, 0), minlength=4) / 20_000
    torch.testing.assert_close(share, p[0], atol=0.015, rtol=0)
    assert share[1] == 0


def test_store_returns_what_was_saved_and_refuses_what_is_damaged(tmp_path: Path) -> None:
    store = FactorStore(tmp_path / "new")
    factors = Factors({"aaT": torch.eye(3), "ggT": 2 * torch.eye(2)}, 9)
    arguments: dict[str, str | int] = {"weights": "w", "tokens": 9}
    path = store.save(arguments, "m", factors)
    again = store.load(arguments, "m")
    assert torch.equal(again.aaT, factors.aaT)
    assert torch.equal(again.ggT, factors.ggT)
    assert again.tokens == 9
    assert not store.has({**arguments, "tokens": 10}, "m")
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:20], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            store.load(arguments, "m")
    other = store.path({**arguments, "tokens": 10}, "m")
    other.parent.mkdir()
    other.write_bytes(whole)
    with pytest.raises(UserError, match="expected"):
        store.load({**arguments, "tokens": 10}, "m")
