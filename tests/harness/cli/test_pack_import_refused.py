"""What the import of other people's files refuses, in one line and with nothing written."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memsplit.harness.cli import main
from memsplit.tests.harness.cli.test_pack_import import words, write

GOOD = {"text": words("t")}
BAD: list[tuple[str, Any, list[str], str]] = [
    (
        "a.jsonl",
        [GOOD, {"body": "x"}],
        [],
        "a.jsonl, line 2: expected a prefix and a suffix, a text, or ids for memorized",
    ),
    ("a.jsonl", [GOOD, {"text": 3}], [], "a.jsonl, line 2: expected text in 'text', found int"),
    ("a.jsonl", [{"prefix_ids": [1], "suffix_ids": ["a"]}], [], "line 1: expected a list of token ids in 'suffix_ids'"),
    ("a.jsonl", [{"prefix_ids": [1], "suffix_ids": [-1]}], [], "line 1: expected a list of token ids in 'suffix_ids'"),
    ("a.jsonl", [GOOD, 3], [], "line 2: expected an object or a text, found int"),
    ("a.jsonl", [{**GOOD, "id": [1]}, GOOD], [], "line 1: expected a text or a whole number as 'id', found list"),
    ("a.jsonl", [{**GOOD, "split": "frist"}], [], "line 1: unknown split 'frist': expected one of dev, development, "),
    (
        "a.jsonl",
        [{**GOOD, "split": "dev"}, {"text": words("u")}],
        [],
        "line 2: expected the name of a split in 'split'",
    ),
    ("a.jsonl", [{**GOOD, "dose": "x"}], [], "line 1: 'dose' is not a whole number of times"),
    ("a.jsonl", [{**GOOD, "dose": 10**400}], [], "line 1: 'dose' is not a whole number of times, 2147483647 at most"),
    ("a.jsonl", [{"q": "x"}], ["--field", "text=qq"], "line 1: unknown field 'qq': expected one of q"),
    ("a.jsonl", [GOOD], ["--field", "txt=q"], "unknown field 'txt'"),
    ("a.jsonl", [GOOD], ["--field", "text"], "bad --field 'text': expected NAME=VALUE"),
    ("a.jsonl", [GOOD], ["--as", "memorised"], "did you mean 'memorized'?"),
    ("a.jsonl", [GOOD], ["--as", "facts_closed"], "line 1: expected a question and an answer for facts_closed.jsonl"),
    ("a.jsonl", [GOOD], ["--split-by", "document"], "--split-by document: expected a field 'document'"),
    ("a.jsonl", [GOOD], ["--split-by", "given"], "--split-by given: expected a field 'split'"),
    ("a.jsonl", [GOOD], ["--split", "a=b"], "unknown split 'b'"),
    ("a.jsonl", [{"text": ""}], [], "no row is left of 1: 1 without text"),
    ("a.jsonl", [], [], "no row in it"),
    ("a.rows", [GOOD], [], "expected a file that ends in .npy, .txt"),
    ("a_prefix.npy", None, [], "a_suffix.npy is not there"),
    ("gone.jsonl", None, [], "gone.jsonl is not there"),
]


@pytest.mark.parametrize(("name", "rows", "more", "said"), BAD)
def test_a_mistake_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, rows: Any, more: list[str], said: str
) -> None:
    if rows is not None:
        write(tmp_path / name, rows)
    elif name.endswith(".npy"):
        np.save(tmp_path / name, np.zeros((2, 3), dtype=int))
    out = tmp_path / "pack"
    assert main.main(["pack", "import", str(tmp_path / name), "--out", str(out), *more]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert said in error
    assert not out.exists()


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["objects", "pickle", "floats", "other length", "text"])
def test_no_array_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    file, sprung = tmp_path / "a_prefix.npy", tmp_path / "sprung"
    np.save(tmp_path / "a_suffix.npy", np.ones((2, 3), dtype=int))
    if content == "objects":
        np.save(file, np.array([Trap(sprung)] * 2, dtype=object), allow_pickle=True)
    elif content == "pickle":
        file.write_bytes(pickle.dumps(Trap(sprung)))
    elif content == "floats":
        np.save(file, np.ones((2, 3)))
    elif content == "other length":
        np.save(file, np.ones((3, 3), dtype=int))
    else:
        file.write_text("text")
    assert main.main(["pack", "import", str(file), "--out", str(tmp_path / "pack")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert str(file) in error
    assert not sprung.exists()
    assert not (tmp_path / "pack").exists()
