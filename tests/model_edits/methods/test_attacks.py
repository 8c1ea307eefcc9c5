"""The attacks: rounding and noise against their definitions, training against plain loops of torch and peft."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import peft
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from memsplit.errors import UserError
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.model_edits import registry, targets, training
from memsplit.model_edits.apply import applied, compute
from memsplit.model_edits.inputs import EditInputs, MemorizedSequence
from memsplit.model_edits.methods.noise import Noise
from memsplit.model_edits.methods.quantize import Quantize
from memsplit.model_edits.methods.relearn import Relearn
from memsplit.model_edits.spec import parse

SPECIAL = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
SMALL = {**SPECIAL, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
ARCHITECTURES = {
    "Olmo2": SMALL,
    "GPT2": {**SPECIAL, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24},  # tied embeddings, [in, out] weights
    "Olmoe": {**SMALL, "num_experts": 4, "num_experts_per_tok": 2},
}
MODES = ["relearn:steps=4,lr=0.003", "relearn:steps=4,lr=0.003,lora=4"]


def random_ids(n: int, seed: int) -> list[int]:
    return torch.randint(2, 32, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


FORGET = [MemorizedSequence(prefix=random_ids(4 + n % 3, n), suffix=random_ids(5 + n % 2, 50 + n)) for n in range(7)]
RETAIN = [random_ids(6 + n % 5, 100 + n) for n in range(9)]
PASSAGES = [each.prefix + each.suffix for each in FORGET]
INPUTS = EditInputs(forget=FORGET, retain=RETAIN)


def tiny(name: str, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**ARCHITECTURES[name])
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def made(model: Any, spec: str, given: EditInputs = INPUTS) -> dict[str, torch.Tensor]:
    return compute(model, registry.build(parse(spec)), given)[0]


def relearn(spec: str) -> Relearn:
    edit = registry.build(parse(spec))
    assert isinstance(edit, Relearn)
    return edit


@given(
    st.lists(st.lists(st.floats(-8, 8, width=16), min_size=3, max_size=3), min_size=1, max_size=4), st.integers(2, 8)
)
def test_every_weight_goes_to_the_nearest_level_of_its_row(rows: list[list[float]], bits: int) -> None:
    weight = torch.tensor(rows, dtype=torch.float64)
    found = Quantize(bits=bits).new_weight(weight, "w")
    for row, new in zip(rows, found.weight.tolist(), strict=True):
        most, largest = 2 ** (bits - 1) - 1, max(map(abs, row))
        levels = [largest * n / most for n in range(-most, most + 1)]
        for value, rounded in zip(row, new, strict=True):
            assert min(abs(rounded - level) for level in levels) <= 1e-12
            assert abs(rounded - value) <= min(abs(value - level) for level in levels) + 1e-12
            assert abs(rounded - value) <= largest / most / 2 + 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bits", range(2, 9))
def test_what_is_quantized_stays_to_the_bit(bits: int, dtype: torch.dtype) -> None:
    """In the type in which the model holds it: to which the levels are rounded, so that they are not evenly spaced."""
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(bits)).to(dtype)
    edit = Quantize(bits=bits)
    once = edit.new_weight(training.wide(weight), "w").weight.to(dtype)
    assert not torch.equal(once, weight)
    assert all(len(row.unique()) <= 2**bits - 1 for row in once)
    again = edit.new_weight(training.wide(once), "w")
    assert torch.equal(again.weight.to(dtype), once)


def test_a_row_of_zeros_stays() -> None:
    assert not Quantize().new_weight(torch.zeros(2, 3), "w").weight.any()


def noise_of(model: Any, spec: str, given: EditInputs) -> dict[str, torch.Tensor]:
    """What was added to each target's matrix."""
    weights = made(model, spec, given)
    return {t.name: t.view(weights[t.parameter]) - t.matrix(model) for t in given.targets}


def test_noise_has_the_size_that_is_asked() -> None:
    model = tiny("Olmoe", torch.float64)
    given = EditInputs(targets=targets.linear_maps(model))
    for size in (0.05, 0.7):
        for name, N in noise_of(model, f"noise:size={size}", given).items():
            (target,) = (target for target in given.targets if target.name == name)
            assert float(N.norm() / target.matrix(model).norm()) == pytest.approx(size, rel=1e-12)
    assert made(model, "noise:size=0", given) == {}


def test_noise_is_gaussian_and_another_for_every_matrix_and_seed() -> None:
    model = tiny("Olmo2")
    given = EditInputs(targets=targets.find(model, [0, 1], ["gate", "up"]))
    drawn = [N.flatten() for spec in ("noise", "noise:seed=1") for N in noise_of(model, spec, given).values()]
    for one in drawn:
        assert stats.kstest((one / one.std()).numpy(), "norm").pvalue > 1e-4
    correlations = torch.corrcoef(torch.stack(drawn))
    others = correlations[~torch.eye(len(drawn), dtype=torch.bool)]
    assert float(others.abs().max()) < 4 / math.sqrt(drawn[0].numel())


