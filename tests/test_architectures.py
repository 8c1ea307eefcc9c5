"""The same edit on small random checkpoints of the common decoder-only architectures."""

from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from memsplit.harness import editing, loading, models
from memsplit.model_edits import registry, targets
from memsplit.model_edits.apply import applied, compute
from memsplit.model_edits.curvature import collect
from memsplit.model_edits.factors import Factors
from memsplit.model_edits.material import Material
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
}
IDS = torch.randint(2, 32, (3, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(**ARCHITECTURES[request.param])
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def moments(model: Any, found: tuple[targets.Target, ...]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By one plain backward pass through the whole model, every output's gradient kept."""
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    hooks = [
        model.get_submodule(t.name).register_forward_hook(lambda _, a, o, t=t: kept.update({t.name: (a[0], o)}))
        for t in found
    ]
    logits = model(IDS).logits[:, :-1].flatten(0, 1)
    loss = cross_entropy(logits, IDS[:, 1:].flatten(), reduction="sum")
    gradients = torch.autograd.grad(loss, [kept[t.name][1] for t in found])
    for hook in hooks:
        hook.remove()
    result = {}
    for target, gradient in zip(found, gradients, strict=True):
        a, g = kept[target.name][0][:, :-1].flatten(0, 1).detach(), gradient[:, :-1].flatten(0, 1)
        result[target.name] = (a.T @ a / len(a), g.T @ g / len(g))
    return result


def test_factors_of_every_mlp_matrix_equal_a_plain_backward_pass(model: Any) -> None:
    proj = [*targets.default_proj(model), "down"]
    found = targets.find(model, [0, 1], proj)
    assert len(found) == 2 * len(proj)
    factors = collect(model, found, [IDS[:2], IDS[2:]], labels="gold")
    for module, (aaT, ggT) in moments(model, found).items():
        torch.testing.assert_close(factors[module].aaT, aaT, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(factors[module].ggT, ggT, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spec", ["kfac-50", "ekfac-50", "svd-50", "wanda-50"])
def test_every_method_edits_and_the_base_comes_back(model: Any, spec: str) -> None:
    found = targets.find(model, [1], [*targets.default_proj(model), "down"])
    factors = {
        module: Factors(f.aaT, f.ggT, f.tokens, torch.rand(len(f.ggT), len(f.aaT)))
        for module, f in collect(model, found, [IDS]).items()
    }
    before = model(IDS).logits
    edit = registry.build(parse(spec))
    weights, _ = compute(model, edit, Material(targets=found, factors=factors))
    for target in found:
        stored = model.get_parameter(target.parameter).detach()
        plain = stored.T if target.transposed else stored
        expected = edit.new_weight(plain.contiguous(), factors[target.name], target.name).weight
        changed = weights[target.parameter].T if target.transposed else weights[target.parameter]
        torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-6)
    with applied(model, weights):
        assert not torch.allclose(model(IDS).logits, before, atol=1e-6)
    assert torch.equal(model(IDS).logits, before)


def test_a_model_without_an_entry_has_defaults_of_its_own(model: Any) -> None:
    entry = models.ModelEntry(name="m", pretrained="m")
    loaded = loading.LoadedModel(entry=entry, model=model, tokenizer=None, weights="w")
    (edit,) = editing.Workshop(loaded).chain("svd-50")
    assert edit.layers == models.default_layers(2)
    assert edit.proj == targets.default_proj(model)
    assert ("gate" in edit.proj) == hasattr(model, "model")
