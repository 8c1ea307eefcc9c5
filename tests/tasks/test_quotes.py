"""The pack ``quotes``, cut from installed packages, and the prose of the pack ``world``, which no model has seen."""

import importlib.metadata
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pythonbible
from rapidfuzz import fuzz, process

from memsplit.errors import UserError
from memsplit.tasks import packs, quotes

ROWS = quotes.build()["memorized"]
WORLD = packs.find("world")
PROSE = [row["text"] for row in WORLD.rows("clean")]
PROSE += [row["prefix_text"] + row["suffix_text"] for row in WORLD.rows("twins")]


def text(row: dict[str, Any]) -> str:
    return str(row["prefix_text"] + row["suffix_text"])


def plain(words: str) -> str:
    """Of a source: one space between words, plain quotation marks and letters, no brackets."""
    words = re.sub("[‘’]", "'", re.sub("[“”]", '"', words.replace("æ", "ae")))
    return " ".join(words.replace("[", "").replace("]", "").split())


def licence(name: str) -> str:
    path = Path(str(importlib.metadata.distribution("spdx").locate_file("spdx/data"))) / f"{name}.txt"
    head, *variables = path.read_text(encoding="utf-8").split("<<var;")
    return head + "".join(
        variable.split(";original=", 1)[1].split(";match=", 1)[0] + variable.split(">>", 1)[1] for variable in variables
    )


@pytest.fixture(scope="module")
def king_james() -> str:
    bible = pythonbible.get_bible(pythonbible.Version.KING_JAMES, "plain_text_readers")
    return plain(bible.scripture_content.replace("( ", " ("))


def runs(words: str, n: int) -> Iterator[tuple[str, ...]]:
    parts = words.split()
    return (tuple(parts[i : i + n]) for i in range(len(parts) - n + 1))


def test_enough_of_each_source_half_and_half() -> None:
    sizes = Counter((row["source"], row["split"]) for row in ROWS)
    for source, least in (("King James text", 80), ("licence text", 60)):
        dev, test = sizes[source, "dev"], sizes[source, "test"]
        assert dev + test >= least
        assert abs(dev - test) <= 4
    assert {row["reference"] for row in ROWS if row["source"] == "Zen of Python"} == {"PEP 20"}
    assert len(ROWS) >= 200
    assert len({row["id"] for row in ROWS}) == len(ROWS)


def test_every_place_and_licence_of_the_tables_is_there() -> None:
    found = Counter(row["reference"].split("-")[0] for row in ROWS if row["source"] == "King James text")
    assert len(found) == len(re.findall(r"\d+:\d+", quotes.PLACES))
    assert found["Genesis 1:1"] == found["Psalms 23:1"] == found["John 3:16"] == 1
    named = set(re.findall(r"(\S+) \d+", quotes.LICENCES))
    assert named == {row["reference"] for row in ROWS if row["source"] == "licence text"}


def test_a_reference_names_the_verses() -> None:
    (row,) = (row for row in ROWS if row["reference"].startswith("Psalms 23:1"))
    assert row["reference"] == "Psalms 23:1-5"
    assert row["prefix_text"].startswith("The LORD is my shepherd; I shall not want. He maketh me to lie down")
    assert row["suffix_text"].startswith(" of the shadow of death, I will fear no evil: for thou art with me;")


def test_passages_stand_word_for_word_in_their_sources(king_james: str) -> None:
    zen = subprocess.run([sys.executable, "-m", "this"], capture_output=True, text=True, check=True).stdout
    for row in ROWS:
        if row["source"] == "King James text":
            source = king_james
        else:
            source = plain(licence(row["reference"]) if row["source"] == "licence text" else zen)
        assert f"{text(row)} " in f"{source} ", row["id"]


def test_lengths_and_cuts() -> None:
    for row in ROWS:
        prefix, suffix = row["prefix_text"], row["suffix_text"]
        assert prefix == " ".join(prefix.split())
        assert suffix == " " + " ".join(suffix.split())
        assert len(prefix.split()) == 48
        assert 24 <= len(suffix.split()) <= 36
        assert re.match('["(]?[A-Z]', prefix), row["id"]
        assert not re.search(r"[<>\[\]’“”æ]|\( ", text(row)), row["id"]


