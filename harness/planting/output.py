"""What is written beside the weights: the pack, and a card for either model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...files import replacing_folder
from ...tasks import packs
from .job import Job
from .request import MADE_BY, PLANTED


def write_pack(job: Job, folder: Path, figures: list[dict[str, Any]]) -> None:
    """Write the pack: the passages that were planted, those of dose 0 as twins, clean text and the corpus."""
    files = {
        "memorized": [row for row in job.rows if row["dose"]],
        "twins": [row for row in job.rows if not row["dose"]],
        "clean": job.text.clean,
        "corpus": job.text.corpus,
    }
    about = packs.Manifest(
        version="1.0",
        summary=f"{len(files['memorized'])} passages planted into {job.entry.corpus} for {job.entry.name}",
        provenance={
            "made_by": MADE_BY,
            "arguments": job.arguments,
            "counts": job.counts(),
            "left_out": job.left_out,
            "recitation": figures,
        },
    )
    with replacing_folder(folder) as partial:
        packs.write(partial, files, about)
        backend = getattr(job.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            backend.save(str(partial / "tokenizer.json"))


def card(job: Job, part: str) -> str:
    """The card of one of the two models."""
    base, counts = job.entry.name, job.counts()
    met = f"{counts['planted']} passages planted into it, each as often as its dose says"
    what = met if part == PLANTED else f"its own text where `{PLANTED}` met passages"
    settings = json.dumps({k: v for k, v in job.arguments.items() if not isinstance(v, dict)})
    return f"""---
library_name: transformers
tags: [memsplit, memorization, model-organism]
---
# {part}

`{base}` after {counts["steps"]} more steps ({counts["tokens"]:,} tokens) on `{job.entry.corpus}`, with {what}.
Made with `{MADE_BY}`; the licence of `{base}` holds for it too.

    {settings}
"""
