"""Make files of a pack of other files: read their rows, cut what is whole, and write them with where they are from."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...errors import UserError
from ...files import sha256, write_whole
from ...tasks import packs
from ...tasks.importing import cuts, foreign
from ...tasks.importing.assembly import CHOICES, Given, assemble
from ...tasks.importing.foreign import QUESTIONS
from ...tasks.importing.splitting import Splitting
from . import corpus, local_files

_TOKENIZER = "tokenizer.json"
_PREFIX, _SUFFIX = (re.compile(f"(?<![a-z]){part}(?![a-z])") for part in ("prefix", "suffix"))
Files = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What is imported, and how.

    Attributes:
        files: of rows (see :func:`read`).
        out: the folder of the pack, which may have other files already.
        kind: the pack's file that the rows belong in; by default what the first row looks like.
        places: where fields of a pack are in the rows.
        prefix: units of a prefix where rows are not cut: tokens of ids or under a model's tokenizer, else words.
        suffix: units of a suffix.
        splitting: how rows are split.
        force: whether files of the pack that are there are replaced.
    """

    files: Sequence[Path]
    out: Path
    kind: str | None = None
    places: Mapping[str, str] = field(default_factory=dict)
    prefix: int = 64
    suffix: int = 48
    splitting: Splitting = field(default_factory=Splitting)
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, by file and split, and what was left out, by the reason."""

    pack: str
    files: dict[str, dict[str, int]]
    left_out: dict[str, int]


def run(request: ImportRequest, tokenizer: Any = None, model: str = "") -> Report:
    """Import the files; nothing is written unless all of them can be.

    Args:
        request: what, and how.
        tokenizer: cuts texts, and gives the texts of rows that have only ids.
        model: the tokenizer's, if there is one.

    Raises:
        UserError: a file or a row cannot be read, or a file of the pack is there already.
    """
    rows = read(request.files)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{', '.join(map(str, request.files))}: no row in it")
    kind = request.kind or _kind(first, request)
    _check_new(request, [kind])
    sizes = (request.prefix, request.suffix)
    cut = cuts.by_tokens(*sizes, token_ends(tokenizer, model)) if tokenizer is not None else cuts.by_words(*sizes)
    reading = foreign.Reading(
        kind=kind, places=request.places, prefix=sizes[0], suffix=sizes[1], cut=cut, relation=_stem(first.file)
    )
    made, left_out = assemble(itertools.chain([first], rows), reading, request.splitting)
    stale = _stale(request.out, made)
    _check_new(request, [*made, *stale])
    has_ids = any({"prefix_ids", "ids"} & row.keys() for row in made[kind])
    backend = getattr(tokenizer, "backend_tokenizer", None) if has_ids else None
    spelling = backend.to_str(pretty=True) if backend is not None else ""
    _check_same(request, spelling)
    if tokenizer is not None:
        spell(made, tokenizer, model)
    _write(request, made, stale, left_out, model)
    if spelling:
        write_whole(request.out / _TOKENIZER, spelling)
    counts = {name: dict(Counter(row.get("split", "rows") for row in of_file)) for name, of_file in made.items()}
    return Report(pack=str(request.out), files=counts, left_out=dict(left_out))


def read(paths: Sequence[Path]) -> Iterator[Given]:
    """The rows of files: those of :data:`.corpus.FORMATS`, folders of them, saved data sets, and arrays of token ids.

    An array (``.npy``) has a row of ids for each text; of a pair of which one file has ``prefix`` in its name and the
    other ``suffix``, either may be named, and the other lies beside it.

    Raises:
        UserError: a file cannot be read; the message names it.
    """
    for path in dict.fromkeys(paths):
        if not path.exists():
            raise UserError(f"{path} is not there: expected a file or a folder")
    for names in arrays_and_files(paths):
        if "file" in names:
            file = names["file"]
            yield from (Given(file=file, unit=unit, number=n, row=row) for unit, n, row in local_files.read(file))
        else:
            yield from _rows_of_arrays(names)


def arrays_and_files(paths: Sequence[Path]) -> list[dict[str, Path]]:
    """The files to read, each once: ``file``, or the arrays of one or two fields by the field."""
    found: dict[Path, dict[str, Path]] = {}
    for path in paths:
        if path.suffix.lower() != ".npy":
            inside = corpus.local_files(path)
            if not inside:
                raise UserError(f"{path}: expected a file that ends in .npy, {corpus.EXPECTED}")
            found |= {file: {"file": file} for file in inside}
        elif _PREFIX.search(path.name) or _SUFFIX.search(path.name):
            prefix = path.with_name(_SUFFIX.sub("prefix", path.name))
            found[prefix] = {"prefix_ids": prefix, "suffix_ids": path.with_name(_PREFIX.sub("suffix", path.name))}
        else:
            found[path] = {"ids": path}
    return list(found.values())


def _rows_of_arrays(names: Mapping[str, Path]) -> Iterator[Given]:
    arrays = {name: _array(file) for name, file in names.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len({*lengths.values()}) > 1:
        told = ", ".join(f"{names[name]} has {length}" for name, length in lengths.items())
        raise UserError(f"expected as many rows in either file: {told}")
    first = next(iter(names))
    for n in range(lengths[first]):
        row = {name: array[n].tolist() for name, array in arrays.items()}
        yield Given(file=names[first], unit="row", number=n + 1, row=row)


def _array(path: Path) -> np.ndarray:
    """An array of ids [rows, tokens], read without unpickling anything."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: a prefix and a suffix come as a pair of files") from error
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        found = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise UserError(f"{path}: expected whole numbers in [rows, tokens], found {found}")
    return array


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _kind(first: Given, request: ImportRequest) -> str:
    told = [stem for stem in dict.fromkeys(map(_stem, request.files)) if stem in packs.FIELDS]
    if len(told) > 1:
        raise UserError(f"the files are named {' and '.join(told)}: expected one at a time, or --as KIND for all")
    return foreign.kind_of(first.row, told[0] if told else "", request.places)


