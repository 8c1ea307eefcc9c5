"""The splits of rows of other formats: those that they or their files name, or halves by document or hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ...errors import UserError, unknown
from ..dedup import asked, groups
from ..packs import PASSAGES, SPLITS
from ..splits import halves

BY = ("given", "document", "hash")
"""What decides the split."""
_TRAIN = ("train", "training")
_VALIDATION = ("valid", "validation", "val", "development")
_TEST = ("test", "testing", "eval", "evaluation", "holdout", "heldout")


class Place(Protocol):
    """Where a row stands."""

    @property
    def file(self) -> Path:
        """The row's file."""

    def error(self, problem: object) -> UserError:
        """The error that names the place."""


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """How rows are split.

    Attributes:
        by: one of :data:`BY`; by default what the rows allow: the splits that they or their files name, else halves by
            document.
        seed: of the halves.
        names: a split's name in the rows -> ``dev`` or ``test``.
    """

    by: str | None = None
    seed: int = 0
    names: Mapping[str, str] = field(default_factory=dict)

    def splits(self, places: Sequence[Place], rows: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
        """The split of each row.

        Raises:
            UserError: a split is unknown or missing, or there is nothing to split by.
        """
        if self.by in (None, "given"):
            given = self._given(places, rows)
            if given:
                return given
            if self.by == "given":
                raise UserError(
                    "--split-by given: expected a field 'split', or files of both parts such as train and test"
                )
        if self.by == "document" and not any("document" in row for row in rows):
            raise UserError("--split-by document: expected a field 'document'; --field document=FIELD says where it is")
        keys = [list(_keys(row, documents=self.by != "hash")) for row in rows]
        hashes = [hashlib.sha256(f"{self.seed}:{asked(row)!r}".encode()).hexdigest() for row in rows]
        return halves(groups(rows, keys, near=kind in PASSAGES), hashes)

    def _given(self, places: Sequence[Place], rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """The splits that the rows name, or their files; none if neither do."""
        names = [row.get("split") for row in rows]
        if not any(names):
            of_file = {place.file: _part(place.file) for place in places}
            meant = self._meant({name for name in of_file.values() if name})
            both = all(of_file.values()) and {meant[name] for name in of_file.values() if name} == {*SPLITS}
            return [meant[str(of_file[place.file])] for place in places] if both else []
        for place, name in zip(places, names, strict=True):
            if not isinstance(name, str) or not name:
                raise place.error(f"expected the name of a split in 'split', found {json.dumps(name, default=str)}")
        meant = self._meant({str(name) for name in names})
        for place, name in zip(places, names, strict=True):
            if name not in meant:
                problem = unknown("split", str(name), ("dev", *_TRAIN, *_VALIDATION, *_TEST))
                raise place.error(f"{problem}; or --split {name}=dev, or =test, says what it stands for")
        return [meant[str(name)] for name in names]

    def _meant(self, names: set[str]) -> dict[str, str]:
        """``dev`` or ``test`` for each known name; validation is the test of a training part that has no other."""
        low = {name: name.lower().replace("-", "").replace("_", "") for name in names}
        trained, tested = ({*low.values()} & {*known} for known in (_TRAIN, _TEST))
        of = {"dev": "dev", **dict.fromkeys(_TRAIN, "dev"), **dict.fromkeys(_TEST, "test")}
        of |= dict.fromkeys(_VALIDATION, "test" if trained and not tested else "dev")
        return {
            name: self.names.get(name, of.get(short, ""))
            for name, short in low.items()
            if name in self.names or short in of
        }


def _part(path: Path) -> str:
    """The name of a split in a file's name, such as ``train`` in ``train_prefix.npy``; ``""`` if there is none."""
    words = re.split("[^a-z]+", path.name.lower())
    return next((word for word in words if word in ("dev", *_TRAIN, *_VALIDATION, *_TEST)), "")


def _keys(row: Mapping[str, Any], *, documents: bool) -> Iterator[str]:
    """Keys of a row; rows that share one belong to the same half."""
    if documents and row.get("document") is not None:
        yield f"document {row['document']}"
    if row.get("fact") is not None:
        yield f"fact {row['fact']}"
    if row.get("subject") is not None:
        yield f"subject {row['subject']}"
    form = "ids" if "prefix_ids" in row else "text"
    for part in ("prefix", "suffix"):
        if f"{part}_{form}" in row:
            yield f"{part} {json.dumps(row[f'{part}_{form}'])}"
