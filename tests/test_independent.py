"""Strict and loose of the command line against a short script of its own that knows the pack's files and transformers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from memsplit.harness.models.model_table import ORGANISMS
from memsplit.tasks.packs import SHIPPED

N = 12


def script(model_folder: Path, kind: str) -> tuple[float, float, float]:
    """Greedy decoding by ``generate``; strict, loose and mean normalised edit distance as the source work defines them."""
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    rows = [json.loads(line) for line in (SHIPPED / "olmo-tiny" / f"{kind}.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "test"][:N]
    prefixes = torch.tensor([row["prefix_ids"] for row in rows])
    out = model.generate(
        prefixes, attention_mask=torch.ones_like(prefixes), max_new_tokens=48, do_sample=False, pad_token_id=0
    )
    distances = []
    for row, ids in zip(rows, out[:, 64:].tolist(), strict=True):
        end = model.generation_config.eos_token_id
        a, b = ids[: ids.index(end)] if end in ids else ids, row["suffix_ids"]
        last = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            new = [i]
            for j, y in enumerate(b, 1):
                new.append(min(last[j] + 1, new[-1] + 1, last[j - 1] + (x != y)))
            last = new
        distances.append(last[-1] / 48)
    return sum(d == 0 for d in distances) / N, sum(1 - d >= 0.75 for d in distances) / N, sum(distances) / N


@pytest.mark.parametrize("spec", ["none", "kfac-97:layers=1,proj=up"])
def test_the_command_agrees_with_an_independent_script(spec: str, tmp_path: Path) -> None:
    environment = {**os.environ, "MEMSPLIT_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}

    def memsplit(*arguments: str) -> str:
        command = [sys.executable, "-m", "memsplit", *arguments, "--factor-tokens", "1024"]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=True, cwd=tmp_path).stdout

    folder = ORGANISMS / "olmo-tiny"
    if spec != "none":
        folder = tmp_path / "edited"
        memsplit("export", "--edit", spec, "--out", str(folder), "--dtype", "float32")
    report = json.loads(
        memsplit("eval", "--edit", spec, "--tasks", "memsplit_recitation,memsplit_twins", "--limit", str(N), "--json")
    )
    for axis, kind in (("recitation", "memorized"), ("twins", "twins")):
        found = report["edits"][0]["axes"][axis]
        assert (found["strict"], found["loose"], found["levenshtein"]) == pytest.approx(script(folder, kind))