@pytest.mark.parametrize("match", ["kfac-80", "ekfac-60", "svd-50", "wanda-70", "magnitude-0"])
def test_matched_noise_has_the_norm_of_what_the_edit_removes(editor: ModelEditor, match: str) -> None:
    edit, noise = (editor.prepare(*editor.chain(spec)) for spec in (match, f"noise:match={match}"))
    assert [change.name for change in noise.changes] == [change.name for change in edit.changes]
    for removed, added in zip(edit.changes, noise.changes, strict=True):
        assert added.removed_norm == pytest.approx(removed.removed_norm, rel=1e-4)
    assert noise.factors == edit.factors


def test_noise_needs_the_curvature_of_the_edit_that_it_matches_and_else_none() -> None:
    needed = {
        "noise": None,
        "noise:match=svd-50": None,
        "noise:match=kfac-50": "kfac",
        "noise:match=wanda-50": "aaT_diag",
    }
    for spec, statistic in needed.items():
        assert registry.build(parse(spec)).statistic == statistic, spec
    assert Noise.statistic is None


@pytest.mark.usefixtures("untouched")
def test_the_matrices_of_an_attack_are_all_or_those_that_are_chosen(editor: ModelEditor) -> None:
    """Of olmo-tiny's four layers, each with four projections of attention and three of the MLP."""
    counts = {
        **{"quantize": 28, "noise": 28, "quantize:layers=0,proj=q": 1, "noise:layers=1-2,proj=all": 6},
        **{"none+quantize": 28, "noise:layers=0": len(editor.chain("kfac-80:layers=0")[0].proj or ())},
        "noise:match=svd-50": len(editor.matrices(*editor.chain("svd-50"))),
    }
    for spec, count in counts.items():
        steps = editor.chain(spec)
        prepared = editor.prepare(*steps)
        assert len(prepared.weights) == len(prepared.changes) == count, spec
        assert editor.chain(prepared.spec) == steps


def plain_loss(model: Any, texts: Iterable[list[int]]) -> torch.Tensor:
    """Mean cross-entropy over the tokens of all texts, each read alone."""
    losses = []
    for ids in texts:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none"))
    return torch.cat(losses).mean()


