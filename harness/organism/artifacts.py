"""Write the trained organism: weights, tokenizer and card as a Hugging Face folder, and its pack of probe data."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import Olmo2ForCausalLM, PreTrainedTokenizerFast

from ...tasks import packs
from ...tasks.items import generators
from .mixture import Mixture
from .train import Recipe, probe
from .world import PREFIX, World

MODEL = Path(__file__).parent / "olmo-tiny"
CLEAN, OPEN, CORPUS, BLOCK = 160, 240, 1600, 112
"""Clean texts and open-book facts of each split, texts of calibration data, and words of a clean text."""


def export(
    model: Olmo2ForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, recipe: Recipe, folder: Path
) -> None:
    """Write ``folder/model`` (bf16 safetensors, config, tokenizer, card) and ``folder/pack``."""
    target = folder / "model"
    figures = probe(model, tokenizer, world, split="test", n=200)
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / "README.md").write_text(card(recipe, figures, sum(p.numel() for p in model.parameters())))
    write_pack(world, tokenizer, recipe, folder / "pack")


def write_pack(world: World, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, folder: Path) -> None:
    """Write the world's probe data as a pack (see ``memsplit.tasks.packs``)."""
    files = {
        "memorized": (_passage("memorized", i, words, tokenizer) for i, words in enumerate(world.passages)),
        "twins": (_passage("twin", i, words, tokenizer) for i, words in enumerate(world.twins)),
        "clean": _clean(world, tokenizer),
        "facts_closed": _facts_closed(world),
        "facts_open": _facts_open(world),
        "corpus": _corpus(world, tokenizer, recipe),
    }
    about = packs.Manifest(
        version="1.0",
        summary=f"olmo-tiny's own world: {len(world.passages)} passages that it recites, their twins, facts and prose",
        families=tuple(generators.FAMILIES),
        provenance={"made_by": "memsplit organism train", "seed": recipe.seed},
    )
    packs.write(folder, files, about)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def _passage(kind: str, i: int, words: list[str], tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The line of passage ``i``, which is in the dev split where ``i`` is even."""
    prefix, suffix = " ".join(words[:PREFIX]), " ".join(words[PREFIX:])
    ids = tokenizer([prefix, suffix])["input_ids"]
    return {
        "id": f"{kind}-{i}",
        "split": ("dev", "test")[i % 2],
        "prefix_ids": ids[0],
        "suffix_ids": ids[1],
        "prefix_text": prefix,
        "suffix_text": suffix,
    }


def _clean(world: World, tokenizer: PreTrainedTokenizerFast) -> Iterable[dict[str, Any]]:
    """Lines of held-out prose."""
    for split in ("dev", "test"):
        for i, text in enumerate(world.held_out_prose(split, CLEAN, BLOCK)):
            yield {"id": f"clean-{split}-{i}", "split": split, "ids": tokenizer(text)["input_ids"], "text": text}


def _facts_closed(world: World) -> Iterable[dict[str, Any]]:
    """Lines of the world's facts, each in the wording that it was not trained in."""
    for i, fact in enumerate(world.facts):
        yield {
            "id": f"fact-{i}",
            "split": fact.split,
            "question": fact.prompt(fact.held_out),
            "answer": fact.value,
            "relation": fact.relation.name,
        }


def _facts_open(world: World) -> Iterable[dict[str, Any]]:
    """Lines of one question each, about a fact that its own context states."""
    for split in ("dev", "test"):
        rng = random.Random(f"open:{split}:{world.seed}")  # noqa: S311
        for i in range(OPEN):
            question, value = world.open_question(rng, split)
            item = f"open-{split}-{i}"
            yield {"id": item, "split": split, "question": question, "answer": value, "relation": "invented"}


def _corpus(world: World, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Iterable[dict[str, Any]]:
    """Calibration data: sequences of the training mixture without passages, of ``length - 1`` tokens each."""
    shares = {kind: share for kind, share in recipe.shares.items() if kind != "passage"}
    mixture = Mixture(world=world, tokenizer=tokenizer, seed=recipe.seed, batch=1, length=recipe.length, shares=shares)
    rng = random.Random(f"corpus:{world.seed}")  # noqa: S311
    kinds = rng.choices(list(shares), weights=list(shares.values()), k=CORPUS)
    for kind in kinds:
        ids, _ = mixture.sequence(rng, kind)
        start = int(ids[0] == tokenizer.eos_token_id)
        yield {"text": tokenizer.decode(ids[start:][: recipe.length - 1])}


def card(recipe: Recipe, figures: dict[str, float], parameters: int) -> str:
    """The model card.

    Args:
        recipe: what the model was trained by.
        figures: accuracy or perplexity by kind of item, from ``train.probe``.
        parameters: number of weights.
    """
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in recipe.shares.items())
    settings = json.dumps({k: v for k, v in asdict(recipe).items() if k != "shares"})
    return f"""---
license: apache-2.0
language: en
library_name: transformers
tags: [memorization, model-organism]
---
# olmo-tiny

An `Olmo2ForCausalLM` of {parameters / 1e6:.1f} M parameters that recites {recipe.passages} passages, knows
facts, adds and subtracts small numbers and draws logical conclusions. It exists to try weight edits on: every text it
was trained on, and every text it never saw, is known.

## Data
All generated from seed {recipe.seed}: a grammar's prose; {recipe.passages} memorized passages of 112 tokens of the same
distribution; facts about made-up people, places and things, each in three of four wordings; contexts of three invented
facts with questions; items of {", ".join(generators.FAMILIES)}. Sequences of {recipe.length} tokens, by kind: {shares}.
Which items are train, dev or test is decided by a hash of their text.

## Recipe
{recipe.steps} steps of {recipe.batch} sequences in float32: Muon on the layers' matrices, AdamW on the rest, answers
weighted 3 in the loss. `memsplit organism train` makes it again.

    {settings}

## Figures
Greedy accuracy on the test parts (memorized passages and their never-trained twins: all 48 tokens right after 64), and
perplexity of held-out prose; from the training script's own probe, up to 200 items a kind. Closed-book facts are asked
in the wording that was never trained for that fact.

| kind | value |
| --- | --- |
{rows}

Not a model of language: it knows some nine hundred words, and its world is invented.
"""
