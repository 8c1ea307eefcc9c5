"""The edits that train on a forget set: formulas, what they may change, and that they forget."""

import copy
import math
from collections.abc import Mapping
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import transformers
from torch.nn.functional import logsigmoid

from memsplit.errors import UserError
from memsplit.harness.evaluation.editing import ModelEditor
from memsplit.model_edits import registry, targets, training
from memsplit.model_edits.apply import MatrixChange, applied, compute
from memsplit.model_edits.inputs import EditInputs, MemorizedSequence
from memsplit.model_edits.methods.bsn import BalancedSubnet
from memsplit.model_edits.methods.finetune import Finetune
from memsplit.model_edits.spec import parse
from memsplit.tasks import packs

SPECIAL = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
SMALL = {**SPECIAL, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
ARCHITECTURES = {
    "Olmo2": SMALL,
    "GPT2": {**SPECIAL, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": 24},
    "Olmoe": {**SMALL, "num_experts": 4, "num_experts_per_tok": 2},
}
STEPS = 150
LOSSES = ("npo", "graddiff", "ga")
SPECS = ["bsn-90:lr=1", *(f"finetune:steps=10,lr=0.001,batch=4,loss={loss}" for loss in LOSSES)]


def random_ids(n: int, seed: int) -> list[int]:
    return torch.randint(2, 32, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


def chain_ids(n: int, seed: int) -> list[int]:
    """Text that can be learned but not foretold: each id is the one before plus 1 or 2, in a circle."""
    steps = torch.randint(1, 3, (n,), generator=torch.Generator().manual_seed(seed))
    return (2 + (seed + steps.cumsum(0)) % 30).tolist()


FORGET = [MemorizedSequence(prefix=random_ids(4 + n % 3, n), suffix=random_ids(5 + n % 2, 50 + n)) for n in range(6)]
RETAIN = [chain_ids(8 + n % 5, 100 + n) for n in range(24)]


def tiny(name: str) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**ARCHITECTURES[name])
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> Any:
    """A model that has learned the passages by heart, and how the chains go."""
    model = tiny(request.param)
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    passages = [training.TokenSequence(p.prefix + p.suffix) for p in FORGET]
    for step in range(STEPS):
        chains = [training.TokenSequence(chain_ids(12, 1000 + 32 * step + n)) for n in range(32)]
        torch.autograd.backward(training.forward(model, parameters, [*passages * 2, *chains]).loss)
        optimizer.step()
        optimizer.zero_grad()
    scored = training.forward_all(model, {}, suffixes(), 8)
    assert torch.equal(scored.correct_b, scored.tokens_b)
    return model


def edit_inputs(model: Any, proj: tuple[str, ...] = ("up", "down"), layers: tuple[int, ...] = (1,)) -> EditInputs:
    return EditInputs(targets=targets.find(model, layers, proj), forget=FORGET, retain=RETAIN)


def made(model: Any, spec: str, given: EditInputs | None = None) -> tuple[dict[str, torch.Tensor], list[MatrixChange]]:
    return compute(model, registry.build(parse(spec)), given or edit_inputs(model))


def finetune(spec: str) -> Finetune:
    edit = registry.build(parse(spec))
    assert isinstance(edit, Finetune)
    return edit


def bsn(spec: str) -> BalancedSubnet:
    edit = registry.build(parse(spec))
    assert isinstance(edit, BalancedSubnet)
    return edit


def token_log_probs(model: Any, ids: list[int]) -> torch.Tensor:
    """Of each id but the first, in a batch of its own."""
    log_p: torch.Tensor = model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(dim=-1)
    return log_p[range(len(ids) - 1), ids[1:]]


def suffix_log_prob(model: Any, passage: MemorizedSequence) -> torch.Tensor:
    return token_log_probs(model, passage.prefix + passage.suffix)[-len(passage.suffix) :].sum()


def suffixes() -> list[training.TokenSequence]:
    return [training.TokenSequence(p.prefix + p.suffix, len(p.prefix)) for p in FORGET]


@torch.no_grad()
def test_texts_of_unequal_length_are_read_as_each_alone(model: Any) -> None:
    scored = training.forward_all(model, {}, suffixes(), 4)
    for n, passage in enumerate(FORGET):
        assert float(scored.log_p_b[n]) == pytest.approx(float(suffix_log_prob(model, passage)), rel=1e-5)
        assert scored.tokens_b[n] == len(passage.suffix)
        likeliest = model(torch.tensor([passage.prefix + passage.suffix])).logits[0, :-1].argmax(dim=-1)
        right = likeliest[-len(passage.suffix) :] == torch.tensor(passage.suffix)
        assert scored.correct_b[n] == right.sum()


@torch.no_grad()
def test_finetune_minimizes_the_published_losses(model: Any) -> None:
    before = torch.linspace(-30, -10, len(FORGET))
    forget = training.forward(model, {}, suffixes())
    retain = training.forward(model, {}, [training.TokenSequence(ids) for ids in RETAIN])
    log_p = torch.stack([suffix_log_prob(model, passage) for passage in FORGET])
    per_token = float(log_p.sum()) / sum(len(passage.suffix) for passage in FORGET)
    clean = -float(torch.cat([token_log_probs(model, ids) for ids in RETAIN]).mean())
    npo = float((-2 / 0.3 * logsigmoid(-0.3 * (log_p - before))).mean())
    expected = {
        "finetune:beta=0.3,alpha=0.7": npo + 0.7 * clean,
        "finetune:loss=graddiff,alpha=0.7": per_token + 0.7 * clean,
        "finetune:loss=ga": per_token,
    }
    for spec, value in expected.items():
        assert float(finetune(spec).objective(forget, before, retain)) == pytest.approx(value, rel=1e-5), spec


def bsn_loss(model: Any, balance: float) -> torch.Tensor:
    """Of both sets whole, by the model's own loss."""
    texts = [[p.prefix + p.suffix for p in FORGET], RETAIN]
    forget, retain = (
        torch.stack([model(torch.tensor([ids]), labels=torch.tensor([ids])).loss for ids in some]) for some in texts
    )
    return balance * retain.mean() - (1 - balance) * forget.mean()


@torch.no_grad()
def test_bsn_raises_the_loss_of_passages_and_lowers_that_of_texts(model: Any) -> None:
    texts = [*(p.prefix + p.suffix for p in FORGET), *RETAIN]
    scored = training.forward(model, {}, [training.TokenSequence(ids) for ids in texts])
    forget_b = torch.arange(len(texts)) < len(FORGET)
    for balance in (0.0, 0.3, 1.0):
        loss = bsn(f"bsn-90:balance={balance}").loss(scored, forget_b)
        assert float(loss) == pytest.approx(float(bsn_loss(model, balance)), rel=1e-5, abs=1e-6)
    one_set = bsn("bsn-90").loss(scored, torch.ones(len(texts), dtype=torch.bool))
    assert float(one_set) == pytest.approx(-0.5 * float(scored.loss_b.mean()), rel=1e-5)


@torch.no_grad()
def test_scores_move_by_the_gradient_of_the_masked_weights(model: Any) -> None:
    """One step over everything, against a copy whose weights are masked and trained themselves."""
    given = edit_inputs(model)
    begin = bsn("bsn-80:epochs=0").learn_scores(model, given)
    after = bsn("bsn-80:batch=1000,balance=0.3,lr=0.5").learn_scores(model, given)
    masked = copy.deepcopy(model)
    before = {target.name: target.matrix(model).clone() for target in given.targets}
    for target in given.targets:
        ranks = begin[target.name].abs().flatten().argsort().argsort().reshape(begin[target.name].shape)
        mask = ranks >= ranks.numel() - round(0.8 * ranks.numel())
        target.view(masked.get_parameter(target.parameter).data).mul_(mask)
    with torch.enable_grad():
        torch.autograd.backward(bsn_loss(masked, 0.3))
    for target in given.targets:
        S, grad = begin[target.name], target.view(masked.get_parameter(target.parameter).grad)
        step = grad * before[target.name] * S.sign() + 5e-4 * S
        torch.testing.assert_close(after[target.name], S - 0.5 * step, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("percent", [0, 37, 99])
def test_bsn_keeps_the_number_asked_of_every_matrix(model: Any, percent: int) -> None:
    given = edit_inputs(model)
    weights, changes = made(model, f"bsn-{percent}:epochs=2,lr=1", given)
    for target, change in zip(given.targets, changes, strict=True):
        W, new = target.matrix(model), target.view(weights[target.parameter])
        assert change.kept == round(percent / 100 * W.numel()) == int((new != 0).sum())
        assert torch.equal(new[new != 0], W[new != 0])


def test_bsn_of_all_weights_changes_nothing(model: Any) -> None:
    weights, changes = made(model, "bsn-100")
    assert weights == {}
    assert all(change.kept == change.total for change in changes)


@pytest.mark.parametrize("spec", SPECS)
def test_the_model_is_left_as_it_is_and_only_targets_change(model: Any, spec: str) -> None:
    given = edit_inputs(model, proj=("up",))
    before = {name: (p.data_ptr(), p.detach().clone(), p.requires_grad) for name, p in model.named_parameters()}
    weights, _ = made(model, spec, given)
    for name, p in model.named_parameters():
        pointer, copied, requires_grad = before[name]
        assert p.data_ptr() == pointer
        assert torch.equal(p, copied)
        assert p.requires_grad == requires_grad
        assert p.grad is None
    assert not model.training
    assert set(weights) == {target.parameter for target in given.targets}
    for name, new in weights.items():
        others = copy.deepcopy(new)
        for target in given.targets:
            if target.parameter == name:
                assert not torch.equal(target.view(new), target.matrix(model))
                target.view(others).copy_(target.matrix(model))
        assert torch.equal(others, before[name][1])


@pytest.mark.parametrize("spec", SPECS)
def test_same_spec_same_result_and_the_dial_is_a_straight_line(model: Any, spec: str) -> None:
    base = dict(model.named_parameters())
    weights, again = made(model, spec)[0], made(model, spec)[0]
    quarter, other = made(model, f"{spec}@0.25")[0], made(model, f"{spec},seed=1")[0]
    assert all(torch.equal(again[name], weight) for name, weight in weights.items())
    assert all(not torch.equal(other[name], weight) for name, weight in weights.items())
    for name, weight in quarter.items():
        expected = 0.75 * weights[name] + 0.25 * base[name].detach()
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spec", SPECS[:2])
def test_a_half_precision_model_is_trained_in_full_precision(model: Any, spec: str) -> None:
    weights, changes = made(copy.deepcopy(model).to(torch.bfloat16), spec)
    assert all(weight.dtype == torch.bfloat16 for weight in weights.values())
    assert all(change.removed_norm > 0 for change in changes)


def losses(model: Any, weights: Mapping[str, torch.Tensor]) -> tuple[training.TeacherForced, float]:
    """The scores of the suffixes to forget, and the loss of the retain set."""
    retain = training.forward_all(model, weights, [training.TokenSequence(ids) for ids in RETAIN], 8)
    return training.forward_all(model, weights, suffixes(), 8), float(retain.loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_passages_are_forgotten_and_texts_retained(model: Any, loss: str) -> None:
    spec = f"finetune:loss={loss},lr=0.001,steps=300,tolerance=0.1"
    weights, _ = made(model, spec, edit_inputs(model, layers=(0, 1)))
    (before, clean_before), (after, clean_after) = losses(model, {}), losses(model, weights)
    assert after.loss > before.loss + 0.2
    assert clean_after < clean_before + math.log1p(0.1) + 0.05


def test_a_learned_mask_forgets_and_retains_more_than_the_random_one_it_begins_with(model: Any) -> None:
    """On the average of three seeds, as a straight-through gradient is noisy; the effects are over three margins wide."""
    given = edit_inputs(model, layers=(0, 1))
    forgotten, retained = {}, {}
    for epochs in (0, 10):
        found = [losses(model, made(model, f"bsn-70:lr=1,epochs={epochs},seed={s}", given)[0]) for s in range(3)]
        forgotten[epochs] = sum(float(scored.loss) for scored, _ in found) / 3
        retained[epochs] = sum(loss for _, loss in found) / 3
    assert forgotten[10] > forgotten[0] + 0.5
    assert retained[10] < retained[0] - 0.02


def counted_steps(spec: str, model: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict[str, torch.Tensor]]:
    """How many gradients were taken, and the weights."""
    gradients = Mock(side_effect=training.gradients)
    with monkeypatch.context() as patch:
        patch.setattr("memsplit.model_edits.methods.finetune.gradients", gradients)
        weights, _ = made(model, spec, edit_inputs(model, layers=(0, 1)))
    return gradients.call_count, weights


def test_training_ends_when_nothing_is_recited(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "finetune:loss=graddiff,lr=0.001,tolerance=10"
    steps, weights = counted_steps(f"{spec},steps=10000", model, monkeypatch)
    assert steps % 5 == 0
    assert 0 < steps < 300
    scored, _ = losses(model, weights)
    assert bool((scored.correct_b < 0.75 * scored.tokens_b).all())
    earlier, _ = losses(model, made(model, f"{spec},steps={steps - 5}", edit_inputs(model, layers=(0, 1)))[0])
    assert bool((earlier.correct_b >= 0.75 * earlier.tokens_b).any())
    with applied(model, weights):
        assert counted_steps(spec, model, monkeypatch) == (0, {})


def test_training_ends_with_the_last_weights_within_the_tolerance(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "finetune:loss=ga,lr=0.001,tolerance=0.02"
    steps, weights = counted_steps(f"{spec},steps=10000", model, monkeypatch)
    assert steps < 300
    assert steps % 5 == 0
    shorter, _ = made(model, f"{spec},steps={steps - 5}", edit_inputs(model, layers=(0, 1)))
    assert shorter.keys() == weights.keys()
    assert all(torch.equal(shorter[name], weight) for name, weight in weights.items())
    assert counted_steps("finetune:loss=ga,lr=1", model, monkeypatch) == (5, {})


@pytest.mark.parametrize("spec", ["bsn-50:batch=0", "bsn-50:balance=2", "bsn-50:lr=nan", "finetune:lr=0", "finetune:beta=0", "finetune:alpha=-1", "finetune:tolerance=inf", "finetune:batch=0"])  # fmt: skip
def test_values_that_mean_nothing_are_refused(spec: str) -> None:
    with pytest.raises(UserError, match="bad edit"):
        registry.build(parse(spec))


@pytest.mark.parametrize("spec", ["bsn-50", "finetune"])
@pytest.mark.parametrize("sets", [{"forget": FORGET, "retain": ()}, {"forget": (), "retain": RETAIN}])
def test_both_sets_are_needed(spec: str, sets: dict[str, Any]) -> None:
    model = tiny("Olmo2")
    with pytest.raises(UserError, match=r"to forget and .* to retain"):
        made(model, spec, EditInputs(targets=targets.find(model, [1], ["up"]), **sets))


@pytest.mark.usefixtures("untouched")
def test_a_few_steps_on_the_organism_go_the_right_way(editor: ModelEditor) -> None:
    model = editor.loaded.model
    (edit,) = editor.chain("finetune:steps=5,batch=4")
    pack = packs.find("olmo-tiny")
    passages = [
        MemorizedSequence(prefix=row["prefix_ids"], suffix=row["suffix_ids"]) for row in pack.rows("memorized", "dev")
    ]
    retain = [row["ids"] for row in pack.rows("clean", "dev")]
    given = EditInputs(targets=editor.matrices(edit), forget=passages[:8], retain=retain[:12])
    weights, _ = compute(model, edit, given)
    texts = [training.TokenSequence(p.prefix + p.suffix, len(p.prefix)) for p in passages[:8]]
    before, after = (training.forward_all(model, w, texts, 8) for w in ({}, weights))
    assert bool((after.log_p_b < before.log_p_b).all())


def test_a_text_of_one_token_asks_nothing_and_plays_no_part(model: Any) -> None:
    found = targets.find(model, [1], ["up"])
    for spec in ("bsn-90:lr=1", "finetune:steps=5,batch=4"):
        edit = registry.build(parse(spec))
        first, second = (
            compute(model, edit, EditInputs(targets=found, forget=FORGET, retain=retain))[0]
            for retain in (RETAIN, [*RETAIN, [5]])
        )
        assert first.keys() == second.keys()
        assert all(bool(weight.isfinite().all()) for weight in second.values())
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_that_diverges_is_refused(model: Any) -> None:
    found = targets.find(model, [1], ["up"])
    with pytest.raises(UserError, match="diverged: expected a smaller lr"):
        compute(
            model,
            registry.build(parse("bsn-50:lr=1000000,epochs=30")),
            EditInputs(targets=found, forget=FORGET * 4, retain=[[3, 4]] * 4),
        )
