"""One table of properties for every registered edit, on a tiny model: a new edit is in it once it is registered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from memsplit.model_edits import registry, targets
from memsplit.model_edits.apply import applied, compute
from memsplit.model_edits.curvature.collect import collect, collect_ekfac, collect_input_squares
from memsplit.model_edits.inputs import EditInputs, MemorizedSequence
from memsplit.model_edits.spec import parse
from memsplit.tests.support.edit_cases import all_specs, by_options, plain

SPECS = all_specs()
GENERATOR = torch.Generator().manual_seed(1)
IDS = torch.randint(2, 32, (6, 16), generator=GENERATOR)
FORGET = [MemorizedSequence(prefix=row[:8], suffix=row[8:]) for row in IDS[:3].tolist()]
RETAIN = IDS[3:].tolist()


class Case:
    """A model with everything that an edit may need."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = transformers.Olmo2Config(vocab_size=32, pad_token_id=0, bos_token_id=1, eos_token_id=1, **small)
        self.model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        self.targets = targets.find(self.model, [1], ["up", "down"])
        kfac = collect(self.model, self.targets, [IDS])
        self.factors = {
            "kfac": kfac,
            "ekfac": collect_ekfac(self.model, self.targets, kfac, [IDS]),
            "aaT_diag": collect_input_squares(self.model, self.targets, [IDS]),
        }

    def compute(self, spec: str) -> tuple[dict[str, torch.Tensor], list[Any]]:
        """New weights and changes, from the inputs that the edit declares and no others."""
        edit = registry.build(parse(spec))
        inputs = EditInputs(
            targets=self.targets,
            factors=self.factors[str(edit.factor_options().get("statistic", "kfac"))] if edit.statistic else {},
            forget=FORGET if edit.needs_forget_set else (),
            retain=RETAIN if edit.needs_forget_set else (),
        )
        return compute(self.model, edit, inputs)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.mark.parametrize("spec", SPECS)
class TestEveryEdit:
    def test_only_targets_change_and_the_model_does_not(self, case: Case, spec: str) -> None:
        before = {name: (p.data_ptr(), p.detach().clone()) for name, p in case.model.named_parameters()}
        weights, _ = case.compute(spec)
        if registry.find_edit(parse(spec).name).targeted:
            assert weights.keys() <= {target.parameter for target in case.targets}
        assert all(not torch.equal(weight, before[name][1]) for name, weight in weights.items())
        for name, parameter in case.model.named_parameters():
            assert parameter.data_ptr() == before[name][0]
            assert torch.equal(parameter, before[name][1])

    def test_the_same_spec_gives_the_same_weights(self, case: Case, spec: str) -> None:
        first, second = case.compute(spec)[0], case.compute(spec)[0]
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_the_base_comes_back_bit_for_bit_even_after_an_error(self, case: Case, spec: str) -> None:
        weights, _ = case.compute(spec)
        before = case.model(IDS).logits
        with pytest.raises(RuntimeError), applied(case.model, weights):
            assert all(torch.equal(case.model.get_parameter(name), weight) for name, weight in weights.items())
            assert not weights or not torch.equal(case.model(IDS).logits, before)
            raise RuntimeError
        assert torch.equal(case.model(IDS).logits, before)

    def test_the_dial_is_a_straight_line_from_the_edit_to_the_base(self, case: Case, spec: str) -> None:
        edited, quarter = case.compute(spec)[0], case.compute(f"{spec}@0.25")[0]
        assert quarter.keys() == edited.keys()
        for name, weight in quarter.items():
            expected = 0.75 * edited[name] + 0.25 * case.model.get_parameter(name).detach()
            torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-6)
        assert case.compute(f"{spec}@1")[0] == {}

    def test_the_canonical_spec_is_the_same_edit(self, case: Case, spec: str) -> None:
        edit = registry.build(parse(spec))
        assert registry.build(parse(str(edit.spec))) == edit


BUDGETED = [cls for cls in by_options() if cls.budget]


@pytest.mark.parametrize("cls", BUDGETED, ids=lambda cls: cls.name)
class TestEditsByPercent:
    def test_half_of_the_budget_changes_every_target(self, case: Case, cls: type[registry.Edit]) -> None:
        assert case.compute(plain(cls))[0].keys() == {target.parameter for target in case.targets}

    def test_keeping_everything_changes_nothing(self, case: Case, cls: type[registry.Edit]) -> None:
        weights, changes = case.compute(plain(cls, 100))
        assert weights == {}
        assert all(change.removed_norm == 0 and change.kept == change.total for change in changes)

    def test_kept_components_grow_with_the_percent(self, case: Case, cls: type[registry.Edit]) -> None:
        kept = [sum(c.kept for c in case.compute(plain(cls, p))[1]) for p in (0, 10, 50, 80, 99, 100)]
        assert kept == sorted(kept)
        assert kept[0] == 0


@pytest.mark.parametrize("cls", [cls for cls in by_options() if cls.idempotent], ids=lambda cls: cls.name)
def test_applying_twice_changes_nothing(case: Case, cls: type[registry.Edit]) -> None:
    weights, _ = case.compute(plain(cls))
    with applied(case.model, weights):
        again, _ = case.compute(plain(cls))
    for name, weight in weights.items():
        torch.testing.assert_close(again.get(name, weight), weight, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", registry.edit_names())
def test_every_edit_says_what_it_does_and_has_a_row_in_the_docs(root: Path, name: str) -> None:
    cls = registry.find_edit(name)
    assert cls.name == name
    assert cls.summary
    assert "\n" not in cls.summary
    assert set(registry.COMMON) <= {field.name for field in cls.__dataclass_fields__.values()}
    assert re.search(rf"`{name}(-P|:\w+=…)?`", (root / "docs" / "edits.md").read_text())
