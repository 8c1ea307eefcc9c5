"""Bands of curvature against explicit masks over all components, in float64."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

from memsplit.model_edits.bands import BOTTOM_HALF, DECILES, OF_THE_SOURCE, SHARES, TOP_TENTH, Band, Banded, spectrum
from memsplit.model_edits.curvature.factors import Factors
from memsplit.results.statistics.band_strength import Measured, findings

TALL, WIDE = (13, 7), (6, 11)
MASS = Band(start=80, stop=100, by="mass")
NAMES = [band.name for band in OF_THE_SOURCE]


def moments(n: int, rank: int) -> torch.Tensor:
    x = torch.randn(n, rank, dtype=torch.float64) * torch.logspace(0, -2, rank, dtype=torch.float64)
    return x @ x.T


def case(o: int, i: int, rank: int | None = None) -> tuple[torch.Tensor, Factors]:
    torch.manual_seed(o)
    return torch.randn(o, i, dtype=torch.float64), Factors(
        {"aaT": moments(i, rank or 2 * i), "ggT": moments(o, rank or 2 * o)}, 100
    )


def order(factors: Factors) -> tuple[torch.Tensor, torch.Tensor]:
    """Every component's curvature, largest first, and where it stands."""
    basis = factors.eigenbasis
    return (basis.lam_o[:, None] * basis.mu_i).flatten().sort(descending=True, stable=True)


def explicit(factors: Factors, band: Band) -> torch.Tensor:
    """The band's mask, from all products sorted."""
    value_n, place_n = order(factors)
    if band.by == "count":
        first, after = (round(percent / 100 * len(value_n)) for percent in (band.start, band.stop))
    else:
        held = value_n.cumsum(0) / value_n.sum()
        first, after = int((held < band.start / 100 - 1e-12).sum()) + 1, len(value_n)
    mask = torch.zeros(len(value_n), dtype=torch.bool)
    mask[place_n[first:after]] = True
    return mask.reshape(len(factors.ggT), len(factors.aaT))


@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_deciles_make_up_the_matrix(shape: tuple[int, int]) -> None:
    weight, factors = case(*shape)
    banded = Banded(weight, factors, DECILES)
    parts = [banded.matrix(k) for k in range(10)]
    torch.testing.assert_close(sum(parts), weight)
    for one, other in itertools.combinations(parts, 2):
        assert abs(float((one * other).sum())) < 1e-10  # no component is in two of them


@pytest.mark.parametrize("shape", [TALL, WIDE])
@pytest.mark.parametrize("band", [TOP_TENTH, BOTTOM_HALF, Band(start=25, stop=50), MASS])
def test_strengths_are_those_of_explicit_masks(shape: tuple[int, int], band: Band) -> None:
    weight, factors = case(*shape)
    basis, mask = factors.eigenbasis, explicit(factors, band)
    part = basis.U_oo @ ((basis.U_oo.T @ weight @ basis.V_ii) * mask) @ basis.V_ii.T
    banded = Banded(weight, factors, [TOP_TENTH, band])
    torch.testing.assert_close(banded.matrix(1), part)
    inputs = torch.randn(5, shape[1], dtype=torch.float64)
    found = banded.strength(inputs)
    for n, a in enumerate(inputs):
        components = [torch.outer(basis.U_oo[:, i], basis.V_ii[:, j]) @ a for i, j in mask.nonzero().tolist()]
        assert float(found.read[n, 1]) == pytest.approx(np.mean([float(c.norm()) for c in components]))
        assert float(found.write[n, 1]) == pytest.approx(float((part @ a).norm()))
        assert float(found.share[n, 1]) == pytest.approx(float((part @ a).norm() / (weight @ a).norm()) ** 2)


def test_an_input_of_zeros_has_no_strength() -> None:
    weight, factors = case(*TALL)
    for strength in Banded(weight, factors, DECILES).strength(torch.zeros(2, 7, dtype=torch.float64)):
        assert not strength.any()


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_the_spectrum_is_that_of_all_products(shape: tuple[int, int], rank: int | None) -> None:
    _, factors = case(*shape, rank)
    value_n, _ = order(factors)
    value_n = value_n.clamp(min=0)
    held = value_n.cumsum(0) / value_n.sum()
    found = spectrum(factors.eigenbasis)
    counts, masses = zip(*found.curve, strict=True)
    assert list(counts) == sorted(set(counts))
    assert counts[0] == 1
    assert counts[-1] == found.components == len(value_n)
    torch.testing.assert_close(torch.tensor(masses, dtype=torch.float64), held[torch.tensor(counts) - 1])
    assert found.holding == {share: int((held < share - 1e-12).sum()) + 1 for share in SHARES}
    p = value_n / value_n.sum()
    assert found.effective_rank == pytest.approx(float(torch.special.entr(p).sum().exp()))


def test_equal_curvature_has_full_rank() -> None:
    eye = Factors({"aaT": torch.eye(4, dtype=torch.float64), "ggT": torch.eye(3, dtype=torch.float64)}, 1)
    found = spectrum(eye.eigenbasis)
    assert found.effective_rank == pytest.approx(12)
    assert found.holding[0.5] == 6
    assert found.curve == ((12, 1.0),)


@pytest.mark.parametrize(("turned", "verdict"), [(True, "holds"), (False, "does not hold"), (None, "is reversed")])
def test_a_planted_finding_is_found(turned: bool | None, verdict: str) -> None:
    """Clean inputs are of the very moments that curvature is of; memorized ones the other way round, alike, or steeper."""
    torch.manual_seed(0)
    size = torch.logspace(0, -1.5, 12, dtype=torch.float64)
    sizes = {True: size.flip(0), False: size, None: size.square() * 1.2}
    factors = Factors({"aaT": torch.diag(size.square()), "ggT": torch.eye(8, dtype=torch.float64)}, 1)
    banded = Banded(torch.randn(8, 12, dtype=torch.float64), factors, OF_THE_SOURCE)
    clean, memorized = (torch.randn(600, 12, dtype=torch.float64) * s for s in (size, sizes[turned]))
    strength = torch.stack(banded.strength(torch.cat([memorized, clean])), dim=2)
    sums = strength.reshape(120, 10, 4, 3).sum(1)[:, None].numpy()
    texts = pd.DataFrame(
        {
            "kind": ["memorized"] * 60 + ["clean"] * 60,
            "text": list(map(str, range(120))),
            "cluster": list(map(str, range(120))),
            "tokens": 10,
        }
    )
    matrices = pd.DataFrame([("m", 0, "up")], columns=["name", "layer", "proj"])
    table = Measured(texts=texts, matrices=matrices, bands=NAMES, ends=(0, 3), sums=sums).relative("clean", [0])
    for measure in ("read", "write"):
        one, layer = findings(table, "memorized", measure, NAMES)
        assert one.verdict == layer.verdict == verdict, measure
        assert one.bottom == pytest.approx(layer.bottom)
        assert one.ordered == (turned is True) or turned is False
