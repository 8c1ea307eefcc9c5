"""The same edit on small random checkpoints of the common decoder-only architectures."""

from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from memsplit.errors import UserError
from memsplit.harness.evaluation import editing
from memsplit.harness.models import loading, model_table
from memsplit.model_edits import registry, targets
from memsplit.model_edits.apply import applied, compute
from memsplit.model_edits.curvature.collect import collect, collect_input_squares
from memsplit.model_edits.curvature.factors import Factors
from memsplit.model_edits.curvature.labels import Draws
from memsplit.model_edits.inputs import EditInputs
from memsplit.model_edits.spec import parse

SPECIAL = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
SMALL = {**SPECIAL, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
HEADS = {**SMALL, "num_key_value_heads": 1, "head_dim": 8}
ARCHITECTURES = {
    "Olmo": SMALL,
    "Olmo2": SMALL,
    "Olmo3": SMALL,
    "Llama": HEADS,
    "Qwen2": {**SMALL, "num_key_value_heads": 2},
    "Qwen3": HEADS,
    "Mistral": HEADS,
    "Gemma": HEADS,
    "GPTNeoX": SMALL,
    "GPT2": {**SPECIAL, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24},
    "Olmoe": {**SMALL, "num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2},
}
IDS = torch.randint(2, 32, (3, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**ARCHITECTURES[request.param])
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def moments(model: Any, found: tuple[targets.Target, ...]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By plain backward passes through the whole model, one matrix at a time.

    A matrix that is a module's own has its output's gradient kept. An expert's output is not at hand from outside: its
    moments follow from a pass for each position, whose gradient of the weight is the one outer product g aᵀ.
    """
    result = {}
    for target in found:
        if target.part:
            result[target.name] = of_expert(model, target)
            continue
        kept: dict[str, torch.Tensor] = {}
        module = model.get_submodule(target.name)
        hook = module.register_forward_hook(lambda _, a, o, kept=kept: kept.update(a=a[0], o=o))
        logits = model(IDS).logits[:, :-1].flatten(0, 1)
        loss = cross_entropy(logits, IDS[:, 1:].flatten(), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, kept["o"])
        hook.remove()
        a, g = kept["a"][:, :-1].flatten(0, 1).detach(), gradient[:, :-1].flatten(0, 1)
        result[target.name] = (a.T @ a / len(a), g.T @ g / len(g))
    return result


def of_expert(model: Any, target: targets.Target) -> tuple[torch.Tensor, torch.Tensor]:
    """Second moments of one expert in the last layer, where a position's loss comes from that position alone.

    ‖g‖²·aaᵀ and ‖a‖²·ggᵀ are the two squares of a position's gradient g aᵀ; the router's input a tells ‖a‖.
    """
    assert target.part is not None
    owner = model.get_submodule(target.part.parameter.rpartition(".")[0])
    seen: dict[str, torch.Tensor] = {}
    hook = owner.register_forward_hook(lambda _, inputs, __: seen.update(a=inputs[0], chosen=inputs[1]))
    logits = model(IDS).logits[:, :-1].flatten(0, 1)
    hook.remove()
    positions = [row * IDS.shape[1] + column for row in range(len(IDS)) for column in range(IDS.shape[1] - 1)]
    weight = model.get_parameter(target.part.parameter)
    aaT, ggT, n = torch.zeros(()), torch.zeros(()), 0
    for at, position, label in zip(range(len(logits)), positions, IDS[:, 1:].flatten(), strict=True):
        if target.part.expert not in seen["chosen"][position]:
            continue
        loss = cross_entropy(logits[at], label)
        D_oi = target.view(torch.autograd.grad(loss, weight, retain_graph=True)[0])
        a = seen["a"][position].detach()
        g = D_oi @ a / a.square().sum()
        torch.testing.assert_close(D_oi, torch.outer(g, a), rtol=1e-4, atol=1e-7)
        aaT, ggT, n = aaT + torch.outer(a, a), ggT + torch.outer(g, g), n + 1
    return aaT / n, ggT / n


def test_factors_of_every_mlp_matrix_equal_a_plain_backward_pass(model: Any) -> None:
    experts = getattr(model.config, "num_experts", 0)
    proj = [*targets.default_proj(model), *([] if experts else ["down"])]
    found = targets.find(model, [1] if experts else [0, 1], proj)
    assert len(found) == (experts or 2) * len(proj)
    factors = collect(model, found, [IDS[:2], IDS[2:]], draws=Draws(labels="gold"))
    for module, (aaT, ggT) in moments(model, found).items():
        torch.testing.assert_close(factors[module].aaT, aaT, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(factors[module].ggT, ggT, rtol=1e-4, atol=1e-6)


def test_input_squares_are_the_diagonal_of_the_second_moments(model: Any) -> None:
    """Of every MLP matrix, and of each expert over the positions that are routed to it; without a backward pass."""
    found = targets.find(model, [0, 1], [*targets.default_proj(model), "down"])
    factors = collect(model, found, [IDS[:2], IDS[2:]])
    squares = collect_input_squares(model, found, [IDS[:2], IDS[2:]])
    assert squares.keys() == factors.keys()
    for name, of in squares.items():
        assert of.tokens == factors[name].tokens
        torch.testing.assert_close(of.aaT_diag, factors[name].aaT.diagonal(), rtol=1e-5, atol=1e-9)


def new_weight(edit: registry.Edit, W_oi: torch.Tensor, factors: Factors, name: str) -> torch.Tensor:
    if isinstance(edit, registry.MatrixEdit):
        return edit.new_weight(W_oi, name).weight
    assert isinstance(edit, registry.CurvatureEdit)
    return edit.new_weight(W_oi, factors, name).weight


@pytest.mark.parametrize("spec", ["kfac-50", "ekfac-50", "svd-50", "wanda-50"])
def test_every_method_edits_and_the_base_comes_back(model: Any, spec: str) -> None:
    found = targets.find(model, [1], [*targets.default_proj(model), "down"])
    factors = {
        module: Factors({**f.moments, "fisher_oi": torch.rand(len(f.ggT), len(f.aaT))}, f.tokens)
        for module, f in collect(model, found, [IDS]).items()
    }
    before = model(IDS).logits
    edit = registry.build(parse(spec))
    weights, _ = compute(model, edit, EditInputs(targets=found, factors=factors))
    for target in found:
        plain = target.view(model.get_parameter(target.parameter).detach()).contiguous()
        expected = new_weight(edit, plain, factors[target.name], target.name)
        torch.testing.assert_close(target.view(weights[target.parameter]), expected, rtol=1e-4, atol=1e-6)
    with applied(model, weights):
        assert not torch.allclose(model(IDS).logits, before, atol=1e-6)
    assert torch.equal(model(IDS).logits, before)


def test_a_bfloat16_model_is_edited_in_float32_and_cast_once(model: Any) -> None:
    model = model.bfloat16()
    found = targets.find(model, [1], [*targets.default_proj(model), "down"])
    factors = collect(model, found, [IDS])
    edit = registry.build(parse("kfac-50@0.25"))
    weights, _ = compute(model, edit, EditInputs(targets=found, factors=factors))
    for target in found:
        W_oi = target.view(model.get_parameter(target.parameter).detach()).float().contiguous()
        kept_oi = new_weight(edit, W_oi, factors[target.name], target.name)
        expected = (kept_oi + 0.25 * (W_oi - kept_oi)).bfloat16()
        assert weights[target.parameter].dtype == torch.bfloat16
        changed = target.view(weights[target.parameter])
        assert (changed == expected).float().mean() > 0.99  # products may round otherwise by the layout


def test_a_model_without_an_entry_has_defaults_of_its_own(model: Any) -> None:
    entry = model_table.ModelEntry(name="m", pretrained="m")
    loaded = loading.LoadedModel(entry=entry, model=model, tokenizer=None, weights="w")
    (edit,) = editing.ModelEditor(loaded).chain("svd-50")
    assert edit.layers == (1,)
    gated = any("gate" in name for name, _ in model.named_parameters())
    assert edit.proj == (("gate", "up") if gated else ("up",))


def test_an_attack_reaches_every_linear_map_of_the_layers(model: Any) -> None:
    """Told by the modules' types: not embeddings, the output head, norms or routers."""
    linear = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | transformers.pytorch_utils.Conv1D)
        and module is not model.get_output_embeddings()
    }
    linear |= {name for name, parameter in model.named_parameters() if parameter.ndim == 3}
    for spec in ("quantize", "noise"):
        weights, _ = compute(model, registry.build(parse(spec)), EditInputs(targets=targets.linear_maps(model)))
        assert weights.keys() == linear
        for name, weight in weights.items():  # every expert's rows, too
            changed = weight != model.get_parameter(name)
            assert float(changed.flatten(0, -2).float().mean(dim=1).min()) > 0.5, (spec, name)


@pytest.mark.parametrize("model", ["Olmoe"], indirect=True)
class TestExperts:
    def test_experts_in_another_layout_are_not_passed_over(self, model: Any) -> None:
        model.model.layers[1].mlp.experts.is_transposed = True
        with pytest.raises(
            UserError, match=r"the experts of model\.layers\.1\.mlp\.experts in a layout that is not known"
        ):
            targets.linear_maps(model)

    def test_each_expert_is_a_matrix_of_its_own(self, model: Any) -> None:
        found = targets.find(model, [0, 1], ["gate", "up", "down"])
        assert len(found) == 2 * 4 * 3
        assert found[0].name == "model.layers.0.mlp.experts.0.gate_proj"
        for target in found:
            expected = (16, 24) if target.proj == "down" else (24, 16)
            assert target.matrix(model).shape == expected
        covered = torch.zeros_like(model.model.layers[0].mlp.experts.gate_up_proj)
        for target in found:
            if target.layer == 0 and target.proj != "down":
                target.view(covered).add_(1)
        assert (covered == 1).all()

    def test_down_projections_equal_a_forward_pass_by_hand(self, model: Any) -> None:
        found = targets.find(model, [1], ["down"])
        factors = collect(model, found, [IDS], draws=Draws(labels="gold"))
        experts = model.model.layers[1].mlp.experts
        seen: dict[str, torch.Tensor] = {}
        hook = experts.register_forward_hook(lambda _, inputs, __: seen.update(a=inputs[0], chosen=inputs[1]))
        model(IDS[:, :-1])
        hook.remove()
        for target in found:
            e = target.expert
            assert e is not None
            a = seen["a"][(seen["chosen"] == e).any(-1)]
            gate, up = (a @ experts.gate_up_proj[e].T).chunk(2, -1)
            hidden = (torch.nn.functional.silu(gate) * up).detach()
            assert factors[target.name].tokens == len(hidden)
            torch.testing.assert_close(factors[target.name].aaT, hidden.T @ hidden / len(hidden), rtol=1e-4, atol=1e-7)

    def test_an_expert_that_nothing_is_routed_to_is_left_alone(self, model: Any) -> None:
        found = targets.find(model, [1], ["gate"])
        factors = collect(model, found, [IDS[:1, :2]], draws=Draws(labels="gold"))
        idle = [target for target in found if factors[target.name].tokens == 0]
        assert idle
        for spec in (
            *("kfac-50", "kfac-50:select=bottom", "kfac-50:rank=count", "kfac-50:select=bottom,weight=energy"),
            *("wanda-50", "random-50", "random:match=kfac-50", "noise:match=kfac-50"),
        ):
            weights, changes = compute(model, registry.build(parse(spec)), EditInputs(targets=idle, factors=factors))
            assert weights == {}, spec
            assert all(change.kept == change.total for change in changes), spec

    def test_the_implementation_of_experts_comes_back(self, model: Any) -> None:
        before = model.get_experts_implementation()
        collect(model, targets.find(model, [1], ["gate"]), [IDS])
        assert model.get_experts_implementation() == before
