"""Selection against brute force, and one conformance table for every edit."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memsplit.harness.editing import Workshop
from memsplit.harness.loading import LoadedModel
from memsplit.model_edits import registry, targets
from memsplit.model_edits.apply import applied, compute
from memsplit.model_edits.methods.kfac import keep_mass

spectra = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 8.0]), min_size=1, max_size=4).map(
    lambda values: torch.tensor(sorted(values, reverse=True))
)
IDENTITIES = ["none", "kfac-100", "random-100", "kfac-50@1", "random-50@1"]
EDITS = ["kfac-50", "kfac-95", "kfac-80:labels=gold", "random-50", "random:match=kfac-80", "kfac-50:proj=down"]


@given(spectra, spectra, st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99]))
def test_kept_set_is_the_smallest_that_reaches_the_mass(lam: torch.Tensor, mu: torch.Tensor, mass: float) -> None:
    product = lam.double()[:, None] * mu.double()
    keep = keep_mass(lam, mu, mass)
    total = product.sum()
    if total == 0:
        return
    reached = product[keep].sum()
    assert reached >= mass * total
    smallest = (
        next(
            k
            for k in range(product.numel() + 1)
            if any(sum(c) >= mass * total for c in itertools.combinations(product.flatten().tolist(), k))
        )
        if product.numel() <= 9
        else int(keep.sum())
    )
    assert int(keep.sum()) == smallest
    if keep.any() and not keep.all():
        assert product[keep].min() >= product[~keep].max()


@pytest.mark.parametrize("spec", IDENTITIES)
@pytest.mark.usefixtures("untouched")
def test_keeping_everything_changes_nothing(workshop: Workshop, spec: str) -> None:
    prepared = workshop.prepare(workshop.edit(spec))
    assert prepared.weights == {}
    assert all(change.removed_norm == 0 for change in prepared.changes)


@pytest.mark.parametrize("spec", EDITS)
@pytest.mark.usefixtures("untouched")
class TestConformance:
    def test_changes_only_its_targets(self, workshop: Workshop, spec: str) -> None:
        edit = workshop.edit(spec)
        prepared = workshop.prepare(edit)
        assert set(prepared.weights) == {t.parameter for t in workshop.matrices(edit)}

    def test_same_spec_same_result(self, workshop: Workshop, spec: str) -> None:
        first, second = (workshop.prepare(workshop.edit(spec)).weights for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_restore_is_bitwise_even_after_an_error(self, workshop: Workshop, spec: str) -> None:
        model = workshop.loaded.model
        prepared = workshop.prepare(workshop.edit(spec))
        name = next(iter(prepared.weights))
        with pytest.raises(RuntimeError), applied(model, prepared.weights):
            assert torch.equal(model.get_parameter(name), prepared.weights[name])
            raise RuntimeError

    def test_the_dial_is_a_straight_line(self, workshop: Workshop, spec: str) -> None:
        base = dict(workshop.loaded.model.named_parameters())
        gone = workshop.prepare(workshop.edit(spec)).weights
        half = workshop.prepare(workshop.edit(f"{spec}@0.5")).weights
        for name, weight in half.items():
            torch.testing.assert_close(weight, (gone[name] + base[name]) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", [spec for spec in EDITS if "match" not in spec])
@pytest.mark.usefixtures("untouched")
def test_applying_twice_changes_nothing(workshop: Workshop, spec: str) -> None:
    """But for a match: it measures an edit of a model that has lost those components already."""
    edit = workshop.edit(spec)
    prepared = workshop.prepare(edit)
    found = workshop.matrices(edit)
    factors = workshop.factors(found, prepared.factors)
    with applied(workshop.loaded.model, prepared.weights):
        again, _ = compute(workshop.loaded.model, edit, found, factors)
    for name, weight in prepared.weights.items():
        torch.testing.assert_close(again[name], weight, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["kfac", "random"])
def test_kept_components_grow_with_the_percent(workshop: Workshop, name: str) -> None:
    kept = [
        sum(c.kept for c in workshop.prepare(workshop.edit(f"{name}-{percent}")).changes)
        for percent in (0, 10, 50, 80, 99, 100)
    ]
    assert kept == sorted(kept)
    assert kept[0] == 0


def test_the_matched_control_removes_the_same_norm(workshop: Workshop) -> None:
    pairs = zip(
        workshop.prepare(workshop.edit("kfac-80")).changes,
        workshop.prepare(workshop.edit("random:match=kfac-80")).changes,
        strict=True,
    )
    for edit, control in pairs:
        assert control.removed_norm == pytest.approx(edit.removed_norm, rel=2e-3)


def test_targets_are_found_by_layer_and_role(organism: LoadedModel) -> None:
    found = targets.find(organism.model, [1, 3], ["gate", "down"])
    assert [t.module for t in found] == [
        f"model.layers.{layer}.mlp.{proj}_proj" for layer in (1, 3) for proj in ("gate", "down")
    ]


@pytest.mark.parametrize("kind", ["GPT2", "GPTNeoX"])
def test_other_architectures_have_their_roles(kind: str) -> None:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2
    )
    model = getattr(transformers, f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}")(config)
    found = targets.find(model, [1], ["up", "down"])
    assert [t.proj for t in found] == ["up", "down"]
    assert all(t.transposed == (kind == "GPT2") for t in found)


def test_every_edit_says_what_it_does() -> None:
    for name, cls in registry.edits().items():
        assert cls.name == name
        assert cls.summary
