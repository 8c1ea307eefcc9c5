"""What to mine, and where it goes. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...tasks import packs

MADE_BY = "memsplit mine"
"""``made_by`` in the provenance of a mined pack."""
UNFINISHED = ".mining"
"""The folder of unfinished work, inside the folder of the pack."""


@dataclass(frozen=True, kw_only=True)
class MiningRequest:
    """What to mine; its fields are the options of ``memsplit mine``."""

    model: str
    out: Path
    corpus: str | None = None
    prefix: int = 64
    suffix: int = 48
    stride: int | None = None
    min_distinct: float = 0.25
    jaccard: float = 0.7
    twins: int | None = None
    limit_documents: int | None = None
    max_passages: int | None = None
    batch_size: int | str = 32
    seed: int = 0
    device: str = "cpu"
    dtype: str | None = None
    parallelize: bool = False
    revision: str | None = None
    trust_remote_code: bool = False
    dequantize: bool = False
    force: bool = False


def check_out(out: Path, *, force: bool) -> None:
    """Refuse a folder that holds anything but unfinished work or, with ``force``, a mined pack.

    Raises:
        UserError: the folder is in use.
    """
    if not out.exists() or (out.is_dir() and ((out / UNFINISHED).exists() or not any(out.iterdir()))):
        return
    ours = out.is_dir() and packs.manifest(out).provenance.get("made_by") == MADE_BY
    if not (ours and force):
        remedy = ", or --force" if ours else " or one that was mined before"
        raise UserError(f"--out {str(out)!r} is there already: expected a new folder{remedy}")
