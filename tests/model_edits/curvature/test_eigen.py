"""Leading eigenpairs against all of them, in float64; and selection from them against selection from all."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memsplit.model_edits import registry
from memsplit.model_edits.curvature import eigen
from memsplit.model_edits.curvature.eigen import leading_eigh
from memsplit.model_edits.curvature.factors import Factors
from memsplit.model_edits.selection import keep_products, leading_is_enough
from memsplit.model_edits.spec import parse

N, BLOCK, TOLERANCE = 480, 8, 5e-6
ORTHONORMAL = {torch.float32: 2e-5, torch.float64: 1e-12}
SPECTRA = {
    "steep": torch.logspace(0, -12, N),
    "power": torch.arange(1, N + 1) ** -1.3,
    "flat": torch.linspace(1, 0.5, N),
    "clusters": torch.tensor([4.0, 2.0, 1.0, 0.125]).repeat_interleave(N // 4),
    "multiple on top": torch.cat([torch.ones(30), torch.logspace(-1, -5, N - 30)]),
    "spike": torch.cat([torch.tensor([1e6]), torch.logspace(0, -3, N - 1)]),
    "low rank": torch.cat([torch.logspace(0, -2, 40), torch.zeros(N - 40)]),
    "identity": torch.ones(N),
}
dyadic = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 8.0]), min_size=1, max_size=8).map(
    lambda values: torch.tensor(sorted(values, reverse=True))
)


def matrix(values_n: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(values_n))
    Q_nn = torch.linalg.qr(torch.randn(len(values_n), len(values_n), generator=generator, dtype=torch.double)).Q
    S_nn = Q_nn * values_n.double() @ Q_nn.T
    symmetric_nn: torch.Tensor = (S_nn + S_nn.T) / 2
    return symmetric_nn.to(dtype)


def at_least(pairs: int) -> eigen.Enough:
    return lambda values: len(values) >= pairs


@pytest.fixture
def solved_in_full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The orders of all matrices solved in full from now on."""
    orders: list[int] = []
    original = eigen.all_eigh

    def all_eigh(S_nn: torch.Tensor) -> eigen.Eigenpairs:
        orders.append(len(S_nn))
        return original(S_nn)

    monkeypatch.setattr(eigen, "all_eigh", all_eigh)
    return orders


@pytest.mark.parametrize("dtype", ORTHONORMAL)
@pytest.mark.parametrize("name", SPECTRA)
def test_pairs_are_those_of_all(name: str, dtype: torch.dtype) -> None:
    S_nn = matrix(SPECTRA[name], dtype)
    values, U_nr = leading_eigh(S_nn, at_least(60), tolerance=TOLERANCE, block=BLOCK, smallest=0)
    expected = torch.linalg.eigvalsh(S_nn.double()).flip(0)
    largest = float(expected[0])
    assert values.dtype == U_nr.dtype == dtype
    assert len(values) >= 60
    assert (values.diff() <= 0).all()
    torch.testing.assert_close(values.double(), expected[: len(values)], rtol=0, atol=TOLERANCE * largest)
    U_nr = U_nr.double()
    assert (S_nn.double() @ U_nr - U_nr * values.double()).norm(dim=0).max() <= 1.1 * TOLERANCE * largest
    assert torch.linalg.matrix_norm(U_nr.T @ U_nr - torch.eye(len(values)), ord=2) <= ORTHONORMAL[dtype]


@pytest.mark.parametrize("name", ["steep", "power", "multiple on top", "low rank"])
def test_only_the_pairs_needed_are_computed(name: str, solved_in_full: list[int]) -> None:
    values, U_nr = leading_eigh(matrix(SPECTRA[name]), at_least(60), block=BLOCK, smallest=0)
    assert N not in solved_in_full
    assert len(values) == U_nr.shape[1] == 60


