"""Selection against brute force, and the formulas of the edits on the organism."""

import itertools
import math
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.harness.models.loading import LoadedModel
from memsplit.model_edits import registry, targets
from memsplit.model_edits.curvature.factors import Factors
from memsplit.model_edits.curvature.store import FactorStore
from memsplit.model_edits.selection import keep_count, keep_products, keep_share

spectra = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 8.0]), min_size=1, max_size=4).map(
    lambda values: torch.tensor(sorted(values, reverse=True))
)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0])


def fewest(values: torch.Tensor, goal: float) -> int:
    """By trying every set: how few values reach the goal."""
    flat = values.flatten().tolist()
    return next(k for k in range(len(flat) + 1) if any(sum(c) >= goal for c in itertools.combinations(flat, k)))


@given(spectra, spectra, shares)
def test_kept_set_is_the_smallest_that_reaches_the_share(lam: torch.Tensor, mu: torch.Tensor, share: float) -> None:
    product = (lam.double()[:, None] * mu.double())[:3, :3]
    keep = keep_share(product, share)
    assert product[keep].sum() >= share * product.sum()
    if 0 < share < 1 and product.sum() > 0:
        assert int(keep.sum()) == fewest(product, share * float(product.sum()))
        assert keep.all() or product[keep].min() >= product[~keep].max()


@given(spectra, spectra, shares)
def test_products_are_selected_as_if_they_were_formed(lam: torch.Tensor, mu: torch.Tensor, share: float) -> None:
    """Dyadic spectra, so that sums are exact and ties abound: the very same set."""
    product = lam.double()[:, None] * mu.double()
    by_mass, by_count = keep_share(product, share), keep_count(product.flatten(), share).reshape(product.shape)
    for by, keep in (("mass", by_mass), ("count", by_count)):
        columns = keep_products(lam, mu, share, by=by)
        assert torch.equal(torch.arange(len(mu)) < columns[:, None], keep), by


def test_products_of_steep_spectra_are_selected_as_if_they_were_formed() -> None:
    generator = torch.Generator().manual_seed(0)
    for share in (0.3, 0.6, 0.8, 0.999):
        lam, mu = ((4 * torch.randn(n, generator=generator)).exp().sort(descending=True).values for n in (300, 200))
        keep = keep_share(lam.double()[:, None] * mu.double(), share)
        assert torch.equal(torch.arange(200) < keep_products(lam, mu, share)[:, None], keep)


def factors_of(editor: ModelEditor, edit: registry.Edit) -> Mapping[str, Factors]:
    editor.collect_missing([edit])
    return editor.curvature.read(editor.curvature.arguments(edit), editor.matrices(edit))


def weights(editor: ModelEditor, spec: str) -> dict[str, torch.Tensor]:
    return editor.prepare(*editor.chain(spec)).weights


@pytest.mark.usefixtures("untouched")
def test_a_chain_applies_its_steps_in_order(editor: ModelEditor) -> None:
    both, other = weights(editor, "kfac-80+svd-50"), weights(editor, "svd-50+kfac-80")
    first = weights(editor, "kfac-80")
    for name, weight in both.items():
        U, sigma, Vh = torch.linalg.svd(first[name])
        kept = int(keep_share(sigma.square(), 0.5).sum())
        expected = U[:, :kept] * sigma[:kept] @ Vh[:kept]
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-5)
        assert not torch.allclose(weight, other[name], atol=1e-3)
    apart = weights(editor, "kfac-80:layers=2+magnitude-50:layers=1+magnitude-50:layers=3")
    assert set(apart) == set(first)
    assert torch.equal(apart["model.layers.2.mlp.up_proj.weight"], first["model.layers.2.mlp.up_proj.weight"])


@pytest.mark.parametrize(("top", "bottom"), [("kfac-80", "kfac-20"), ("ekfac-80", "ekfac-20")])
def test_top_and_bottom_are_the_two_halves_of_a_matrix(editor: ModelEditor, top: str, bottom: str) -> None:
    base = dict(editor.loaded.model.named_parameters())
    upper, lower = weights(editor, top), weights(editor, f"{bottom}:select=bottom")
    for name in upper:
        torch.testing.assert_close(upper[name] + lower[name], base[name].detach(), rtol=1e-4, atol=1e-5)


