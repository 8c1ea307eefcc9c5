"""Train the organism, on a CPU or CUDA. The result depends only on recipe and machine; a killed run can resume."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import Olmo2Config, Olmo2ForCausalLM, PreTrainedTokenizerFast

from ...errors import UserError
from ...files import canonical
from ...tasks.items import generators
from ..common import checkpoint
from ..common.progress import track
from . import tokenizer as organism_tokenizer
from .mixture import SHARES, Mixture, Stream
from .muon import Muon
from .world import DOSES, PREFIX, SUFFIX, World

log = logging.getLogger("memsplit")
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the weights.

    Attributes:
        seed: seed of the world, of the initial weights and of the order of the data.
        doses: the passages, as ``(population, dose, how many)``.
        late: share of the steps, at the end, in which passages of the population ``late`` are met.
        unseen: whether prose stands in the passages' place.
        hidden, intermediate, layers, heads: sizes of the Olmo2 architecture.
        context: number of positions.
        steps: number of updates.
        batch: rows of an update.
        length: tokens of a row.
        muon_lr: learning rate of the layers' matrices.
        adam_lr: learning rate of all other weights.
        warmup: steps over which the learning rates rise linearly from 0.
        decay: share of the steps, at the end, over which the learning rates fall linearly to ``floor`` of themselves.
        clip: greatest norm of the gradient; a longer gradient is scaled down to it.
        shares: probability that a run of documents is of each kind.
    """

    seed: int = 0
    doses: tuple[tuple[str, int, int], ...] = DOSES
    late: float = 0.1
    unseen: bool = False
    hidden: int = 192
    intermediate: int = 384
    layers: int = 4
    heads: int = 6
    context: int = 256
    steps: int = 3600
    batch: int = 16
    length: int = 256
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    warmup: int = 100
    decay: float = 0.4
    floor: float = 0.02
    clip: float = 1.0
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))

    def rate(self, step: int) -> float:
        """The factor of the learning rates at ``step``, counted from 0."""
        rise = min(1.0, (step + 1) / self.warmup)
        fall = (self.steps - step) / (self.steps * self.decay)
        return rise * max(self.floor, min(1.0, fall))


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Olmo2ForCausalLM:
    """The untrained model, whose weights are drawn from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    return Olmo2ForCausalLM(
        Olmo2Config(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=False,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def train(
    recipe: Recipe, folder: Path, *, device: str = "cpu", save_every: int = 100, probe_every: int = 300
) -> tuple[Olmo2ForCausalLM, PreTrainedTokenizerFast, World]:
    """Train to the recipe's last step, from the folder's checkpoint if there is one.

    Args:
        recipe: what to train.
        folder: where the checkpoint is kept.
        device: where to compute.
        save_every: steps between checkpoints.
        probe_every: steps between measurements on the dev split, which are only logged.

    Returns:
        The trained model in evaluation mode, its tokenizer, and its world.

    Raises:
        UserError: the steps are too few for the doses; the folder's checkpoint is of another recipe, or damaged.
    """
    world = World(recipe.seed, recipe.doses)
    tokenizer = organism_tokenizer.build(world.vocabulary)
    mixture = Mixture(
        stream=Stream(world=world, tokenizer=tokenizer, length=recipe.length, shares=recipe.shares),
        seed=recipe.seed,
        steps=recipe.steps,
        late=recipe.late,
        batch=recipe.batch,
        unseen=recipe.unseen,
    )
    log.info("passages are met %d times in %d steps", sum(map(len, mixture.schedule)), recipe.steps)
    folder.mkdir(parents=True, exist_ok=True)
    model = build_model(recipe, tokenizer).to(device)
    optimizers = make_optimizers(model, recipe)
    base_rates = [[group["lr"] for group in o.param_groups] for o in optimizers]
    start = resume(folder / CHECKPOINT, recipe, model, optimizers)
    loader = torch.utils.data.DataLoader(
        mixture, batch_size=None, sampler=range(start, recipe.steps), num_workers=1, prefetch_factor=8
    )
    for step, (ids, weights) in enumerate(track(loader, "training", recipe.steps, start), start):
        for optimizer, rates in zip(optimizers, base_rates, strict=True):
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr * recipe.rate(step)
        loss = update(model, optimizers, ids.to(device), weights.to(device), recipe.clip)
        if (step + 1) % save_every == 0 or step + 1 == recipe.steps:
            about = {"recipe": canonical(asdict(recipe)), "step": str(step + 1)}
            checkpoint.save(folder / CHECKPOINT, model, optimizers, about)
        if (step + 1) % probe_every == 0 or step + 1 == recipe.steps:
            figures = probe(model, tokenizer, world)
            text = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
            log.info("step %d: loss %.3f; dev: %s", step + 1, loss, text)
    return model.eval(), tokenizer, world


def make_optimizers(model: Olmo2ForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, and AdamW for embeddings, head and norms."""
    matrices = [p for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    adam = torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.01)
    return [Muon(matrices, lr=recipe.muon_lr), adam]


