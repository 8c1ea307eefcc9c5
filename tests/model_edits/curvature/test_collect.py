"""Factors against autodiff, position by position, in float64; their independence of the batch; their store."""

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from memsplit.errors import UserError
from memsplit.model_edits.curvature.collect import FOLD, collect, collect_ekfac, collect_input_squares
from memsplit.model_edits.curvature.factors import Factors
from memsplit.model_edits.curvature.labels import Draws, sample_labels
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
    found = collect(model, TARGETS, batches, draws=Draws(labels=labels, seed=3))
    if labels == "gold":
        used = ids[:, 1:]
    else:
        p = model(ids).logits[:, :-1].float().softmax(-1)
        used = torch.stack([sample_labels(row, 3, i)[0] for i, row in enumerate(p)])
    for module, (aaT, ggT) in oracle(model, ids, used).items():
        assert found[module].tokens == 5 * 6
        torch.testing.assert_close(found[module].aaT.double(), aaT, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(found[module].ggT.double(), ggT, rtol=1e-5, atol=1e-7)


def test_ekfac_equals_autodiff(model: Small) -> None:
    """Each position's gradient of the whole weight, by autodiff, turned into the basis and squared."""
    ids = torch.randint(VOCABULARY, (4, 6))
    batches = [ids[:3], ids[3:]]
    factors = collect(model, TARGETS, batches, draws=Draws(labels="gold"))
    found = collect_ekfac(model, TARGETS, factors, batches, draws=Draws(labels="gold"))
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
            sums.fold(0)
    a, g = (torch.cat(parts).double() for parts in zip(*batches, strict=True))
    torch.testing.assert_close(gg.mean("gg").double(), g.T @ g / 12, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ag.mean("ag").double(), a.T @ g / 12, rtol=1e-4, atol=1e-5)


def test_eigenvectors_do_not_hang_on_last_bits() -> None:
    """Those of float32 moments, whose eigenvalues span six orders, are those that float64 finds, tail and all."""
    generator = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64))[0]
    S = (Q * torch.logspace(0, -6, 60, dtype=torch.float64) @ Q.T).float()
    basis = Factors({"aaT": (S + S.T) / 2, "ggT": torch.eye(2)}, 1).eigenbasis
    assert basis.V_ii.dtype == basis.mu_i.dtype == torch.float32
    _, expected = torch.linalg.eigh((S.double() + S.double().T) / 2)
    aligned = (basis.V_ii.double() * expected.flip(1)).sum(0).abs()
    assert float(aligned.min()) > 1 - 1e-6


def test_collecting_leaves_the_model_as_it_was(model: Small) -> None:
    model.embed.weight.requires_grad_(False)
    collect(model, TARGETS, [torch.randint(VOCABULARY, (2, 5))])
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("draws", [1, 3])
def test_labels_are_drawn_from_the_models_distribution(draws: int) -> None:
    """Each of several labels is, and each pair's order is by chance."""
    p = torch.tensor([0.5, 0.0, 0.3, 0.2]).expand(20_000, 4)
    for label in (labels := sample_labels(p, 0, 0, draws)):
        share = torch.bincount(label, minlength=4) / 20_000
        torch.testing.assert_close(share, p[0], atol=0.015, rtol=0)
        assert share[1] == 0
    if draws > 1:
        assert float((labels[0] < labels[1]).float().mean()) == pytest.approx(
            float((labels[0] > labels[1]).float().mean()), abs=0.015
        )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda p: sum(p) > 0.1), st.integers(1, 9))
def test_labels_of_a_position_are_spread_as_its_distribution(weights: list[float], draws: int) -> None:
    """Of the first tokens together, strata give the expected number of labels, to less than 1."""
    p = torch.tensor(weights, dtype=torch.float64).expand(20, len(weights)) / sum(weights)
    labels = sample_labels(p, 0, 0, draws)
    for token in range(len(weights)):
        found = (labels <= token).sum(0)
        expected = draws * p[:, : token + 1].sum(-1)
        assert bool(((found - expected).abs() < 1 + 1e-6).all())


def test_another_seed_or_sequence_is_another_draw() -> None:
    """All of a seed counts, its high bits too; the number of positions does not."""
    p = torch.full((40, 8), 1 / 8)
    keys = list(itertools.product((0, 1, 12345, 1 << 32, 10**18 - 1), (0, 1), (1, 2)))
    drawn = [sample_labels(p, *key)[0] for key in keys]
    for one, other in itertools.combinations(range(len(keys)), 2):
        assert not torch.equal(drawn[one], drawn[other]), (keys[one], keys[other])
    assert torch.equal(sample_labels(p, *keys[5])[0], drawn[5])
    assert torch.equal(sample_labels(p[:13], *keys[5])[0], drawn[5][:13])


def exact_fisher(model: Small, ids: torch.Tensor, name: str) -> torch.Tensor:
    """E[g gᵀ] with the expectation over every label, weighed by its probability."""
    total = torch.zeros(())
    for token in ids[:, :-1].flatten():
        kept: dict[str, torch.Tensor] = {}
        hook = model.get_submodule(name).register_forward_hook(lambda m, i, o, kept=kept: kept.update(g=o))
        log_p = model(token[None, None]).logits[0, 0].log_softmax(-1)
        hook.remove()
        for log_p_y in log_p:
            (g,) = torch.autograd.grad(log_p_y, kept["g"], retain_graph=True)
            total = total + float(log_p_y.detach().exp()) * g[0].T @ g[0]
    return total / ids[:, 1:].numel()


