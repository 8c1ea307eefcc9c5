"""Train a little, to see whether memory comes back: the attack that tells what is gone from what is only hidden.

Sources: training on a part and testing on the rest, "Do Unlearning Methods Remove Information from Language Model
Weights?", arXiv 2410.08827; training on other text, "Jogging the Memory of Unlearned Models", arXiv 2406.13356; LoRA,
arXiv 2106.09685.
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from ...errors import Diverged, UserError
from ..edit import TrainingCost
from ..inputs import EditInputs
from ..lazy import torch
from ..registry import Edit, EditedWeight, register_edit
from ..targets import linear_maps
from ..training import TokenSequence, count_tokens, cycle, forward, wide


@register_edit("relearn")
@dataclass(frozen=True, kw_only=True)
class Relearn(Edit):
    """Trains all weights, or a LoRA, by AdamW without weight decay.

    The loss is the mean cross-entropy per token over a batch: of whole passages, prefix and suffix, or of clean text.
    The sequences are shuffled anew for each pass over them. Trained weights are held in float32 or wider and cast to
    the model's type in each step; the model itself is not changed.

    Attributes:
        on: ``passages`` trains on memorized passages of the dev part, of which none is scored on test; ``clean`` on
            other text, as anybody may who finetunes the edited model (benign).
        steps: number of steps.
        lr: learning rate.
        batch: sequences a step; the last of a pass over all of them may be fewer.
        lora: 0 trains all weights. Above 0 it is the rank of a LoRA of the library ``peft`` on every linear map of the
            model's layers, with α half the rank and no dropout, for models whose optimizer does not fit into memory.
            The gate and up projections of an expert share one.
        seed: seed of the batches, and of the LoRA's first weights.
    """

    summary = "train on memorized passages of the dev part, or on its clean text, to bring memory back"
    source = "arXiv 2410.08827, arXiv 2406.13356"
    needs_forget_set = True
    targeted = False
    attack = True

    on: Literal["passages", "clean"] = "passages"
    steps: int = 20
    lr: float = 3e-4
    batch: int = 30
    lora: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 < self.lr <= 1e6:
            raise UserError(f"bad edit '{self.spec}': expected a batch above 0, and an lr above 0, up to a million")
        if self.lora and importlib.util.find_spec("peft") is None:
            raise UserError(f"'{self.spec}' needs the package peft: pip install 'memsplit[peft]'")

    def new_weights(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, EditedWeight]]:
        """Every parameter that is trained."""
        train = self.train_lora if self.lora else self.train_all
        for name, weight in train(model, inputs):
            if not bool(weight.isfinite().all()):
                raise self._diverged()
            yield name, EditedWeight(weight=weight, kept=0, total=0)

    def training_cost(self, inputs: EditInputs) -> TrainingCost:
        """The tokens of all batches."""
        return TrainingCost(trained=sum(map(count_tokens, self.batches(inputs))))

    def batches(self, inputs: EditInputs) -> list[list[TokenSequence]]:
        """The sequences of each step.

        Raises:
            UserError: there are none.
        """
        ids = [each.prefix + each.suffix for each in inputs.forget] if self.on == "passages" else inputs.retain
        sequences = [TokenSequence(each) for each in ids if len(each) > 1]
        if not sequences:
            raise UserError(f"'{self.spec}' needs {'passages' if self.on == 'passages' else 'texts'} to train on")
        generator = torch.Generator().manual_seed(self.seed)
        return list(islice(cycle(sequences, self.batch, generator), self.steps))

    def train_all(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, torch.Tensor]]:
        """Every floating parameter by name, after training, in float32 or wider."""
        old = {name: p.detach() for name, p in model.named_parameters() if p.is_floating_point()}
        trained = {name: wide(p).clone().requires_grad_() for name, p in old.items()}
        self._descend(model, inputs, trained, lambda: {name: trained[name].to(p.dtype) for name, p in old.items()})
        for name, weight in trained.items():
            yield name, weight.detach()

    def train_lora(self, model: torch.nn.Module, inputs: EditInputs) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight that a LoRA adapts, by its parameter's name, with the LoRA added, in float32 or wider."""
        from peft.tuners.lora import Linear, ParamWrapper  # optional: the extra memsplit[peft]

        adapted = self._adapted(model)
        trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
        self._descend(adapted, inputs, trained, lambda: trained)
        for name, module in adapted.named_modules():
            if isinstance(module, Linear | ParamWrapper):
                stored = getattr(module, "parameter_name", "weight")
                parameter = f"{name.replace('.base_layer', '')}.{stored}"
                yield parameter, wide(model.get_parameter(parameter).detach()) + module.get_delta_weight("default")

    def _adapted(self, model: torch.nn.Module) -> torch.nn.Module:
        """A copy of the model's modules around the model's own tensors, with a LoRA on each linear map."""
        import peft  # optional: the extra memsplit[peft]

        shared: dict[int, object] = {id(p): torch.nn.Parameter(p.data, requires_grad=False) for p in model.parameters()}
        adapted = copy.deepcopy(model, shared)
        found = linear_maps(model)
        config = peft.LoraConfig(
            r=self.lora,
            lora_alpha=self.lora / 2,  # type: ignore[arg-type]  # it is only divided by r
            target_modules=[target.name for target in found if not target.part],
            target_parameters=sorted({target.parameter for target in found if target.part}),
            fan_in_fan_out=any(target.transposed for target in found if not target.part),
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            peft.inject_adapter_in_model(config, adapted)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = wide(parameter.data)
        return adapted

    def _descend(
        self,
        model: torch.nn.Module,
        inputs: EditInputs,
        trained: Mapping[str, torch.Tensor],
        weights: Callable[[], Mapping[str, torch.Tensor]],
    ) -> None:
        """Train these tensors, from which ``weights`` makes those that the model is called with.

        Raises:
            Diverged: the loss is not finite.
        """
        tensors = list(trained.values())
        optimizer = torch.optim.AdamW(tensors, self.lr, weight_decay=0)
        for batch in inputs.track(self.batches(inputs), self.name, self.steps):
            with torch.enable_grad():
                loss = forward(model, weights(), batch).loss
                gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
            if not bool(loss.isfinite()):
                raise self._diverged()
            for tensor, gradient in zip(tensors, gradients, strict=True):
                tensor.grad = gradient
            optimizer.step()

    def _diverged(self) -> Diverged:
        return Diverged(f"'{self.spec}' diverged: expected a smaller lr than {self.lr:g}")
