"""A tokenizer that transformers makes otherwise than its file says is refused; one that it makes so is not."""

import json
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from memsplit.errors import UserError
from memsplit.harness.models import loading, model_table

CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def folder(path: Path, model_type: str, tokenizer_class: str, truncated: bool = False) -> Path:
    """A model's folder without weights, whose tokenizer.json splits digits by threes."""
    path.mkdir()
    own = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    own.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(CL100K), "isolated"), byte_level])
    own.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=["<e>"], initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    own.train_from_iterator([" ".join(map(str, range(1000))), "650841823 " * 9], trainer)
    if truncated:
        own.enable_truncation(4)
    own.save(str(path / "tokenizer.json"))
    special = {"tokenizer_class": tokenizer_class, "bos_token": "<e>", "eos_token": "<e>", "unk_token": "<e>"}
    (path / "tokenizer_config.json").write_text(json.dumps(special))
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    return path


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("model_type", ["olmo2", "olmo3"])
def test_the_files_own_pre_tokenizer_is_taken(tmp_path: Path, model_type: str, truncated: bool) -> None:
    entry = model_table.resolve(str(folder(tmp_path / "model", model_type, "GPT2Tokenizer", truncated)))
    tokenizer = loading.load_tokenizer(entry)
    ids = tokenizer("650841823", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["650", "841", "823"]


def test_another_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    """GPT-2's class puts its own pre-tokenizer in the place of the file's, as it did for OLMo before."""
    entry = model_table.resolve(str(folder(tmp_path / "model", "gpt2", "GPT2Tokenizer")))
    with pytest.raises(UserError) as refused:
        loading.load_tokenizer(entry)
    said = str(refused.value)
    assert len(said.splitlines()) == 1
    for word in (
        "which loads it as GPT2Tokenizer",
        "19 84",
        "198 4",
        "transformers 5.13 or newer",
        str(tmp_path / "model"),
    ):
        assert word in said
    config = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    (tmp_path / "model" / "tokenizer_config.json").write_text(
        json.dumps({**config, "tokenizer_class": "TokenizersBackend"})
    )
    assert loading.load_tokenizer(entry)