@pytest.mark.parametrize(
    ("name", "pairs", "smallest"),
    [("power", 60, N + 1), ("power", N // 2, 0), ("power", N + 1, 0), ("flat", 110, 0)],
)
def test_all_pairs_are_computed_where_fewer_would_not_pay(
    name: str, pairs: int, smallest: int, solved_in_full: list[int]
) -> None:
    values, U_nn = leading_eigh(matrix(SPECTRA[name]), at_least(pairs), block=BLOCK, smallest=smallest)
    assert solved_in_full[-1] == len(values) == U_nn.shape[1] == N


def test_a_matrix_of_nothing_has_values_of_nothing() -> None:
    values, U_nn = leading_eigh(torch.zeros(N, N), at_least(1), block=BLOCK, smallest=0)
    assert not values.any()
    torch.testing.assert_close(U_nn.T @ U_nn, torch.eye(N))


def test_the_check_notices_what_is_missing_and_what_is_off() -> None:
    S_nn = matrix(SPECTRA["power"])
    values_n, U_nn = eigen.all_eigh(S_nn)
    for name, chosen, holds in (("all", range(60), True), ("one missing", [*range(30), *range(31, 60)], False)):
        assert eigen._holds(S_nn, eigen.Eigenpairs(values_n[chosen], U_nn[:, chosen]), TOLERANCE) == holds, name
    assert not eigen._holds(S_nn, eigen.Eigenpairs(values_n[:60], U_nn[:, 1:61]), TOLERANCE)


def test_same_matrix_same_pairs() -> None:
    first, second = (leading_eigh(matrix(SPECTRA["power"]), at_least(60), block=BLOCK, smallest=0) for _ in range(2))
    assert torch.equal(first.values_r, second.values_r)
    assert torch.equal(first.vectors_nr, second.vectors_nr)


def test_the_scale_does_not_matter() -> None:
    S_nn, scale = matrix(SPECTRA["power"]), 2.0**-60
    one, other = (leading_eigh(S, at_least(60), block=BLOCK, smallest=0) for S in (S_nn, S_nn * scale))
    torch.testing.assert_close(other.values_r / scale, one.values_r, rtol=1e-4, atol=1e-6)


@given(dyadic, dyadic, st.sampled_from([0.1, 0.25, 0.5, 0.9, 0.99]))
def test_selection_from_a_leading_part_that_is_enough(lam: torch.Tensor, mu: torch.Tensor, share: float) -> None:
    """Ties abound; what is enough stays enough, and keeps the very same set."""
    total = float(lam.sum()) * float(mu.sum())
    expected = keep_products(lam, mu, share)
    answers = [leading_is_enough(lam[:r], mu, share, total) for r in range(1, len(lam) + 1)]
    assert answers == sorted(answers)
    for r, answer in enumerate(answers, 1):
        if answer and total:
            assert torch.equal(keep_products(lam[:r], mu, share, total=total), expected[:r])
            assert not expected[r:].any()


def test_a_leading_part_is_enough_as_soon_as_it_can_be_told() -> None:
    generator = torch.Generator().manual_seed(0)
    lam, mu = ((2 * torch.randn(n, generator=generator)).exp().sort(descending=True).values.double() for n in (300, 80))
    rows = int((keep_products(lam, mu, 0.8) > 0).sum())
    total = float(lam.sum() * mu.sum())
    first = next(r for r in range(1, 301) if leading_is_enough(lam[:r], mu, 0.8, total))
    assert rows < first <= rows + 2


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_the_kept_set_is_that_of_all_pairs(share: float, solved_in_full: list[int]) -> None:
    ggT_oo, mu_i = matrix(SPECTRA["power"]), (torch.arange(1, 101) ** -0.5).double()
    total = float(ggT_oo.diagonal().double().sum() * mu_i.sum())

    def enough(values: torch.Tensor) -> bool:
        return leading_is_enough(values, mu_i, share, total)

    values, _ = leading_eigh(ggT_oo, enough, block=BLOCK, smallest=0)
    assert N not in solved_in_full
    expected = keep_products(torch.linalg.eigvalsh(ggT_oo.double()).flip(0), mu_i, share)
    assert torch.equal(keep_products(values, mu_i, share, total=total), expected[: len(values)])
    assert not expected[len(values) :].any()


@pytest.mark.parametrize("shape", [(1600, 48), (48, 1600)])
@pytest.mark.parametrize("select", ["top", "bottom"])
def test_an_edit_by_leading_pairs_is_the_edit_by_all(shape: tuple[int, int], select: str) -> None:
    """Either factor may be the larger one; no edit depends, to the last bit, on those made before it."""
    o, i = shape
    ggT, aaT = matrix(torch.arange(1, o + 1) ** -1.7), matrix(torch.arange(1, i + 1) ** -1.83)  # no two products tie
    weight = torch.randn(o, i, generator=torch.Generator().manual_seed(1))
    factors, whole = Factors(aaT, ggT, 9), Factors(aaT, ggT, 9).eigenbasis
    full = Factors(aaT, ggT, 9, basis=whole)
    for percent in (90, 40):
        keep = percent if select == "top" else 100 - percent
        edit = registry.build(parse(f"kfac-{keep}:select={select}"))
        assert isinstance(edit, registry.MatrixEdit)
        found, expected = edit.new_weight(weight, factors, "m"), edit.new_weight(weight, full, "m")
        assert found.kept == expected.kept
        assert (found.weight - expected.weight).norm() <= 1e-4 * expected.weight.norm()
        basis = factors.leading_basis(percent / 100)
        assert min(len(basis.lam_o) / o, len(basis.mu_i) / i) < 0.25
        alone = edit.new_weight(weight, Factors(aaT, ggT, 9), "m")
        assert torch.equal(alone.weight, found.weight)