FORMULAS: dict[str, Any] = {
    "kfac-80": (lambda f, C, lam_mu: lam_mu, "mass", "top"),
    "kfac-30:select=bottom": (lambda f, C, lam_mu: lam_mu, "mass", "bottom"),
    "kfac-30:rank=count": (lambda f, C, lam_mu: lam_mu, "count", "top"),
    "kfac-80:weight=energy": (lambda f, C, lam_mu: lam_mu * C.square(), "mass", "top"),
    "kfac-30:rank=count,weight=energy": (lambda f, C, lam_mu: lam_mu * C.square(), "count", "top"),
    "ekfac-80": (lambda f, C, lam_mu: f.fisher_oi.double(), "mass", "top"),
    "ekfac-30:rank=count": (lambda f, C, lam_mu: f.fisher_oi.double(), "count", "top"),
    "ekfac-30:select=bottom": (lambda f, C, lam_mu: f.fisher_oi.double(), "mass", "bottom"),
}


@pytest.mark.parametrize("spec", FORMULAS)
def test_kept_components_are_those_of_the_formula(editor: ModelEditor, spec: str) -> None:
    """Every component formed in float64, sorted, and added up one by one."""
    importance, rank, select = FORMULAS[spec]
    (edit,) = editor.chain(spec)
    assert edit.percent is not None
    for target in editor.matrices(edit):
        factors = factors_of(editor, edit)[target.name]
        basis = factors.eigenbasis
        U, V = basis.U_oo.double(), basis.V_ii.double()
        assert torch.allclose(factors.ggT.double() @ U, U * basis.lam_o, atol=1e-4 * float(basis.lam_o[0]))
        assert torch.allclose(factors.aaT.double() @ V, V * basis.mu_i, atol=1e-4 * float(basis.mu_i[0]))
        C = U.T @ editor.loaded.model.get_parameter(target.parameter).detach().double() @ V
        values = importance(factors, C, basis.lam_o.double()[:, None] * basis.mu_i.double()).flatten().tolist()
        order = sorted(range(len(values)), key=lambda i: -values[i])
        share = (edit.percent if select == "top" else 100 - edit.percent) / 100
        chosen, mass, total = torch.zeros(len(values)), 0.0, math.fsum(values)
        for n, i in enumerate(order):
            if (n >= round(share * len(values))) if rank == "count" else (mass >= share * total):
                break
            chosen[i], mass = 1, mass + values[i]
        keep = (chosen if select == "top" else 1 - chosen).reshape(C.shape).double()
        found = editor.prepare(edit)
        kept = next(c.kept for c in found.changes if c.name == target.parameter)
        assert abs(kept - int(keep.sum())) <= 2
        expected = U @ (C * keep) @ V.T
        assert (found.weights[target.parameter] - expected).norm() < 2e-3 * expected.norm()


def test_gold_and_sampled_labels_give_other_edits(editor: ModelEditor) -> None:
    sampled, gold = weights(editor, "kfac-80"), weights(editor, "kfac-80:labels=gold")
    assert all(not torch.allclose(sampled[name], gold[name], atol=1e-3) for name in sampled)


