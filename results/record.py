"""The record of one (model, edit, suite) run: JSON beside per-item parquet, each written in one step."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import UserError
from ..files import digest, replacing

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1


def plain(value: Any) -> Any:
    """``value`` with every number that JSON has no word for (nan, infinities) as ``None``."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_writable(folder: Path) -> None:
    """Raise ``UserError`` where records could not be written to ``folder``; nothing is left behind."""
    try:
        files.check_writable(folder)
    except OSError as error:
        raise UserError(
            f"--out {str(folder)!r} cannot be written to ({error.strerror}): expected a folder, or a place to make one"
        ) from error


def write(folder: Path, name: str, content: dict[str, Any], items: pd.DataFrame) -> Path:
    """Write ``NAME-HASH.parquet`` and then ``NAME-HASH.json``, which holds the first's sha256; returns the latter.

    The hash is of the content without times, so that the same run writes the same file names.

    Raises:
        UserError: the folder cannot be written to.
    """
    table = items.to_parquet(index=False)
    content = plain({"schema": SCHEMA, **content, "items_sha256": hashlib.sha256(table).hexdigest()})
    stable = {key: value for key, value in content.items() if key not in ("seconds", "created", "hardware")}
    content["id"] = f"{name}-{digest(stable)[:12]}"
    path = folder / f"{content['id']}.json"
    try:
        with replacing(folder / f"{content['id']}.parquet") as partial:
            partial.write_bytes(table)
        with replacing(path) as partial:
            partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {str(folder)!r} cannot be written to ({error.strerror})") from error
    return path


def read(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """A record and its items.

    Raises:
        UserError: damaged, of a newer schema, or its items do not match.
    """
    import pandas as pd

    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        data = path.with_suffix(".parquet").read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(f"the record {path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"the record {path} is no object: expected a record that memsplit wrote")
    if not isinstance(content.get("schema"), int):
        raise UserError(f"the record {path} has no schema: expected a record that memsplit wrote")
    if content["schema"] > SCHEMA:
        raise UserError(f"the record {path} has schema {content['schema']}, expected at most {SCHEMA}: update memsplit")
    if hashlib.sha256(data).hexdigest() != content.get("items_sha256"):
        raise UserError(f"the items of the record {path} are damaged (hash differs)")
    return content, pd.read_parquet(path.with_suffix(".parquet"))
