"""Small random models and tokenizers of every kind of start: none, a BOS token, several tokens, neither BOS nor EOS."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel, PreTrainedTokenizerFast

TEXT = "the lion ate the lamb, and the lamb was no more; who sows the wind reaps a whirlwind " * 4
STARTS: dict[str, dict[str, Any]] = {
    "none": {"eos_token": "<e>", "bos_token": "<e>"},
    "bos": {"eos_token": "<e>", "bos_token": "<b>", "template": "<b> $A"},
    "bos and eos": {"eos_token": "<e>", "bos_token": "<b>", "template": "<b> $A <e>"},
    "two": {"eos_token": "<e>", "template": "<m> <s> $A"},
    "neither": {},
}
"""By kind, the special tokens of a tokenizer, and the template that puts them around a text."""
SPECIAL = ("<e>", "<b>", "<m>", "<s>")


def tokenizer(kind: str = "none", vocabulary: int = 400) -> PreTrainedTokenizerFast:
    """A byte-level BPE of :data:`TEXT`."""
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    own.train_from_iterator([TEXT], trainer)
    special = dict(STARTS[kind])
    if template := special.pop("template", ""):
        ids = [(token, own.token_to_id(token)) for token in SPECIAL]
        own.post_processor = TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=own, **special)


def model(context: int = 64, vocabulary: int = 400, end: int | None = None) -> PreTrainedModel:
    """A random Llama of two layers, in evaluation mode."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.5,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=end,
    )
    return transformers.LlamaForCausalLM(config).eval()


def folder(path: Path, kind: str = "none", context: int = 64, tokens: int = 400) -> Path:
    """A model and its tokenizer, of so many tokens, saved."""
    saved = tokenizer(kind, tokens)
    model(context, end=saved.eos_token_id).save_pretrained(path)
    saved.save_pretrained(path)
    return path


def pack(path: Path, files: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """A pack's folder with these rows by kind, each in both parts; its id, or one by its place, ends with the part."""
    path.mkdir(parents=True, exist_ok=True)
    for kind, rows in files.items():
        lines = [
            json.dumps({**row, "id": f"{row.get('id', f'{kind}-{n}')}-{split}", "split": split})
            for split in ("dev", "test")
            for n, row in enumerate(rows)
        ]
        (path / f"{kind}.jsonl").write_text("\n".join(lines) + "\n")
    return path