@pytest.mark.parametrize("order", [("ekfac-80", "kfac-80"), ("kfac-80", "ekfac-80")])
def test_no_factors_are_collected_twice(
    organism: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    passes: list[str] = []
    shop = ModelEditor(organism, 256, FactorStore(tmp_path))
    original = shop.curvature.batches

    def batches(label: str) -> Iterator[torch.Tensor]:
        passes.append(label)
        return original(label)

    monkeypatch.setattr(shop.curvature, "batches", batches)
    shop.collect_missing([edit for text in order for edit in shop.chain(text)])
    assert passes == ["curvature", "curvature, second pass"]


def test_random_choices_differ_by_seed_and_matrix(editor: ModelEditor) -> None:
    """Each matrix's kept components, told in its own basis."""
    kept = []
    for spec in ("random-50", "random-50:seed=1"):
        (edit,) = editor.chain(spec)
        prepared = editor.prepare(edit)
        for target in editor.matrices(edit):
            basis = factors_of(editor, edit)[target.name].eigenbasis
            kept.append(basis.coordinates(prepared.weights[target.parameter]).abs() > 1e-5)
    for one, other in itertools.combinations(kept, 2):
        assert 0.4 < (one == other).float().mean() < 0.6


def test_svd_is_the_nearest_matrix_of_its_rank(editor: ModelEditor) -> None:
    prepared = editor.prepare(*editor.chain("svd-80"))
    for change in prepared.changes:
        W = editor.loaded.model.get_parameter(change.name).detach()
        sigma = torch.linalg.svdvals(W.double())
        gone = float(sigma[change.kept :].square().sum() / sigma.square().sum())
        assert change.removed_norm**2 == pytest.approx(gone, rel=1e-4)
        assert change.removed_norm**2 <= 0.2
        assert torch.linalg.matrix_rank(prepared.weights[change.name], rtol=1e-4) == change.kept


def test_pruning_keeps_the_weights_that_score_highest(editor: ModelEditor) -> None:
    magnitude, wanda = weights(editor, "magnitude-30"), weights(editor, "wanda-30")
    (edit,) = editor.chain("wanda-30")
    factors = factors_of(editor, edit)
    for name, weight in magnitude.items():
        W = editor.loaded.model.get_parameter(name).detach()
        assert W[weight != 0].abs().min() >= W[weight == 0].abs().max()
        score = W.abs() * factors[name.removesuffix(".weight")].aaT_diag.sqrt()
        for row, kept in zip(score, wanda[name] != 0, strict=True):
            assert int(kept.sum()) == len(row) - int(0.7 * len(row))
            assert row[kept].min() >= row[~kept].max()


def test_wanda_from_forward_passes_is_wanda_from_whole_factors(editor: ModelEditor) -> None:
    """The diagonal alone, collected without a backward pass, against that of E[a aᵀ] collected with one."""
    (wanda,), (kfac,) = editor.chain("wanda-50"), editor.chain("kfac-50")
    assert isinstance(wanda, registry.CurvatureEdit)
    editor.collect_missing([wanda, kfac])
    diagonals, whole = factors_of(editor, wanda), factors_of(editor, kfac)
    for target in editor.matrices(wanda):
        assert diagonals[target.name].moments.keys() == {"aaT_diag"}
        torch.testing.assert_close(
            diagonals[target.name].aaT_diag, whole[target.name].aaT.diagonal(), rtol=1e-5, atol=0
        )
        W_oi = target.matrix(editor.loaded.model)
        one, other = (wanda.new_weight(W_oi, factors[target.name], target.name) for factors in (diagonals, whole))
        assert one.kept == other.kept
        assert (one.weight != other.weight).float().mean() < 1e-4  # weights at the threshold may tie but for rounding


def test_an_edit_of_a_notebook_is_made_and_never_taken_for_an_earlier_one(
    editor: ModelEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code may have changed since, and there is no file to tell."""
    monkeypatch.setattr(registry, "_EDITS", dict(registry.edits()))
    magnitude = registry.find_edit("magnitude")
    monkeypatch.setattr("sys.modules", {**sys.modules, "__main__": types.ModuleType("__main__")})
    registry.register_edit("mine")(type("Mine", (magnitude,), {"__module__": "__main__"}))
    mine = editor.prepare(*editor.chain("mine-30"))
    assert mine.weights_hash == editor.prepare(*editor.chain("magnitude-30")).weights_hash
    assert editor.recipe_hash(mine.steps) is None
    assert editor.recipe_hash(editor.chain("magnitude-30")) is not None


def test_the_matched_control_removes_the_same_norm(editor: ModelEditor) -> None:
    pairs = zip(
        editor.prepare(*editor.chain("kfac-80")).changes,
        editor.prepare(*editor.chain("random:match=kfac-80")).changes,
        strict=True,
    )
    for edit, control in pairs:
        assert control.removed_norm == pytest.approx(edit.removed_norm, rel=2e-3)


def test_targets_are_found_by_layer_and_role(organism: LoadedModel) -> None:
    found = targets.find(organism.model, [1, 3], ["gate", "down"])
    assert [t.name for t in found] == [
        f"model.layers.{layer}.mlp.{proj}_proj" for layer in (1, 3) for proj in ("gate", "down")
    ]
