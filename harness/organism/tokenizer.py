"""The organism's tokenizer: one token a word, byte-level for whatever else; encoding then decoding returns any text."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|padding|>"


def build(vocabulary: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer in which every word of the vocabulary, every digit and every byte is one token.

    A word's token includes the space before it. One space is put before a text when it is encoded and taken away when
    it is decoded, so that a text's first word is the same token as anywhere else; the end token takes in the space that
    follows it, so that this holds for every document of a sequence. There is no merge: a piece is in the
    vocabulary or falls apart into bytes.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [END, PAD, *alphabet, *("Ġ" + word for word in [*"0123456789", *vocabulary])]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], ignore_merges=True))
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=AddedToken(END, rstrip=True, normalized=False, special=True),
        bos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )
