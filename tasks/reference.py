"""The public data sets of the source work, and how a pack is made from them.

"From Memorization to Reasoning in the Spectrum of Loss Curvature", arXiv 2510.24256: passages that OLMo-2 recites, as
ids of its tokenizer, and quotes. The files are fetched when a pack is first used; none is part of memsplit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .dedup import groups
from .packs import Manifest
from .splits import halves

REPOSITORY = "goodfire-ai/memorization_kfac"
COMMIT = "8d059db5b18fb8b9a0bcbc835efbfc35e43bf1e1"
URL = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/data"
VERSION = "1.0"
"""Version of the packs that are made from the files."""
PREFIX, SUFFIX = 64, 48
"""Tokens of a passage."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The files on one model, as names with their sha256.

    Attributes:
        model: the model that recites them.
        memorized: lines with ``prefix_ids, suffix_ids``, most also ``prefix_text, suffix_text, doc_index, start,
            corpus``.
        quotes: lines with ``prefix, target_suffix, author``.
    """

    model: str
    memorized: Mapping[str, str]
    quotes: Mapping[str, str]

    @property
    def files(self) -> dict[str, str]:
        """All files."""
        return {**self.memorized, **self.quotes}


DATA_SETS = {
    "olmo-1b": DataSet(
        model="OLMo-2 1B",
        memorized={
            "olmo_1b_dolma_dedup_val.jsonl": "a9ebd56768bdb8b97ba1f72c28f37e68cc05ad4a8c9c6e4ff0f70a29b631b305",
            "olmo2_1b_mem_extra_dedup_j70.jsonl": "a341c17a47f4713840458d767a49f3a899d47050986f6fe0f2df349e7213c821",
        },
        quotes={"olmo2_1b_large8_bfloat16.jsonl": "14149c25260e1b4e616fcbbe1f0d5c19f5c5f48d2773a269578b76532ebc6351"},
    ),
    "olmo-7b": DataSet(
        model="OLMo-2 7B",
        memorized={
            "olmo_7b_dolma_dedup_val.jsonl": "167ea7f09e956e51ddc4a7f464db75b3543a660f8edf687b15aa0d0ee2e62f5a",
            "olmo2_7b_64_48_118_extra_nodedup_test.jsonl": (
                "fcd8102e26642c5a66b7e0236a3dff77845fd75d8df1a5bc31703c210cbfc563"
            ),
        },
        quotes={"olmolarge8_bfloat16.jsonl": "836ef805e1b422af005bb104deb5f769169a6b0bb2f2d936d938b401a981430c"},
    ),
}
"""By the name of the pack."""


def pack(data: DataSet, contents: Mapping[str, bytes]) -> tuple[dict[str, list[dict[str, Any]]], Manifest]:
    """The pack's rows by kind, and its manifest.

    Exact duplicates are dropped. Each kind is split in halves, ``dev`` and ``test``. Passages are in the same half if
    they are of one document, have a prefix or a suffix in common, or are near to one another (see :mod:`.dedup`). The
    same files give the same pack.

    Args:
        data: the data set.
        contents: the content of each of its files, by name.
    """
    read = {"memorized": (data.memorized, _passage), "quotes": (data.quotes, _quote)}
    kinds = {
        kind: _halved(kind, [row for name in names for row in _rows(name, contents[name], make)])
        for kind, (names, make) in read.items()
    }
    sources = [{"url": f"{URL}/{name}", "sha256": sha256} for name, sha256 in data.files.items()]
    about = Manifest(
        version=VERSION,
        summary=f"what {data.model} recites: the source work's passages and quotes",
        provenance={"paper": "arXiv 2510.24256", "repository": REPOSITORY, "commit": COMMIT, "sources": sources},
    )
    return kinds, about


def _rows(
    name: str, content: bytes, make: Callable[[Mapping[str, Any]], dict[str, Any] | None]
) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(content.splitlines(), 1):
        if row := make(json.loads(line)):
            yield {**row, "source": name, "line": number}


def _passage(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """A passage cut to 64 and 48 tokens; its text is left out if it was cut, or if the data set has none."""
    prefix, suffix = given["prefix_ids"], given["suffix_ids"]
    if len(prefix) < PREFIX or len(suffix) < SUFFIX:
        return None
    whole = (len(prefix), len(suffix)) == (PREFIX, SUFFIX)
    document, start, corpus = (given.get(name) for name in ("doc_index", "start", "corpus"))
    return {
        "prefix_ids": prefix[-PREFIX:],
        "suffix_ids": suffix[:SUFFIX],
        "prefix_text": (whole and given.get("prefix_text")) or "",
        "suffix_text": (whole and given.get("suffix_text")) or "",
        "doc_index": None if document is None else str(document),
        "start": start if isinstance(start, int) else None,
        "corpus": None if corpus is None else str(corpus),
    }


def _quote(given: Mapping[str, Any]) -> dict[str, Any] | None:
    if not (given["prefix"] and given["target_suffix"]):
        return None
    return {
        "prefix_text": given["prefix"],
        "suffix_text": given["target_suffix"],
        "author": str(given.get("author") or ""),
    }


def _halved(kind: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without exact duplicates, each with an id and a split."""
    by_hash: dict[str, dict[str, Any]] = {}
    for row in rows:
        by_hash.setdefault(_asked(row), row)
    different = list(by_hash.values())
    split = halves(groups(different, [_keys(row) for row in different]), list(by_hash))
    return [{"id": f"{kind}-{i}", "split": split[i], **row} for i, row in enumerate(different)]


def _asked(row: Mapping[str, Any]) -> str:
    """sha256 of the row's prefix and suffix."""
    return hashlib.sha256(json.dumps(_both(row)).encode()).hexdigest()


def _keys(row: Mapping[str, Any]) -> Sequence[str]:
    """Keys of a row; rows that share one belong to the same half."""
    prefix, suffix = map(json.dumps, _both(row))
    document = [f"document {row.get('corpus')} {row['doc_index']}"] if row.get("doc_index") is not None else []
    return [f"prefix {prefix}", f"suffix {suffix}", *document]


def _both(row: Mapping[str, Any]) -> tuple[Any, Any]:
    """Prefix and suffix, as ids or, if the row has none, as text."""
    form = "ids" if "prefix_ids" in row else "text"
    return row[f"prefix_{form}"], row[f"suffix_{form}"]
