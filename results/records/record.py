"""The record of one (model, edit, suite) run: JSON beside its items and answers (parquet), each written in one step.

``ID.items.parquet`` holds every item's scores on either side, ``ID.answers.parquet`` what was said; ``ID.json``, which
holds their sha256 and its own, comes last: a record without it is none. An id ends in a hash of the content but for
times, so that the same run writes the same files, and two runs never the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import files
from ...errors import UserError
from ...files import digest, replacing
from . import schema

if TYPE_CHECKING:
    import pandas as pd

    from ..statistics.extraction import Risk
    from ..statistics.paired import Change, Interval, Key

TABLES = ("items", "answers")
UNSTABLE = ("seconds", "created", "hardware")
"""What differs when the same is run again."""


@dataclass(frozen=True)
class Record:
    """A record, read or just written.

    Attributes:
        path: of its JSON.
        content: of that.
    """

    path: Path
    content: dict[str, Any]

    @property
    def id(self) -> str:
        """Its name and the hash of its content."""
        return str(self.content["id"])

    @property
    def spec(self) -> str:
        """The edit, canonically."""
        return str(self.content["spec"])

    @property
    def is_control(self) -> bool:
        """Whether the edit is what others are measured against, or none."""
        return bool(self.content["control"]) or self.spec == "none"

    @property
    def components_removed(self) -> float:
        """Σ (total - kept) / Σ total over all matrices of all steps; nan where they have no components."""
        kept, total = (sum(matrix[key] for matrix in self.content["matrices"]) for key in ("kept", "total"))
        return 1 - kept / total if total else math.nan

    @property
    def seconds(self) -> dict[str, float]:
        """What the edit took by phase, the base's scoring apart: ``curvature``, ``edit``, ``suite``."""
        return {phase: float(value) for phase, value in self.content["seconds"].items() if phase != "base"}

    @property
    def changes(self) -> dict[Key, Change]:
        """Every metric's change by (axis, metric)."""
        from ..statistics.paired import Change

        found: dict[Key, Change] = {}
        for key, change in self.content["changes"].items():
            axis, metric = key.split("/", 1)
            retained = _interval(change["retained"]) if change["retained"] else None
            found[axis, metric] = Change(**{**_numbers(change), "retained": retained})
        return found

    @property
    def summary(self) -> dict[str, Interval]:
        """The summary figures."""
        return {name: _interval(figure) for name, figure in self.content["summary"].items()}

    @property
    def risk(self) -> tuple[Risk, Risk]:
        """What could be extracted before, and after."""
        from ..statistics.extraction import Risk

        base, edit = (
            Risk(
                discoverable=side["discoverable"],
                membership={
                    signal: {name: _interval(figure) for name, figure in figures.items()}
                    for signal, figures in side["membership"].items()
                },
            )
            for side in (self.content["risk"]["base"], self.content["risk"]["edit"])
        )
        return base, edit

    @property
    def chance(self) -> dict[Key, float]:
        """What guessing scores by (axis, metric)."""
        return {(key.split("/", 1)[0], key.split("/", 1)[1]): value for key, value in self.content["chance"].items()}

    def items(self, side: str) -> pd.DataFrame:
        """Per-item scores (see ``statistics.aggregate``) of a side, ``base`` or ``edit``.

        Raises:
            UserError: they are damaged or gone.
        """
        return self._table("items", side)

    def answers(self, side: str) -> pd.DataFrame:
        """What was said and expected on a side: ``records.score_cache.ANSWERS``.

        Empty where an old record has none, and where their file was left out, as it is when records are published.

        Raises:
            UserError: they are damaged.
        """
        from .score_cache import ANSWERS, plain_lists

        if "answers" not in self.files():
            import pandas as pd

            return pd.DataFrame(columns=ANSWERS)
        return plain_lists(self._table("answers", side))

    def files(self) -> dict[str, Path]:
        """Where its tables lie, by their names; ``answers`` only where it has them."""
        given = self._places()
        if "answers" in given and not given["answers"].exists():
            del given["answers"]
        return given

    def _places(self) -> dict[str, Path]:
        given = {name: self.path.with_suffix(f".{name}.parquet") for name in TABLES if f"{name}_sha256" in self.content}
        if self.content.get("read_from_schema") == 1:
            given["items"] = self.path.with_suffix(".parquet")
        return given

    def verify(self) -> str:
        """What is to be said of its tables: ``whole``, or that the answers were left out.

        Raises:
            UserError: a table is damaged or gone.
        """
        for name in self.files():
            self._bytes(name)
        return "whole" if self.files().keys() == self._places().keys() else "whole, without its answers"

    def _table(self, name: str, side: str) -> pd.DataFrame:
        import pandas as pd
        import pyarrow as pa

        table = pd.read_parquet(pa.BufferReader(self._bytes(name)))
        return table[table["side"] == side].drop(columns="side").reset_index(drop=True)

    def _bytes(self, name: str) -> bytes:
        path = self.files()[name]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"the {name} of the record {self.path} cannot be read ({error.strerror})") from error
        if hashlib.sha256(data).hexdigest() != self.content[f"{name}_sha256"]:
            raise UserError(f"the {name} of the record {self.path} are damaged (hash differs)")
        return data


