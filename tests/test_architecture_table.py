"""The table of architectures: a row for a class that can be edited, is not to be had, crashes or takes too long."""

import os
import time

import pytest

from memsplit.benchmarks import architectures


def test_rows(capsys: pytest.CaptureFixture[str]) -> None:
    architectures.main(["opt", "musicgen", "falcon_mamba"])
    *_, opt, musicgen, mamba = capsys.readouterr().out.splitlines()
    roles = " ".join(f"`{role}`" for role in ("up", "down", "q", "k", "v", "o"))
    assert opt == f"| OPTForCausalLM | `opt` | `model.decoder.layers` (4) | {roles} | - | yes | yes | yes |"
    assert musicgen.startswith("| MusicgenForCausalLM | `musicgen` | not to be had: ")
    assert mamba.endswith("| yes | yes | yes; 4 of 16 are not seen |")
    assert {line.count(" | ") for line in (opt, mamba)} == {len(architectures.COLUMNS) - 1}


def test_a_crash_and_a_long_wait_end_no_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "row", lambda _: os._exit(3))
    assert architectures.in_a_process("opt") == ["**crashed** (exit code 3)"]
    monkeypatch.setattr(architectures, "row", lambda _: time.sleep(60))
    assert architectures.in_a_process("opt", 0.1) == ["**no answer within 0.1 s**"]


def test_an_edit_that_moves_nothing_or_does_not_come_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    done = {"moves": False, "reloads": False, "restores": True}
    monkeypatch.setattr(architectures, "edited", lambda *_: done)
    monkeypatch.setattr(architectures, "curvature", lambda *_: {"a": True, "b": False})
    assert architectures.row("opt")[-3:] == ["**moves nothing**", "**differs**", "**1 of 2 differ**"]
    done |= {"moves": True, "restores": False}
    assert architectures.row("opt")[-3] == "**not restored**"
