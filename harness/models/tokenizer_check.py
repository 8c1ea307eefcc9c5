"""Whether a loaded tokenizer reads text as its ``tokenizer.json`` does.

A class of transformers may put another pre-tokenizer in the place of the file's. Its ids are of the vocabulary then,
but not those that the model was trained on (huggingface/transformers, issue 45920).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer

from ...errors import UserError

FIRST = "The"
"""A first word, of which nothing is compared: a space before it may be an option of the tokenizer."""
PROBE = f"{FIRST} 650841823 dogs of 1984\n\n  don't  \tSAY they'LL «naïve» 世界: x==y/2...\n\nend"
SHOWN = 6
WORKING = "transformers 5.13 or newer"
"""Versions in which the known differences are mended; ``pyproject.toml`` asks for one of them."""


def check(tokenizer: Any, file: Path, name: str) -> None:
    """Compare what the tokenizer and the file make of a text with digits, blank lines, contractions and capitals.

    Args:
        tokenizer: as loaded; one that is not made by the library ``tokenizers`` is not compared.
        file: its ``tokenizer.json``; may not exist.
        name: of the model.

    Raises:
        UserError: they differ; the line has the first tokens that do.
    """
    if not file.is_file() or getattr(tokenizer, "backend_tokenizer", None) is None:
        return
    try:
        own = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no other kind
        raise UserError(f"the tokenizer of {name!r} cannot be read: {file} ({error})") from error
    own.no_truncation()
    own.no_padding()
    of_file = own.encode(PROBE, add_special_tokens=False)
    found = tokenizer(PROBE, add_special_tokens=False, return_offsets_mapping=True)
    pairs = ((found["input_ids"], found["offset_mapping"]), (of_file.ids, of_file.offsets))
    loaded, expected = ([id_ for id_, (at, _) in zip(*pair, strict=True) if at >= len(FIRST)] for pair in pairs)
    if loaded != expected:
        same = next((n for n, pair in enumerate(zip(loaded, expected, strict=False)) if pair[0] != pair[1]), 0)
        shown = [" ".join(str(own.id_to_token(i)) for i in ids[same : same + SHOWN]) for ids in (loaded, expected)]
        raise UserError(
            f"the tokenizer of {name!r} is not its tokenizer.json under transformers {transformers.__version__}, "
            f"which loads it as {type(tokenizer).__name__}: {shown[0]!r} for {shown[1]!r}; expected {WORKING}, or "
            '"tokenizer_class": "TokenizersBackend" in its tokenizer_config.json'
        )
