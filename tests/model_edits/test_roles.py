"""Which matrices there are, in every architecture: their roles, their places in fused weights, their curvature."""

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from memsplit.benchmarks.tiny_configs import tiny as tiny_config
from memsplit.errors import UserError
from memsplit.model_edits import registry, targets
from memsplit.model_edits.apply import applied, compute
from memsplit.model_edits.curvature.collect import collect
from memsplit.model_edits.curvature.labels import Draws
from memsplit.model_edits.inputs import EditInputs
from memsplit.model_edits.spec import parse
from memsplit.model_edits.target_names import ROLES
from memsplit.model_edits.targets import Target
from memsplit.tests.support.architectures import ARCHITECTURES, tiny
from memsplit.tests.support.matrices import curvature, divided, edited

IDS = torch.randint(2, 32, (3, 12), generator=torch.Generator().manual_seed(1))
WITH_ROLES = [name for name, (_, roles) in ARCHITECTURES.items() if any(roles)]
EVERYTHING = ("*",)
UNSEEN = {"Mamba": "*.dt_proj", "Jamba": "*.dt_proj"}
"""Maps whose modules are not called: the model reads their weights."""


def called(name: str, model: Any) -> tuple[Target, ...]:
    """Those of them whose inputs and outputs can be seen."""
    return tuple(target for target in divided(model) if not fnmatch(target.name, UNSEEN.get(name, "")))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_roles_of_every_layer_are_those_that_are_written_down(name: str) -> None:
    model, expected = tiny(name), ARCHITECTURES[name][1]
    assert targets.layer_count(model) == len(expected)
    for layer, roles in enumerate(expected):
        found = targets.find(model, [layer], EVERYTHING)
        names = {target.proj for target in found} | {target.proj for target in divided(model, (layer,))}
        assert names & set(ROLES) == set(roles.split()), layer


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_entry_of_a_weight_is_in_one_matrix_once(name: str) -> None:
    model = tiny(name)
    covered: dict[str, torch.Tensor] = {}
    for number, target in enumerate(divided(model)):
        stored = model.get_parameter(target.parameter).detach()
        place = covered.setdefault(target.parameter, torch.full_like(stored, -1))
        assert bool((target.view(place) == -1).all()), target
        target.put(place, torch.full_like(target.view(stored), number))
        assert bool((target.view(place) == number).all()), target
    assert covered.keys() == {target.parameter for target in targets.linear_maps(model)}
    assert all(bool((place >= 0).all()) for place in covered.values())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_inputs_and_gradients_are_those_of_the_matrix(name: str) -> None:
    """Their outer products add up to the gradient of the weight by autodiff: each row, expert and position in its place."""
    model = tiny(name, spread=3)
    agree = curvature(model, called(name, model), IDS)
    assert agree
    assert [target for target, equal in agree.items() if not equal] == []


