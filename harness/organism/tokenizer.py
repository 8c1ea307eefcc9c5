"""The organism's tokenizer: one token for each word, bytes for other text. Decoding undoes encoding."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|padding|>"


def build(vocabulary: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer in which every word of the vocabulary, every digit and every byte is one token.

    The token of a word includes the space before the word. Encoding puts a space before the text and decoding removes
    it, so that the first word of a text is the same token as elsewhere. The end token includes the space after it, so
    that this holds for every document of a sequence. There are no merges: a piece that is not in the vocabulary becomes
    bytes.
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