def update(
    model: Olmo2ForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    ids: torch.Tensor,
    weights: torch.Tensor,
    clip: float,
) -> float:
    """Take one step on a batch of ids and weights [batch, length], and return its loss.

    The loss is the weighted sum of the tokens' cross-entropies in nats, divided by the sum of their weights.
    """
    model.train()
    logits = model(ids).logits[:, :-1]
    nats = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    loss = (nats * weight).sum() / weight.sum()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def resume(path: Path, recipe: Recipe, model: Olmo2ForCausalLM, optimizers: list[torch.optim.Optimizer]) -> int:
    """Restore a checkpoint; returns the steps already done, 0 without a checkpoint.

    Raises:
        UserError: the checkpoint is of another recipe, or damaged.
    """
    about, tensors = checkpoint.load(path)
    if not about:
        return 0
    mine = canonical(asdict(recipe))
    if about.get("recipe") != mine:
        raise UserError(f"{path} is of another recipe: {about.get('recipe')}, expected {mine}")
    checkpoint.restore(path, tensors, model, optimizers)
    return int(about["step"])


def probe(
    model: Olmo2ForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, *, split: str = "dev", n: int = 64
) -> dict[str, float]:
    """Greedy accuracy of each kind on up to ``n`` items of the split, and the perplexity of its held-out prose.

    Passages are told apart by population and dose. Those of the highest dose are asked after other prose too, and by
    half of their prefix; the other kinds after 16 tokens of prose.
    """
    rng = random.Random("probe")  # noqa: S311
    prose = [world.prose(rng, 32) for _ in range(n)]
    groups = {**_questions(world, split, n, rng, prose), **_passages(world, split, n, prose)}
    figures = {name: greedy_accuracy(model, tokenizer, pairs) for name, pairs in groups.items()}
    figures["perplexity"] = perplexity(model, tokenizer, world.held_out_prose(split, n, PREFIX + SUFFIX))
    return figures


def _questions(
    world: World, split: str, n: int, rng: random.Random, prose: Sequence[Sequence[str]]
) -> dict[str, list[tuple[str, str]]]:
    """Prompts and answers of each kind but passages, and the same after 16 tokens of prose."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for family in generators.FAMILIES:
        items = [generators.draw(family, split, rng) for _ in range(n)]
        groups[family] = [(item.prompt, item.answer) for item in items]
    facts = [fact for fact in world.facts if fact.split == split][:n]
    groups["facts closed"] = [(fact.prompt(fact.held_out), fact.value) for fact in facts]
    groups["facts open"] = [world.open_question(rng, split) for _ in range(n)]
    for name, pairs in list(groups.items()):
        groups[f"{name}, after 16"] = [
            (" ".join([*before[:16], question]), value) for before, (question, value) in zip(prose, pairs, strict=False)
        ]
    return groups


def _passages(world: World, split: str, n: int, prose: Sequence[Sequence[str]]) -> dict[str, list[tuple[str, str]]]:
    """Prefixes and suffixes of passages by population and dose, of the highest dose in other ways too, and of twins."""
    groups: dict[str, list[tuple[str, str]]] = {}
    first = ("dev", "test").index(split)
    by_dose: dict[tuple[str, int], list[list[str]]] = {}
    for passage in world.passages[first::2]:
        by_dose.setdefault((passage.population, passage.dose), []).append(passage.words)
    for (population, dose), texts in by_dose.items():
        groups[f"passages {population} {dose}"] = [_cut(text) for text in texts]
    top = by_dose[max(by_dose, key=lambda key: key[1])]
    for before in (1, 8, 32):
        groups[f"top after {before}"] = [
            _cut(text, put=other[:before]) for text, other in zip(top, itertools.cycle(prose), strict=False)
        ]
    groups["top by 32"] = [_cut(text, start=PREFIX // 2) for text in top]
    groups["twins"] = [_cut(text) for text in world.twins[first : 2 * n : 2]]
    return groups


def _cut(words: list[str], start: int = 0, put: Sequence[str] = ()) -> tuple[str, str]:
    """A passage's prefix, from its word ``start`` and after ``put``, and its suffix."""
    return " ".join([*put, *words[start:PREFIX]]), " ".join(words[PREFIX:])


@torch.no_grad()
def greedy_accuracy(model: Olmo2ForCausalLM, tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]) -> float:
    """The share of (prompt, answer) pairs whose answer is the greedy continuation, by one forward pass over both."""
    model.eval()
    prompts = tokenizer([prompt for prompt, _ in pairs])["input_ids"]
    whole = tokenizer([f"{prompt} {answer}" for prompt, answer in pairs], padding=True, return_tensors="pt")
    ids = whole["input_ids"].to(model.device)
    hit = model(ids).logits[:, :-1].argmax(-1) == ids[:, 1:]
    position = torch.arange(1, ids.shape[1], device=ids.device)
    starts = torch.tensor([len(p) for p in prompts], device=ids.device)[:, None]
    ends = whole["attention_mask"].sum(1).to(ids.device)[:, None]
    return float((hit | (position < starts) | (position >= ends)).all(1).float().mean())


@torch.no_grad()
def perplexity(model: Olmo2ForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> float:
    """The exponential of the mean cross-entropy in nats over all tokens but each text's first.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        texts: texts of equally many tokens.
    """
    model.eval()
    ids = tokenizer(texts, return_tensors="pt")["input_ids"].to(model.device)
    logits = model(ids).logits[:, :-1]
    return float(cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).exp())