@pytest.mark.parametrize("spec", ["svd-50", "quantize", "noise"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_edited_model_comes_back_from_its_folder_and_the_base_from_the_edit(
    name: str, spec: str, tmp_path: Path
) -> None:
    model = tiny(name, spread=3)
    found = divided(model) if spec == "svd-50" else targets.linear_maps(model)
    assert edited(model, spec, found, IDS, tmp_path) == {"moves": True, "reloads": True, "restores": True}


def outputs(model: Any, module: torch.nn.Module) -> torch.Tensor:
    """What a module gives out."""
    kept: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda m, i, o: kept.append(o[0] if isinstance(o, tuple) else o))
    with torch.no_grad():
        model(input_ids=IDS, use_cache=False)
    hook.remove()
    return kept[0].double()


def bend(model: Any, target: Target, module: torch.nn.Module) -> float:
    """How far what a module gives out is from an affine function of a matrix: 0 if it is one."""
    W_oi = target.matrix(model).clone()
    at = []
    for scale in (0.0, 1.0, 2.0):
        with torch.no_grad():
            target.put(model.get_parameter(target.parameter), scale * W_oi)
        at.append(outputs(model, module))
    with torch.no_grad():
        target.put(model.get_parameter(target.parameter), W_oi)
    return float((at[2] - 2 * at[1] + at[0]).norm() / (at[2] - at[0]).norm())


def pairs(found: tuple[Target, ...]) -> Iterator[tuple[Target, Target, Target]]:
    """Gate, up and down of the same MLP or expert."""
    by_place = {(t.module.rpartition(".")[0], t.proj.rpartition("_")[2], "shared" in t.proj): t for t in found}
    for (place, role, shared), down in by_place.items():
        gate, up = (by_place.get((place, each, shared)) for each in ("gate", "up"))
        if role == "down" and gate and up and down.expert in (None, 0, 1):
            yield gate, up, down


@pytest.mark.parametrize("name", [name for name in WITH_ROLES if "gate" in " ".join(ARCHITECTURES[name][1])])
def test_what_an_mlp_gives_out_is_affine_in_up_and_not_in_gate(name: str) -> None:
    """Which is what tells them apart, whatever they are called and however they are stored."""
    model = tiny(name, spread=8)
    checked = list(pairs(divided(model)))
    assert checked
    for gate, up, down in checked:
        owner = down.module if down.expert is None else down.parameter.removesuffix(".weight").rpartition(".")[0]
        module = model.get_submodule(owner)
        if down.expert is not None and float(outputs(model, module).norm()) == 0:
            continue
        bends = bend(model, up, module), bend(model, gate, module)
        if all(value == value for value in bends):  # an expert that no position is routed to moves nothing
            assert bends[0] < 1e-4 < 1e-2 < bends[1], (gate.name, bends)


@pytest.mark.parametrize("name", [name for name in WITH_ROLES if " k v " in " ".join(ARCHITECTURES[name][1])])
def test_attention_is_affine_in_v_and_a_position_is_asked_for_by_its_k_alone(name: str) -> None:
    """What is given out at later positions does not depend on q at the first one, and does on k and v there."""
    model = tiny(name, spread=8)
    found = [target for target in divided(model) if target.proj in ("q", "k", "v", "o")]
    layer = found[-1].layer
    of = {target.proj: target for target in found if target.layer == layer and target.expert in (None, 0)}
    if of["q"].expert is not None:
        del of["q"]
    end = (
        of["o"].module
        if of["o"].expert is None
        else of["o"].module.rpartition(".self_attention")[0] + ".self_attention"
    )
    module = model.get_submodule(end)
    assert bend(model, of["v"], module) < 1e-4
    assert bend(model, of["k"], module) > 1e-3
    base = outputs(model, module)
    for role in ("q", "k", "v"):
        if role not in of:
            continue
        part = of[role].part
        rows = part.rows if part else None

        def first(m: Any, i: Any, y: torch.Tensor, rows: Any = rows) -> torch.Tensor:
            index = torch.arange(y.shape[-1])
            y = y.clone()
            y[:, 0, index if rows is None else rows.outputs(index[None])[0]] *= -3
            return y

        hook = model.get_submodule(of[role].module).register_forward_hook(first)
        moved = (outputs(model, module) - base)[:, 1:].norm() / base.norm()
        hook.remove()
        assert (float(moved) > 1e-4) == (role != "q"), (role, float(moved))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_edit_by_curvature_changes_what_the_model_says_and_the_base_comes_back(name: str) -> None:
    model = tiny(name, spread=3)
    found = called(name, model)
    factors = collect(model, found, [IDS], draws=Draws(labels="gold"))
    before = model(input_ids=IDS, use_cache=False).logits
    edit = registry.build(parse("kfac-50"))
    weights, changes = compute(model, edit, EditInputs(targets=found, factors=factors))
    assert weights
    assert {change.name for change in changes} == {f"{target.name}.weight" for target in found}
    with applied(model, weights):
        assert not torch.allclose(model(input_ids=IDS, use_cache=False).logits, before, atol=1e-6)
    assert torch.equal(model(input_ids=IDS, use_cache=False).logits, before)


@pytest.mark.parametrize("name", UNSEEN)
def test_a_map_that_is_not_called_is_refused_where_its_curvature_is_needed(name: str) -> None:
    model = tiny(name)
    found = targets.find(model, [0], [UNSEEN[name]])
    with pytest.raises(UserError, match="dt_proj was seen: the model computes it in another way"):
        collect(model, found, [IDS])


def test_what_a_model_computes_without_gradients_is_passed_over() -> None:
    """HRM's first cycles are; its last one takes gradients, which are those of autodiff."""
    model = transformers.AutoModelForCausalLM.from_config(tiny_config("hrm_text"), dtype=torch.float32).eval()
    agree = curvature(model, divided(model), IDS)
    assert agree
    assert all(agree.values())


@pytest.mark.parametrize(
    ("model_type", "glob", "rest"),
    [("reformer", "*.value", None), ("deepseek_v32", "*.indexer.wk", "up"), ("deepseek_v4", "*.o_a_proj", "up")],
)
def test_curvature_of_what_takes_no_gradients_or_is_of_groups_is_refused(
    model_type: str, glob: str, rest: str | None
) -> None:
    """Reformer's blocks, of which a pass keeps nothing; an indexer that chooses positions; a map of groups."""
    model = transformers.AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32).eval()
    for proj in filter(None, (glob, rest and f"{rest}+{glob}")):
        with pytest.raises(UserError, match=f"no product with .*{glob.removeprefix('*')} was seen"):
            collect(model, targets.find(model, [3], proj.split("+")), [IDS], draws=Draws(labels="gold"))
    if rest:
        assert collect(model, targets.find(model, [3], [rest]), [IDS], draws=Draws(labels="gold"))
