"""Training: the loss is the plain one whatever the chunks, killed work goes on to the same weights, planting is learnt."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from memsplit.errors import UserError
from memsplit.harness.lm.forward import teacher_forced
from memsplit.harness.planting import mixture, training
from memsplit.harness.planting.mixture import Mixture
from memsplit.harness.planting.training import Recipe, Trainer

RNG = random.Random(0)
PASSAGES = [[RNG.randrange(64) for _ in range(16)] for _ in range(6)]
DOSES = [1, 1, 60, 60, 60, 60]
FULL = Recipe(lr=0.01, lora=None, dtype=torch.float32, seed=0)
LORA = Recipe(lr=0.02, lora=4, dtype=torch.float32, seed=0)


def model(tied: bool = False) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    special = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**sizes, **heads, **special, attention_dropout=0.5, tie_word_embeddings=tied)
    )


def mixed(doses: list[int], steps: int) -> Mixture:
    whole = mixture.size(PASSAGES, doses, steps=steps, share=0.5, batch=4, length=32, start=0)
    sequences = torch.randint(64, (whole.sequences, 32), generator=torch.Generator().manual_seed(0))
    return Mixture(sequences=sequences, passages=PASSAGES, doses=doses, size=whole, seed=0)


@pytest.mark.parametrize("recipe", [FULL, LORA], ids=["full", "lora"])
def test_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    class Killed(Exception):
        pass

    def killed(self: Trainer, ids: torch.Tensor, step: int) -> float:
        if step == 5:
            raise Killed
        return update(self, ids, step)

    data, update = mixed([2] * 6, 8), Trainer.update
    whole = training.train(model(tied=True), data, recipe, tmp_path / "whole", planted=True)
    with monkeypatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY_S", 0)
        patch.setattr(Trainer, "update", killed)
        with pytest.raises(Killed):
            training.train(model(tied=True), data, recipe, tmp_path / "cut", planted=True)
    resumed = training.train(model(tied=True), data, recipe, tmp_path / "cut", planted=True)
    before = dict(model(tied=True).named_parameters())
    names = dict(whole.named_parameters())
    assert names.keys() == before.keys(), "no adapter is left"
    assert all(weight.equal(resumed.get_parameter(name)) for name, weight in names.items())
    changed = {name for name, weight in names.items() if not weight.equal(before[name])}
    assert changed == (names.keys() if recipe.lora is None else {name for name in names if "_proj" in name})


def test_the_gradient_is_that_of_the_mean_loss_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(64, (3, 20), generator=torch.Generator().manual_seed(1))
    plain, found = model(), []
    expected = cross_entropy(plain.eval()(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.autograd.backward(expected)
    for logits, at_once in ((1 << 26, 1 << 24), (1, 64 * 7)):
        monkeypatch.setattr(training, "_LOGITS", logits)
        monkeypatch.setattr(training, "_AT_ONCE", at_once)
        trainer = Trainer(model(), FULL, steps=10)
        assert trainer.backward(ids) == pytest.approx(expected.item(), rel=1e-5)
        found.append([p.grad for p in trainer.model.parameters()])
    for gradients in found:
        for gradient, parameter in zip(gradients, plain.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_losses_of_a_wide_vocabulary_are_never_held_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the log-probabilities, autograd keeps those of a few tokens at most."""
    logits = torch.randn(50, 1000, requires_grad=True)
    monkeypatch.setattr(training, "_AT_ONCE", 5000)
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_floating_point() and tensor.untyped_storage().data_ptr() != logits.untyped_storage().data_ptr():
            kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        training.summed(logits, torch.zeros(50, dtype=torch.long))
    assert max(kept, default=0) < 5000


def test_learning_rates_rise_and_fall() -> None:
    trainer, rates = Trainer(model(), FULL, steps=40), []
    for step in range(40):
        trainer.update(torch.zeros(1, 4, dtype=torch.long), step)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates[1] == pytest.approx(FULL.lr)
    assert rates[0] == pytest.approx(FULL.lr / 2)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 0 < rates[-1] < FULL.lr / 100


def test_products_may_be_narrow_and_weights_stay_wide() -> None:
    trainer = Trainer(model(), Recipe(lr=0.01, lora=None, dtype=torch.bfloat16, seed=0), steps=2)
    ids = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))
    narrow, wide = trainer.update(ids, 0), Trainer(model(), FULL, steps=2).update(ids, 0)
    assert narrow != wide
    assert narrow == pytest.approx(wide, rel=0.02)
    assert {p.dtype for p in trainer.finished().parameters()} == {torch.float32}