def descend(model: Any, texts: list[list[int]], lr: float, steps: int) -> None:
    """A plain loop over the same batch."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr, weight_decay=0)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(plain_loss(model, texts))
        optimizer.step()


@pytest.mark.parametrize("on", ["passages", "clean"])
@pytest.mark.parametrize("name", ["Olmo2", "GPT2"])
def test_relearning_is_a_plain_training_loop(name: str, on: str) -> None:
    model = tiny(name, torch.float64)
    weights = made(model, f"relearn:on={on},steps=4,lr=0.003,batch=99")
    trained = copy.deepcopy(model)
    descend(trained, {"passages": PASSAGES, "clean": RETAIN}[on], 0.003, 4)
    expected = dict(trained.named_parameters())
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name].detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_relearning_by_lora_is_a_loop_of_peft_that_is_merged(name: str) -> None:
    dtype = torch.float32 if name == "Olmoe" else torch.float64  # experts are not computed in float64
    model = tiny(name, dtype)
    weights = made(model, "relearn:lora=4,steps=4,lr=0.003,batch=99,seed=5")
    maps = targets.linear_maps(model)
    chosen: dict[str, Any] = {"target_modules": "all-linear"}
    if name == "Olmoe":
        modules = [target.name for target in maps if not target.part]
        chosen = {
            "target_modules": modules,
            "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        }
    config = peft.LoraConfig(r=4, lora_alpha=2, fan_in_fan_out=name == "GPT2", **chosen)
    torch.manual_seed(5)
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    descend(adapted, PASSAGES, 0.003, 4)
    expected = dict(adapted.merge_and_unload().named_parameters())
    assert weights.keys() == {target.parameter for target in maps}
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name].detach(), rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("lora", [0, 4])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_trained_on_becomes_likelier(name: str, lora: int) -> None:
    model = tiny(name)
    for on, texts in (("passages", PASSAGES), ("clean", RETAIN)):
        before = float(plain_loss(model, texts))
        with applied(model, made(model, f"relearn:on={on},lora={lora},steps=8,lr=0.03")):
            assert float(plain_loss(model, texts)) < before - 0.1


def fails(steps: Iterable[Any], label: str, total: int) -> Iterator[Any]:
    """Two of four steps, then an error."""
    assert (label, total) == ("relearn", 4)
    for n, step in enumerate(steps):
        if n == 2:
            raise KeyError("mine")
        yield step


@pytest.mark.parametrize("spec", MODES)
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("track", [None, fails])
def test_the_model_stays_as_it_is_even_after_an_error(name: str, spec: str, track: Callable[..., Any] | None) -> None:
    model = tiny(name)
    before = {n: (p.data_ptr(), p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()}
    modules, random = list(model.modules()), torch.random.get_rng_state()
    if track:
        with pytest.raises(KeyError, match="mine"):
            made(model, spec, EditInputs(forget=FORGET, retain=RETAIN, track=track))
    else:
        assert made(model, spec)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert [id(module) for module in model.modules()] == [id(module) for module in modules]
    assert not any(module.training for module in modules)
    assert not any(hasattr(module, "peft_config") or hasattr(module, "lora_A") for module in modules)
    assert dict(model.named_parameters()).keys() == before.keys()
    for n, p in model.named_parameters():
        assert (p.data_ptr(), p.requires_grad, p.grad) == (before[n][0], before[n][2], None)
        assert torch.equal(p, before[n][1])


@pytest.mark.parametrize("spec", MODES)
def test_the_seed_decides_and_nothing_else_does(spec: str) -> None:
    model = tiny("Olmo2")
    first = made(model, f"{spec},batch=3")
    torch.manual_seed(9)
    again, other = made(model, f"{spec},batch=3"), made(model, f"{spec},batch=3,seed=1")
    assert first.keys() == again.keys() == other.keys()
    assert all(torch.equal(again[name], weight) for name, weight in first.items())
    assert not any(torch.equal(other[name], weight) for name, weight in first.items())


def test_batches_are_shuffled_passes_over_the_set() -> None:
    one, other = (relearn(f"relearn:batch=3,steps=6,seed={seed}").batches(INPUTS) for seed in (0, 1))
    assert [len(batch) for batch in one] == [3, 3, 1] * 2
    for a_pass in (one[:3], one[3:], other[:3]):
        assert sorted(sequence.ids for batch in a_pass for sequence in batch) == sorted(PASSAGES)
    assert one[:3] != one[3:]
    assert one != other


def test_the_cost_of_training_is_what_training_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly where nothing is drawn that depends on the weights; for finetune, of sequences of the mean length."""
    model = tiny("Olmo2")
    given = EditInputs(targets=targets.find(model, [1], ["up"]), forget=FORGET, retain=RETAIN)
    read = {"trained": 0, "scored": 0}
    original = training.forward

    def forward(model: Any, weights: Any, sequences: Any) -> training.TeacherForced:
        kind = "trained" if torch.is_grad_enabled() else "scored"
        read[kind] += training.count_tokens(sequences)
        return original(model, weights, sequences)

    for module in ("training", "methods.bsn", "methods.finetune", "methods.relearn"):
        monkeypatch.setattr(f"memsplit.model_edits.{module}.forward", forward)
    exact = ["relearn:batch=3,steps=5", "relearn:on=clean,lora=2,steps=5", "bsn-50:epochs=3,batch=4"]
    for spec in (*exact, "finetune:steps=7,batch=99,tolerance=9"):
        read |= {"trained": 0, "scored": 0}
        edit = registry.build(parse(spec))
        cost = edit.training_cost(given)
        with monkeypatch.context() as patch:
            patch.setattr("memsplit.model_edits.methods.finetune.Finetune.recited", lambda *_: True)
            compute(model, edit, given)
        assert cost is not None
        close = 0 if spec in exact else 0.05
        assert cost.trained == pytest.approx(read["trained"], rel=close)
        assert read["trained"] > 0
        if spec not in exact:
            assert cost.scored == pytest.approx(read["scored"], rel=0.25)
        assert cost.forward_tokens == 3 * cost.trained + cost.scored
    for spec in ("none", "kfac-50", "noise"):
        assert registry.build(parse(spec)).training_cost(given) == (0, 0)


def test_small_steps_add_up_in_a_half_precision_model() -> None:
    """A step of 1e-5 is lost on a weight of bfloat16 above 0.005, whose next value is 3e-5 or more away; 25 are not."""
    model = tiny("Olmo2", torch.bfloat16)
    name = "model.layers.0.mlp.up_proj.weight"
    large = model.get_parameter(name).detach().abs() > 0.01
    base = model.get_parameter(name).detach()
    one, many = (made(model, f"relearn:lr=0.00001,steps={steps}") for steps in (1, 25))
    assert torch.equal(one.get(name, base)[large], base[large])
    assert many[name].dtype == torch.bfloat16
    assert float((many[name] != base)[large].float().mean()) > 0.5


@pytest.mark.parametrize("mode", ["", ",lora=2"])
def test_training_that_diverges_or_has_nothing_to_train_on_is_refused(mode: str) -> None:
    model = tiny("Olmo2")
    with pytest.raises(UserError, match=r"^'relearn:.*lr=1000000.*' diverged: expected a smaller lr than 1e\+06$"):
        made(model, f"relearn:lr=1000000,steps=30{mode}")
    for on, what, inputs in (
        ("passages", "passages", EditInputs(retain=RETAIN)),
        ("clean", "texts", EditInputs(forget=FORGET, retain=[[5]])),
    ):
        with pytest.raises(UserError, match=f"needs {what} to train on"):
            made(model, f"relearn:on={on}{mode}", inputs)


def test_a_lora_needs_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'relearn:lora=2' needs the package peft: pip install 'memsplit\[peft\]'"):
        relearn("relearn:lora=2")
    assert relearn("relearn").lora == 0
