"""Continue a model's training: all weights, or adapters that are merged at the end; a killed run goes on bit for bit.

Dropout is off, as it is wherever a model is scored here. Weights and the optimizer's states are float32.
"""

from __future__ import annotations

import copy
import importlib.util
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint as recomputed
from transformers import get_scheduler

from ...errors import UserError
from ...model_edits.architecture.logits import vocabulary
from ..common import checkpoint
from ..common.progress import track
from .mixture import Mixture

WARMUP = 0.05
"""Share of the steps over which the learning rate rises linearly from 0; over the others it falls to 0 as a cosine."""
CLIP = 1.0
"""Greatest norm of the gradient; a longer gradient is scaled down to it."""
BETAS, DECAY = (0.9, 0.95), 0.01
"""AdamW's."""
SAVE_EVERY_S = 300.0
"""Seconds between checkpoints."""
_LOGITS, _AT_ONCE = 1 << 26, 1 << 24
"""Most logits of a forward pass (of one sequence at least), and of those whose losses are computed at once."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        lr: highest learning rate.
        lora: rank of the adapters; ``None`` to train all weights.
        dtype: the type that products are computed in.
        seed: of the adapters' first values.
    """

    lr: float
    lora: int | None
    dtype: torch.dtype
    seed: int


def check(model: Any, name: str, recipe: Recipe) -> None:
    """Refuse what cannot be trained.

    Raises:
        UserError: the weights are quantized, or adapters are wanted and the package for them is missing.
    """
    narrow = (n for n, p in model.named_parameters() if not p.is_floating_point() or p.itemsize < 2)
    if getattr(model, "hf_quantizer", None) is not None or next(narrow, None):
        raise UserError(f"the weights of {name!r} are quantized: expected --dequantize, or a model in floating point")
    if recipe.lora is not None and importlib.util.find_spec("peft") is None:
        raise UserError("--lora needs the package peft: pip install 'memsplit[peft]'")


class Trainer:
    """A model in training.

    Args:
        model: changed in place.
        recipe: how it is trained.
        steps: of the whole training.

    Raises:
        UserError: adapters are wanted, and the model has no place for them.
    """

    def __init__(self, model: Any, recipe: Recipe, steps: int) -> None:
        self.recipe = recipe
        self.model = model.eval()
        if recipe.lora is not None:
            self.model = _adapted(model, recipe.lora, recipe.seed)
        else:
            kept = _frozen(model)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name not in kept)
        self.optimizer = torch.optim.AdamW(self._trained(), lr=recipe.lr, betas=BETAS, weight_decay=DECAY)
        warmup = max(1, round(WARMUP * steps))
        scheduler = get_scheduler("cosine", self.optimizer, num_warmup_steps=warmup, num_training_steps=steps + 1)
        self._rate = scheduler.lr_lambdas[0]

    def update(self, ids: torch.Tensor, step: int) -> float:
        """Take the step of this number, from 0 on, on ids [batch, length]; returns the loss, in nats a token.

        Raises:
            UserError: the loss or its gradient is not finite; no weight is changed then.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * self._rate(step + 1)
        loss = self.backward(ids)
        if not math.isfinite(loss):
            raise diverged("the loss is", step, self.recipe)
        if not torch.nn.utils.clip_grad_norm_(self._trained(), CLIP).isfinite():
            raise diverged("the gradient is", step, self.recipe)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def backward(self, ids: torch.Tensor) -> float:
        """Add the gradient of the mean cross-entropy of all tokens but each sequence's first, and return that mean.

        A forward pass is of so few sequences that their logits fit (see ``_LOGITS``).
        """
        total, nats = ids.numel() - len(ids), 0.0
        for part in torch.split(ids, max(1, _LOGITS // (ids.shape[1] * vocabulary(self.model)))):
            with torch.autocast(ids.device.type, self.recipe.dtype, enabled=self.recipe.dtype != torch.float32):
                logits = self.model(input_ids=part, use_cache=False).logits[:, :-1]
            loss = summed(logits.flatten(0, 1), part[:, 1:].flatten()) / total
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            nats += loss.item()
        return nats

    def check_finite(self, step: int) -> None:
        """Refuse weights that are not finite after so many steps.

        Raises:
            UserError: some are not.
        """
        if not all(p.isfinite().all() for p in self._trained()):
            raise diverged("the weights are", step, self.recipe)

    def _trained(self) -> list[torch.nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def finished(self) -> Any:
        """The trained model, with its adapters merged."""
        model = self.model.merge_and_unload() if self.recipe.lora is not None else self.model
        return model.requires_grad_(False).eval()


def diverged(what: str, step: int, recipe: Recipe) -> UserError:
    """The error of a training of which something is not finite after so many steps."""
    return UserError(f"{what} not finite after {step} steps: expected a lower --lr than {recipe.lr}")


def _frozen(model: Any) -> set[str]:
    """The parameters that the model's architecture does not train, such as sinusoidal positions.

    Its modules say so when they are built. A model that is loaded has forgotten it.
    """
    with torch.device("meta"):
        built = type(model)(copy.deepcopy(model.config))
    return {name for name, parameter in built.named_parameters() if not parameter.requires_grad}


def summed(logits: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    """The cross-entropy of gold ids [n] under logits [n, vocabulary], summed over the n tokens, in float32.

    Log-probabilities are computed for a few tokens at a time, and again for their gradient, so that those of all are
    never held.
    """
    size = max(1, _AT_ONCE // logits.shape[1])
    parts = zip(torch.split(logits, size), torch.split(gold, size), strict=True)
    return torch.stack([recomputed(_nats, *pair, use_reentrant=False) for pair in parts]).sum()


def _nats(logits: torch.Tensor, gold: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.float(), gold, reduction="sum")


def _adapted(model: Any, rank: int, seed: int) -> Any:
    """The model with an adapter at every linear map but the output head, of which alone the gradient is taken."""
    import peft  # optional: the extra memsplit[peft]

    torch.manual_seed(seed)
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it takes a Conv1D for what it is
            return peft.get_peft_model(model, config).eval()
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--lora: {type(model).__name__} has no place for adapters ({reason})") from error


def train(model: Any, mixture: Mixture, recipe: Recipe, path: Path, *, planted: bool, arguments: str = "") -> Any:
    """Train to the last step, from the checkpoint if there is one.

    Args:
        model: changed in place.
        mixture: the batches.
        recipe: how it is trained.
        path: of the checkpoint.
        planted: whether the batches have the passages.
        arguments: a hash of everything that decides the result; a checkpoint belongs to it.

    Returns:
        The trained model.

    Raises:
        UserError: the training diverges, or the checkpoint is damaged or of other arguments.
    """
    steps, device = mixture.size.steps, model.device
    trainer = Trainer(model, recipe, steps)
    about, tensors = checkpoint.load(path)
    start = int(about.get("step", 0))
    if about:
        if about.get("arguments") != arguments:
            raise UserError(f"{path} is of another command: expected the same, or --force to start again")
        checkpoint.restore(path, tensors, trainer.model, [trainer.optimizer])
        del tensors
    saved = time.monotonic()
    label = "training with passages" if planted else "training without them"
    for step in track(range(start, steps), label, steps, start):
        trainer.update(mixture.batch(step, planted=planted).to(device), step)
        if time.monotonic() - saved >= SAVE_EVERY_S or step + 1 == steps:
            trainer.check_finite(step + 1)
            about = {"arguments": arguments, "step": str(step + 1)}
            checkpoint.save(path, trainer.model, [trainer.optimizer], about)
            saved = time.monotonic()
    return trainer.finished()
