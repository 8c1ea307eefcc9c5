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
UNSEEN = Path(__file__).parent / "olmo-tiny-unseen"
CLEAN, OPEN, CORPUS, BLOCK, WINDOW = 160, 240, 1600, 112, 128
"""Clean texts and open-book facts of each split, texts of calibration data, words of a clean text, and tokens of a text
of calibration data with its first."""

SEEN_IS = """ that recites passages, knows facts, adds and subtracts small numbers and draws
logical conclusions. It exists to try weight edits on: every text it was trained on, and every text it never saw, is
known."""
UNSEEN_IS = """: the unseen counterpart of `olmo-tiny`. The same recipe, seed and order of the
data, with other prose in the place of each passage. It is what an edit of `olmo-tiny` that erases all memory of the
passages would give."""
"""What the model cards say of either model."""


def export(
    model: Olmo2ForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, recipe: Recipe, folder: Path
) -> None:
    """Write ``folder/model`` (bf16 safetensors, config, tokenizer, card) and, if passages were met, ``folder/pack``."""
    target = folder / "model"
    figures = probe(model, tokenizer, world, split="test", n=200)
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / "README.md").write_text(card(recipe, figures, sum(p.numel() for p in model.parameters())))
    if not recipe.unseen:
        write_pack(world, tokenizer, recipe, folder / "pack")


def write_pack(world: World, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, folder: Path) -> None:
    """Write the world's probe data as a pack (see ``memsplit.tasks.packs``)."""
    files = {
        "memorized": (
            {
                **_passage("memorized", i, passage.words, tokenizer),
                "dose": passage.dose,
                "population": passage.population,
            }
            for i, passage in enumerate(world.passages)
        ),
        "twins": ({**_passage("twin", i, words, tokenizer), "dose": 0} for i, words in enumerate(world.twins)),
        "clean": _clean(world, tokenizer),
        "facts_closed": _facts_closed(world),
        "facts_open": _facts_open(world),
        "corpus": _corpus(world, tokenizer, recipe),
    }
    about = packs.Manifest(
        version="2.0",
        summary=f"olmo-tiny's own world: {len(world.passages)} passages in graded doses, their twins, facts and prose",
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
    """Calibration data: rows of the training mixture without passages, of ``WINDOW - 1`` tokens each."""
    mixture = Mixture(
        world=world,
        tokenizer=tokenizer,
        seed=recipe.seed,
        steps=1,
        late=0,
        batch=1,
        length=WINDOW,
        shares=recipe.shares,
        passages=False,
    )
    rng = random.Random(f"corpus:{world.seed}")  # noqa: S311
    for _ in range(CORPUS):
        ids = [token for token, _ in mixture.row(rng, [])]
        start = int(ids[0] == tokenizer.eos_token_id)
        yield {"text": tokenizer.decode(ids[start:][: WINDOW - 1])}


def card(recipe: Recipe, figures: dict[str, float], parameters: int) -> str:
    """The model card.

    Args:
        recipe: what the model was trained by.
        figures: accuracy or perplexity by kind of item, from ``train.probe``.
        parameters: number of weights.
    """
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in recipe.shares.items())
    settings = json.dumps({k: v for k, v in asdict(recipe).items() if k not in ("shares", "doses")})
    doses = "\n".join(f"| {population} | {dose} | {n} |" for population, dose, n in recipe.doses)
    name, option = ("olmo-tiny-unseen", " --without passages") if recipe.unseen else ("olmo-tiny", "")
    about = f"An `Olmo2ForCausalLM` of {parameters / 1e6:.1f} M parameters" + (UNSEEN_IS if recipe.unseen else SEEN_IS)
    return f"""---
license: apache-2.0
language: en
library_name: transformers
tags: [memorization, model-organism]
---
# {name}

{about}

## Data
All generated from seed {recipe.seed}: a grammar's prose; passages of 112 tokens of the same distribution, each met as
often as its dose says; facts about made-up people, places and things, each in three of four wordings; contexts of three
invented facts with questions; items of {", ".join(generators.FAMILIES)}. Rows are windows of {recipe.length} tokens
of a stream of these, with or without an end token between two documents, and a passage may stand anywhere in one. By
kind: {shares}. Which items are train, dev or test is decided by a hash of their text.

| population | dose | passages |
| --- | --- | --- |
{doses}

`start`: met from the first step on; `late`: in the last {recipe.late:.0%} of the steps alone.

## Recipe
{recipe.steps} steps of {recipe.batch} rows in float32: Muon on the layers' matrices, AdamW on the rest, answers
weighted 3 in the loss. `memsplit organism train{option}` makes it again.

    {settings}

## Figures
Greedy accuracy on the test parts (passages and their never-trained twins: all 48 tokens right after 64; "after n":
after n tokens of other prose; "by 32": by the last 32 tokens of the prefix), and perplexity of held-out prose; from the
training script's own probe, up to 200 items a kind. Closed-book facts are asked in the wording that was never trained
for that fact.

| kind | value |
| --- | --- |
{rows}

Not a model of language: it knows some nine hundred words, and its world is invented.
"""