def test_many_draws_come_to_the_exact_fisher(model: Small) -> None:
    """From one label a position to 400; the inputs' moment is counted once."""
    ids = torch.randint(VOCABULARY, (3, 6))
    one, many = (collect(model, TARGETS, [ids], draws=Draws(draws=n)) for n in (1, 400))
    for name, factors in many.items():
        exact = exact_fisher(model, ids, name).float()
        off = [float((f.ggT - exact).norm() / exact.norm()) for f in (one[name], factors)]
        assert off[1] < 0.02 < 0.1 < off[0]
        assert torch.equal(factors.aaT, one[name].aaT)
        assert factors.tokens == one[name].tokens


def test_several_draws_are_averaged(model: Small) -> None:
    """Against autodiff of the cross-entropy of each of the three labels."""
    ids = torch.randint(VOCABULARY, (4, 5))
    draws = Draws(draws=3, seed=7)
    found = collect(model, TARGETS, ids.split(3), draws=draws)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    kfac = {name: dataclasses.replace(factors, imported="x") for name, factors in found.items()}
    ekfac = collect_ekfac(model, TARGETS, kfac, [ids], draws=draws)
    for target in TARGETS:
        kept: dict[str, torch.Tensor] = {}
        hook = model.get_submodule(target.name).register_forward_hook(
            lambda m, i, o, kept=kept: kept.update(a=i[0], g=o)
        )
        logits = model(ids[:, :-1]).logits
        hook.remove()
        a = kept["a"].flatten(0, 1)
        ggT, squares = torch.zeros(()), torch.zeros(())
        basis = found[target.name].eigenbasis
        p = logits.detach().softmax(-1)
        labels = torch.stack([sample_labels(row.float(), 7, i, 3) for i, row in enumerate(p)], 1)
        for label in labels:
            loss = cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="sum")
            (g,) = torch.autograd.grad(loss, kept["g"], retain_graph=True)
            g = g.flatten(0, 1)
            ggT = ggT + g.T @ g / 3
            squares = squares + (g @ basis.U_oo.double()).square().T @ (a @ basis.V_ii.double()).square() / 3
        torch.testing.assert_close(found[target.name].ggT.double(), ggT / len(a), rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(ekfac[target.name].fisher_oi.double(), squares / len(a), rtol=1e-3, atol=1e-7)
        assert ekfac[target.name].imported == "x"


def test_the_standard_error_of_a_sum_is_its_spread() -> None:
    """Over 300 collections of halves of 3 and 1 parts, the root mean square error that they tell is their own."""
    generator = torch.Generator().manual_seed(0)
    means, told = [], []
    for _ in range(300):
        sums = Sums(lambda a, g: {"ggT": (g, g)}, {"ggT": (4, 4)}, torch.device("cpu"), symmetric=True)
        for half in (0, 1, 0, 0):
            g = torch.randn(10, 4, generator=generator) * torch.tensor([2.0, 1, 1, 0.5])
            sums.add(g, g)
            sums.fold(half)
        error = sums.error("ggT")
        assert error is not None
        means.append(sums.mean("ggT"))
        told.append(error * float(means[-1].norm()))
    spread = (torch.stack(means) - torch.stack(means).mean(0)).square().sum((1, 2)).mean().sqrt()
    assert torch.tensor(told).square().mean().sqrt() == pytest.approx(float(spread), rel=0.1)


def test_an_error_is_told_where_there_are_two_halves(model: Small) -> None:
    ids = torch.randint(VOCABULARY, (2 * FOLD, 5))
    batches = ids.split(1)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert collect(model, TARGETS, batches[:FOLD])["first"].errors == {}
    errors = collect(model, TARGETS, batches)["first"].errors
    assert errors.keys() == {"aaT", "ggT"}
    assert all(0 < error < 2 for error in errors.values())
    twice = [*batches[:FOLD], *batches[:FOLD]]
    assert collect(model, TARGETS, twice, draws=Draws(labels="gold"))["first"].errors["ggT"] == pytest.approx(
        0, abs=1e-6
    )
    squares = collect_input_squares(model, TARGETS, batches)["first"]
    assert squares.errors.keys() == {"aaT_diag"}
    assert collect(model, TARGETS, batches)["first"].diagonal().errors == {}


def test_store_returns_what_was_saved_and_refuses_what_is_damaged(tmp_path: Path) -> None:
    store = FactorStore(tmp_path / "new")
    factors = Factors({"aaT": torch.eye(3), "ggT": 2 * torch.eye(2)}, 9, errors={"ggT": 0.25})
    arguments: dict[str, str | int] = {"weights": "w", "tokens": 9}
    path = store.save(arguments, "m", factors)
    again = store.load(arguments, "m")
    assert torch.equal(again.aaT, factors.aaT)
    assert torch.equal(again.ggT, factors.ggT)
    assert (again.tokens, again.errors) == (9, {"ggT": 0.25})
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