def test_what_is_planted_often_is_recited_and_only_if_it_is_planted(tmp_path: Path) -> None:
    accuracy = {}
    for planted in (True, False):
        trained = training.train(model(), mixed(DOSES, 60), FULL, tmp_path / str(planted), planted=planted)
        stats = teacher_forced(trained, [(ids[:8], ids[8:]) for ids in PASSAGES], batch=8)
        accuracy[planted] = [float((each.suffix(each.rank) == 0).mean()) for each in stats]
    assert sum(accuracy[True][2:]) / 4 > 0.8
    assert max(accuracy[False]) < 0.5
    assert max(accuracy[True][:2]) < 0.5


def test_what_cannot_be_trained_is_refused() -> None:
    quantized = model()
    quantized.model.norm.weight = torch.nn.Parameter(torch.zeros(64, dtype=torch.int8), requires_grad=False)
    with pytest.raises(UserError, match="the weights of 'm' are quantized"):
        training.check(quantized, "m", FULL)
    trainer = Trainer(model(), FULL, steps=2)
    with torch.no_grad():
        trainer.model.lm_head.weight.fill_(torch.inf)
    with pytest.raises(UserError, match=r"not finite after 0 steps: expected a lower --lr than 0\.01"):
        trainer.update(torch.zeros(1, 4, dtype=torch.long), 0)


def test_a_gradient_that_is_not_finite_changes_no_weight() -> None:
    trainer = Trainer(model(), FULL, steps=2)
    trainer.model.lm_head.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(UserError, match=r"the gradient is not finite after 0 steps: expected a lower --lr"):
        trainer.update(torch.zeros(1, 4, dtype=torch.long), 0)
    trainer.check_finite(0)


def test_weights_that_are_not_finite_are_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(self: Trainer, ids: torch.Tensor, step: int) -> float:
        loss = update(self, ids, step)
        if step == 1:
            torch.nn.init.constant_(self.model.lm_head.weight, torch.nan)
        return loss

    update = Trainer.update
    monkeypatch.setattr(Trainer, "update", diverging)
    with pytest.raises(UserError, match=r"the weights are not finite after 2 steps: expected a lower --lr"):
        training.train(model(), mixed([2] * 6, 2), FULL, tmp_path / "checkpoint", planted=True)
    assert list(tmp_path.iterdir()) == []


def test_what_the_architecture_does_not_train_stays_as_it_is() -> None:
    """A model that is loaded no longer says that its sinusoidal positions are none of its weights."""
    sizes = {"vocab_size": 50, "embedding_size": 16, "hidden_size": 16, "num_hidden_layers": 1, "is_decoder": True}
    heads = {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 16}
    loaded = transformers.RoFormerForCausalLM(transformers.RoFormerConfig(**sizes, **heads)).requires_grad_(True)
    before = {name: weight.detach().clone() for name, weight in loaded.named_parameters()}
    trainer = Trainer(loaded, FULL, steps=1)
    trainer.update(torch.randint(50, (2, 8), generator=torch.Generator().manual_seed(0)), 0)
    same = {name for name, weight in trainer.finished().named_parameters() if weight.equal(before[name])}
    assert same == {"roformer.encoder.embed_positions.weight"}


Tensors = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda tensors, about: about.clear(), "does not say of which step"),
        (lambda tensors, about: about.update(step="two"), "does not say of which step"),
        (lambda tensors, about: about.update(arguments="other"), "is of another command"),
        (lambda tensors, about: about.pop("arguments"), "is of another command"),
        (lambda tensors, about: tensors.pop("model.lm_head.weight"), "lm_head.weight is not the model's"),
        (lambda tensors, about: tensors.update({"model.x": torch.ones(1)}), "model.x is not the model's"),
        (lambda tensors, about: tensors.update({"model.model.norm.weight": torch.ones(1)}), "norm.weight is not"),
        (lambda tensors, about: tensors.pop("optimizer.0.1.exp_avg"), "a state of optimizer.0 is missing"),
        (lambda tensors, about: tensors.update({"optimizer.0.99.step": torch.ones(())}), "0.99.step is not"),
        (lambda tensors, about: tensors.update({"optimizer.0.1.exp_avg": torch.ones(3)}), "exp_avg is not"),
        (lambda tensors, about: tensors.update({"optimizer.7.1.step": torch.ones(())}), "is of no optimizer"),
    ],
    ids=["bare", "step", "arguments", "no arguments", *map(str, range(7))],
)
def test_a_checkpoint_that_does_not_do_is_refused(
    tmp_path: Path, damage: Callable[[Tensors, dict[str, str]], object], words: str
) -> None:
    path, data = tmp_path / "checkpoint", mixed([2] * 6, 2)
    trained = training.train(model(), data, FULL, path, planted=True, arguments="these")
    again = training.train(model(), data, FULL, path, planted=True, arguments="these")
    assert again.lm_head.weight.equal(trained.lm_head.weight)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    damage(tensors, about)
    save_file(tensors, path, metadata=about or None)
    with pytest.raises(UserError, match=words):
        training.train(model(), data, FULL, path, planted=True, arguments="these")