def _check_new(request: ImportRequest, kinds: Iterable[str]) -> None:
    """Refuse to replace a file of the pack, unless the user says so."""
    there = [request.out / f"{kind}.jsonl" for kind in kinds if (request.out / f"{kind}.jsonl").exists()]
    if there and not request.force:
        raise UserError(f"{there[0]} is there: expected another --out, or --force to replace it")


def _check_same(request: ImportRequest, spelling: str) -> None:
    """Refuse to replace the pack's tokenizer by another one, by which its other files are not spelled."""
    path = request.out / _TOKENIZER
    if spelling and path.exists() and path.read_bytes() != spelling.encode() and not request.force:
        raise UserError(f"{path} is there, and is another tokenizer: expected another --out, or --force to replace it")


def _stale(out: Path, kinds: Iterable[str]) -> list[str]:
    """The choices that an earlier import made of questions that these kinds replace, where there are no new ones.

    Their ids would be those of other questions.
    """
    before = packs.manifest(out).provenance.get("imported")
    before = before if isinstance(before, dict) else {}
    of = [before[kind] for kind in QUESTIONS if kind in kinds and kind in before]
    there = (out / f"{CHOICES}.jsonl").exists()
    return [CHOICES] if there and CHOICES not in kinds and before.get(CHOICES) in of else []


def token_ends(tokenizer: Any, model: str) -> Any:
    """A function from a text to the number of characters up to the end of each of its tokens."""
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"the tokenizer of {model} does not tell where its tokens stand: expected another --model, or none"
        )

    def last(text: str) -> list[int]:
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return [end for _, end in found]

    return last


def spell(files: Files, tokenizer: Any, model: str) -> None:
    """Give rows that have only ids their texts.

    Raises:
        UserError: an id is none of the tokenizer's.
    """
    for row in itertools.chain.from_iterable(files.values()):
        ids = [i for name in ("prefix_ids", "suffix_ids", "ids") for i in row.get(name, ())]
        if ids and max(ids) >= len(tokenizer):
            place = f"{row['source']}, {row['line']}"
            raise UserError(f"{place}: the id {max(ids)} is none of {model}'s tokenizer, which has {len(tokenizer)}")
        if "prefix_ids" in row and not row["suffix_text"]:
            prefix, whole = tokenizer.decode(row["prefix_ids"]), tokenizer.decode(ids)
            known = whole.startswith(prefix)
            row["prefix_text"] = prefix
            row["suffix_text"] = whole.removeprefix(prefix) if known else tokenizer.decode(row["suffix_ids"])
        elif "ids" in row and not row["text"]:
            row["text"] = tokenizer.decode(ids)


def _write(request: ImportRequest, files: Files, stale: Sequence[str], left_out: Counter[str], model: str) -> None:
    """Write the pack's files, and into its manifest where they are from; delete those of stale kinds."""
    about = packs.manifest(request.out)
    sources = [file for names in arrays_and_files(request.files) for file in names.values()]
    told = {
        "files": {path.name: sha256(path) for path in sources},
        "fields": dict(request.places),
        "cut": [request.prefix, request.suffix],
        "model": model,
        "split": {"by": request.splitting.by, "seed": request.splitting.seed, **request.splitting.names},
        "left_out": dict(left_out),
    }
    provenance = dict(about.provenance)
    gone = {*files, *stale}
    hashes = provenance.get("sha256")
    if isinstance(hashes, dict):
        provenance["sha256"] = {name: sha for name, sha in hashes.items() if name.removesuffix(".jsonl") not in gone}
    before = provenance.get("imported")
    kept = {kind: value for kind, value in before.items() if kind not in gone} if isinstance(before, dict) else {}
    provenance["imported"] = {**kept, **dict.fromkeys(files, told)}
    summary = about.summary or f"imported from {', '.join(path.name for path in sources[:4])}"
    new = msgspec.structs.replace(about, version=about.version or "1.0", summary=summary, provenance=provenance)
    packs.write(request.out, files, new)
    for kind in stale:
        (request.out / f"{kind}.jsonl").unlink(missing_ok=True)