def test_nothing_overlaps_and_no_chapter_or_licence_is_in_two_splits() -> None:
    where = defaultdict(set)
    for row in ROWS:
        for run in runs(text(row), 8):
            where[run].add(row["id"])
    assert not [ids for ids in where.values() if len(ids) > 1]
    splits = defaultdict(set)
    for row in ROWS:
        splits[row["reference"].split(":")[0]].add(row["split"])
    assert {len(found) for found in splits.values()} == {1}
    for kin in ("GPL-3.0", "LGPL-2.1", "AGPL-3.0"):
        assert splits[kin] == splits["GPL-2.0"]


def test_the_sources_are_mixed() -> None:
    order = [row["source"] for row in ROWS]
    changes = sum(a != b for a, b in pairwise(order))
    assert changes > len(ROWS) / 3


def test_the_same_in_another_process_which_prints_nothing_else() -> None:
    code = "import json; from memsplit.tasks import quotes; rows = quotes.build(); print(json.dumps(rows))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"memorized": ROWS}


def test_written_it_is_a_pack_that_world_makes_up_for(tmp_path: Path) -> None:
    packs.write(tmp_path / "quotes", quotes.build(), quotes.about())
    pack = packs.find(f"{tmp_path / 'quotes'}+{packs.SHIPPED / 'world'}")
    assert pack.rows("memorized", "dev") + pack.rows("memorized", "test") == sorted(ROWS, key=lambda row: row["split"])
    assert pack.rows("twins") == WORLD.rows("twins")
    provenance = packs.manifest(tmp_path / "quotes").provenance
    assert provenance["packages"]["spdx"] == importlib.metadata.version("spdx")
    assert provenance["packages"].keys() == set(quotes.PACKAGES)


@pytest.mark.parametrize("missing", quotes.PACKAGES)
def test_a_missing_package_is_one_line_with_the_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.metadata.version

    def version(name: str) -> str:
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(UserError) as caught:
        quotes.build()
    assert str(caught.value) == f"the pack 'quotes' needs the package {missing!r}: pip install 'memsplit[quotes]'"


@pytest.mark.parametrize(("kind", "count"), [("clean", 100), ("twins", 120)])
def test_prose_of_world_is_half_dev_half_test(kind: str, count: int) -> None:
    rows = WORLD.rows(kind)
    assert len({row["id"] for row in rows}) == count
    assert Counter(row["split"] for row in rows) == {"dev": count // 2, "test": count // 2}


def test_lengths_of_prose() -> None:
    for row in WORLD.rows("clean"):
        assert row["text"] == " ".join(row["text"].split())
        assert 80 <= len(row["text"].split()) <= 110, row["id"]
    for row in WORLD.rows("twins"):
        prefix, suffix = row["prefix_text"], row["suffix_text"]
        assert prefix + suffix == f"{' '.join(prefix.split())} {' '.join(suffix.split())}"
        assert 48 <= len(prefix.split()) <= 50, row["id"]
        assert len(suffix.split()) == 36, row["id"]
        assert prefix[-1] not in ".?!", row["id"]


def test_no_two_pieces_of_prose_are_alike_nor_like_a_quote() -> None:
    for others, alike in ((PROSE, len(PROSE)), ([text(row) for row in ROWS], 0)):
        scores = process.cdist(PROSE, others, scorer=fuzz.token_set_ratio, score_cutoff=80, dtype=np.uint8)
        assert np.count_nonzero(scores) == alike  # to itself


def test_prose_has_no_run_of_seven_words_of_another_or_of_the_sources(king_james: str) -> None:
    def letters(words: str) -> str:
        return re.sub("[^a-z ]", "", words.lower())

    own = Counter(run for piece in PROSE for run in set(runs(letters(piece), 7)))
    assert max(own.values()) == 1
    licences = [licence(name) for name in {row["reference"] for row in ROWS if row["source"] == "licence text"}]
    for source in (king_james, *map(plain, licences)):
        assert not [run for run in runs(letters(source), 7) if run in own]
