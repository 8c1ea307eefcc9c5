"""The command run as a user runs it, for the tests."""

import contextlib
import functools
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from tqdm import tqdm

from memsplit.harness.cli import main

FIGURES = {
    *("strict", "loose", "levenshtein", "matched_prefix", "rouge_l", "bleu"),
    *("token_accuracy", "extraction_strength", "log_prob", "median_rank", "reciprocal_rank", "p_z"),
    *("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_pp"),
}
OF_TOKEN_STATS = {
    *("token_accuracy", "extraction_strength", "log_prob", "median_rank", "reciprocal_rank", "p_z", "kl", "ndcg"),
    *("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_pp"),
}
"""What text alone does not give."""


def memsplit(*arguments: str | int | Path, cache: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MEMSPLIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "memsplit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


def in_process(*arguments: str | int | Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """As :func:`memsplit`, in this process: seconds less where torch is loaded already."""
    out, err = io.StringIO(), io.StringIO()
    environment = {"MEMSPLIT_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    without_bars = functools.partialmethod(tqdm.__init__, disable=True)  # TQDM_DISABLE is read when tqdm is imported
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(tqdm, "__init__", without_bars),
        mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True),  # which was read when it was imported
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = main.main([*map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
    return subprocess.CompletedProcess([*map(str, arguments)], code, out.getvalue(), err.getvalue())


def refused(done: subprocess.CompletedProcess[str], words: list[str]) -> None:
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert done.stdout == ""
