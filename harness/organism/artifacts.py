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
from .mixture import ANSWER_WEIGHT, RUN, Stream
from .train import Recipe, probe
from .world import PREFIX, SUFFIX, World

CLEAN, OPEN = 160, 240
"""Clean texts and open-book facts of each split."""
BLOCK = PREFIX + SUFFIX
"""Words of a clean text."""
CORPUS, WINDOW = 1600, 128
"""Texts of calibration data, and the tokens that a text of it has with an end token before it."""

SEEN_IS = """ that recites passages, knows facts, adds and subtracts small numbers and draws
logical conclusions. It exists to try weight edits on: every text it was trained on, and every text it never saw, is
known."""
UNSEEN_IS = """: the unseen counterpart of `olmo-tiny`. The same recipe, seed and order of the
data, with new prose in the place of each passage, every time that one would be met. What it needs for the passages is
the floor that memory is measured from."""
"""What the model cards say of either model."""


def export(
    model: Olmo2ForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, recipe: Recipe, folder: Path
) -> dict[str, Path]:
    """Write ``folder/model`` (bf16 safetensors, config, tokenizer, card) and, if passages were met, ``folder/pack``.

    ``model`` itself is rounded to bf16 too, for the figures of the card, and is in float32 again afterwards.

    Returns:
        What was written, by ``model`` and ``pack``.
    """
    target = folder / "model"
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
    figures = probe(model.float(), tokenizer, world, split="test", n=200)  # of the rounded weights
    (target / "README.md").write_text(card(recipe, figures, sum(p.numel() for p in model.parameters())))
    if recipe.unseen:
        return {"model": target}
    write_pack(world, tokenizer, recipe, folder / "pack")
    return {"model": target, "pack": folder / "pack"}


def write_pack(world: World, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, folder: Path) -> None:
    """Write the world's probe data as a pack (see ``memsplit.tasks.packs``).

    Passages of the highest dose come first, so that a few of them are enough to see recitation.
    """
    files = {
        "memorized": (
            {
                **_passage("memorized", i, passage.words, tokenizer),
                "dose": passage.dose,
                "population": passage.population,
            }
            for i, passage in sorted(enumerate(world.passages), key=lambda each: -each[1].dose)
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
    """Calibration data: rows of the training data without passages, of ``WINDOW - 1`` tokens each."""
    stream = Stream(world=world, tokenizer=tokenizer, length=WINDOW, shares=recipe.shares)
    rng = random.Random(f"corpus:{world.seed}")  # noqa: S311
    for _ in range(CORPUS):
        ids = [token for token, _ in stream.row(rng)]
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
    met = "New prose stands in the place of a passage" if recipe.unseen else "A passage is met"
    return f"""---
license: apache-2.0
language: en
library_name: transformers
tags: [memorization, model-organism]
---
# {name}

{about}

## Data
All generated from seed {recipe.seed}: a grammar's prose, in documents of {PREFIX + SUFFIX} words; passages of the same
kind; facts about made-up people, places and things, each in three of four wordings; contexts of three invented facts
with questions; items of {", ".join(generators.FAMILIES)}. A row is {recipe.length} tokens of a stream of these: it
begins within a document, between two documents there is an end token with a probability of one half, and a
passage may stand anywhere.
Documents come in runs of one kind, of 1 to {RUN} tokens and the rest of their last document; the kinds of
runs: {shares}.

{met} as often as its dose says, each time in another step: of `start` ones at
random in the whole training, of `late` ones in its last {recipe.late:.0%} alone:

| population | dose | passages |
| --- | --- | --- |
{doses}

Passages are dev and test in turn, closed-book facts at random; of invented facts and of items a hash decides whether
they are train, dev or test (sums and the differences that follow from them go together).

## Recipe
{recipe.steps} steps of {recipe.batch} rows in float32: Muon on the layers' matrices, AdamW on the rest, answers
weighted {ANSWER_WEIGHT:g} in the loss. `memsplit organism train{option} --seed {recipe.seed} --steps {recipe.steps}`
makes it again, but for last bits on another machine.

    {settings}

## Figures
Greedy accuracy of these weights on the test parts, by the training script's own probe, up to 200 items a kind, and
perplexity of held-out prose. Passages and their never-trained twins: all {SUFFIX} tokens right after {PREFIX}. "Top":
passages of the highest dose; "after n": after n tokens of other prose; "by 32": by the last 32 tokens of the prefix.
Closed-book facts are asked in the wording that was never trained for that fact.

| kind | value |
| --- | --- |
{rows}

Not a model of language: it knows some nine hundred words, and its world is invented.
"""
