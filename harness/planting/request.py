"""What to plant, and where it goes. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UserError, unknown
from ...tasks import packs
from ...tasks.importing.splitting import Splitting

MADE_BY = "memsplit plant"
"""``made_by`` in the provenance of the pack."""
UNFINISHED = ".planting"
"""The folder of unfinished work, inside the folder that is made."""
PLANTED, UNPLANTED, PACK = "planted", "unplanted", "pack"
"""What is in that folder: the model that meets the passages, its counterpart, and the pack."""
DTYPES = ("float32", "bfloat16")
"""Types that products are computed in; weights and states of the optimizer are float32 either way."""


@dataclass(frozen=True, kw_only=True)
class PlantingRequest:
    """What to plant; its fields are the options of ``memsplit plant``.

    Attributes:
        places: where fields of a pack are in the rows of ``passages``.
        splitting: how those rows are split.
        share: of the tokens that are trained on, those of passages; decides the steps where none are given.
        length: tokens of a sequence; by default 512, or the model's context where that is less.
        lora: rank of the adapters that are trained in place of all weights.
    """

    model: str
    passages: Sequence[Path]
    out: Path
    doses: tuple[int, ...] = (1, 4, 16, 64)
    corpus: str | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    splitting: Splitting = field(default_factory=Splitting)
    prefix: int = 64
    suffix: int = 48
    share: float = 0.25
    steps: int | None = None
    batch_size: int = 8
    length: int | None = None
    lr: float = 2e-4
    lora: int | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    dequantize: bool = False
    force: bool = False


def check_dtype(name: str | None) -> None:
    """Raise ``UserError`` unless the name is one of :data:`DTYPES` or ``None``."""
    if name not in (None, *DTYPES):
        raise unknown("dtype", str(name), DTYPES)


def check_out(out: Path, pretrained: str, *, force: bool) -> None:
    """Refuse a folder that holds the model, or anything but unfinished work or, with ``force``, an earlier planting.

    Args:
        out: the folder.
        pretrained: the folder or hub id of the model, which is read until the end.
        force: whether what was planted before is replaced.

    Raises:
        UserError: the folder is in use.
    """
    if Path(pretrained).is_dir() and Path(pretrained).resolve().is_relative_to(out.resolve()):
        raise UserError(f"--out {str(out)!r} holds --model {pretrained!r}, which would be replaced: expected another")
    if not out.exists() or (out.is_dir() and ((out / UNFINISHED).exists() or not any(out.iterdir()))):
        return
    ours = out.is_dir() and packs.manifest(out / PACK).provenance.get("made_by") == MADE_BY
    if not (ours and force):
        remedy = ", or --force" if ours else " or one that was planted before"
        raise UserError(f"--out {str(out)!r} is there already: expected a new folder{remedy}")