def plain(value: Any) -> Any:
    """``value`` with every number that JSON has no word for (nan, infinities) as ``None``."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_writable(folder: Path, option: str = "--out") -> None:
    """Raise ``UserError`` where nothing could be written to ``folder``; nothing is left behind."""
    try:
        files.check_writable(folder)
    except OSError as error:
        expected = "expected a folder, or a place to make one"
        raise UserError(f"{option} {str(folder)!r} cannot be written to ({error.strerror}): {expected}") from error


def write(
    folder: Path, name: str, content: Mapping[str, Any], items: pd.DataFrame, answers: pd.DataFrame | None = None
) -> Record:
    """Write a record; its JSON comes last, in one step, so that there is a whole record or none.

    Args:
        folder: made if need be.
        name: what its id begins with.
        content: what its JSON says.
        items: with a column ``side``.
        answers: the same.

    Raises:
        UserError: the folder cannot be written to.
    """
    tables = {"items": items} if answers is None else {"items": items, "answers": answers}
    data = {key: table.to_parquet(index=False) for key, table in tables.items()}
    hashes = {f"{key}_sha256": hashlib.sha256(table).hexdigest() for key, table in data.items()}
    whole = plain({"schema": schema.NEWEST, **content, **hashes})
    whole["id"] = f"{name}-{digest(stable(whole))[:12]}"
    whole["sha256"] = digest(whole)
    record = Record(folder / f"{whole['id']}.json", whole)
    try:
        for key, path in record._places().items():
            with replacing(path) as partial:
                partial.write_bytes(data[key])
        with replacing(record.path) as partial:
            partial.write_text(json.dumps(whole, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {str(folder)!r} cannot be written to ({error.strerror})") from error
    return record


def stable(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is the same whenever the same is run."""
    return {key: value for key, value in content.items() if key not in (*UNSTABLE, "id", "sha256")}


def read(path: Path) -> Record:
    """A record; one of an older schema is brought to the newest. Its tables are checked when they are read.

    Raises:
        UserError: no record, damaged, or of a newer schema.
    """
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"the record {path} cannot be read ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise UserError(f"{path} is no record: expected the JSON file of one that memsplit wrote")
    if content["schema"] > schema.NEWEST:
        remedy = f"expected at most {schema.NEWEST}: update memsplit"
        raise UserError(f"the record {path} has schema {content['schema']}, {remedy}")
    if content["schema"] == schema.NEWEST:
        own = {key: value for key, value in content.items() if key != "sha256"}
        if digest(own) != content.get("sha256"):
            raise UserError(f"the record {path} is damaged (hash differs)")
    try:
        content = schema.migrated(content)
    except UserError as error:
        raise UserError(f"{path} is no record that memsplit wrote: {error}") from error
    lacks = schema.FIELDS - content.keys()
    if lacks:
        raise UserError(f"the record {path} lacks {', '.join(sorted(lacks))}: expected one that memsplit wrote")
    return Record(path, content)


def _numbers(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in figure.items()}


def _interval(figure: Mapping[str, Any]) -> Interval:
    from ..statistics.paired import Interval

    return Interval(**_numbers(figure))
