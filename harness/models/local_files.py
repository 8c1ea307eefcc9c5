"""Rows of local files: JSON, JSON lines, CSV, text, parquet, and data sets that ``datasets`` has saved.

The builders of ``datasets`` are not used for them. They take a path for a pattern or an address (``[``, ``*``, ``::``),
and make values into other types: a text that is a date into a time, the text ``NA`` of a CSV file into null.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import pyarrow as pa
from pyarrow import parquet

from ...errors import UserError
from .corpus import COLUMN, format_of

csv.field_size_limit(2**31 - 1)


class Located(NamedTuple):
    """A row and where it stands.

    Attributes:
        unit: what ``number`` counts: ``line`` of the file, or ``row``.
        number: from 1 on.
        row: an object by its fields, a text, or another value of JSON.
    """

    unit: str
    number: int
    row: Any


def read(path: Path) -> Iterator[Located]:
    """The rows of a file in order; a text file is one row with the column ``text``.

    Raises:
        UserError: the file is not of the format that its name says; the message names the file and the line.
    """
    readers = {"text": _text, "json": _json, "csv": _csv, "parquet": _parquet, "arrow": _arrow}
    try:
        yield from readers[format_of(path)](path)
    except (OSError, EOFError, zlib.error, pa.ArrowException, csv.Error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read: {reason}") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _text(path: Path) -> Iterator[Located]:
    with _open(path) as file, io.TextIOWrapper(file, encoding="utf-8") as lines:
        yield Located("row", 1, {COLUMN: lines.read()})


def _csv(path: Path) -> Iterator[Located]:
    with _open(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        names = next(reader, [])
        if len(set(names)) < len(names):
            raise UserError(f"{path}, line 1: expected different names of columns, found {', '.join(names)}")
        before = reader.line_num
        for values in reader:
            if values and len(values) != len(names):
                raise UserError(
                    f"{path}, line {before + 1}: expected {len(names)} columns ({', '.join(names)}), "
                    f"found {len(values)}"
                )
            if values:
                yield Located("line", before + 1, dict(zip(names, values, strict=True)))
            before = reader.line_num


def _json(path: Path) -> Iterator[Located]:
    """JSON lines; or, if the first line is no whole value or is the only one and a list, one value for the file."""
    with _open(path) as file:
        filled = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        first = list(itertools.islice(filled, 2))
        if first and not _is_whole(first[0][1]) and ".jsonl" not in path.name.lower():
            file.seek(0)
            yield from _of_list(_records(_value(path, 1, file.read())))
        elif len(first) == 1 and isinstance(rows := _value(path, *first[0]), list):
            yield from _of_list(rows)
        else:
            for number, line in itertools.chain(first, filled):
                yield Located("line", number, _value(path, number, line))


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _value(path: Path, number: int, text: bytes) -> Any:
    """The value of JSON that begins at a line of the file.

    Raises:
        UserError: it is not JSON, or holds half of a surrogate pair, which is no text.
    """
    try:
        value = json.loads(text)
        if b"\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number + error.lineno - 1}: not JSON ({error.msg})") from error
    except RecursionError as error:
        raise UserError(f"{path}, line {number}: not JSON (too deeply nested)") from error
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise UserError(f"{path}, line {number}: not Unicode ({error.reason})") from error
    return value


def _records(value: Any) -> list[Any]:
    """The rows of a file that is one value: of a list its items; of an object its only list of objects, or itself."""
    if isinstance(value, list):
        return value
    tables = [v for v in value.values() if _is_table(v)] if isinstance(value, dict) else []
    return cast(list[Any], tables[0]) if len(tables) == 1 else [value]


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _of_list(values: Iterable[Any]) -> Iterator[Located]:
    return (Located("row", number, value) for number, value in enumerate(values, 1))


def _parquet(path: Path) -> Iterator[Located]:
    with parquet.ParquetFile(path) as file:
        yield from _of_list(row for batch in file.iter_batches(1024) for row in batch.to_pylist())


def _arrow(path: Path) -> Iterator[Located]:
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        yield from _of_list(row for batch in stream for row in batch.to_pylist())
