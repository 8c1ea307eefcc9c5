"""How many tokens a model can read at once."""

from __future__ import annotations

from typing import Any

from ..lazy import torch

NAMES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
"""Names that configurations have for the length of the context."""


def context_length(config: Any, model: Any = None) -> int | None:
    """How many tokens a model of this configuration can read; ``None`` where it says no limit.

    Args:
        config: the model's configuration. Some say -1 where there is no limit.
        model: the model. Where its table of positions has a row for padding, as RoBERTa's has, a text's positions begin
            after that row, so that it can read fewer tokens than the table has rows.
    """
    text = config.get_text_config()
    said = (value for name in NAMES if isinstance(value := getattr(text, name, None), int) and value > 0)
    length = next(said, None)
    if length is None or model is None:
        return length
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    padded = (table.padding_idx for table in tables if isinstance(table, torch.nn.Embedding))
    return length - next((row + 1 for row in padded if row is not None), 0)
