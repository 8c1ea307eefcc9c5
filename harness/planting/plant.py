"""Plant passages: train a model with them and its counterpart without them, and write both with their pack."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError

from ...errors import UserError
from ...files import replacing_folder, write_json
from ..common.unfinished import Unfinished, read_json
from ..models import loading
from . import training
from .job import Job, load, prepare
from .measure import Figures, recitation
from .output import card, write_pack
from .request import PACK, PLANTED, UNFINISHED, UNPLANTED, PlantingRequest


@dataclass(frozen=True, kw_only=True)
class PlantingReport:
    """What was made.

    Attributes:
        planted: folder of the model that met the passages.
        unplanted: folder of its counterpart.
        pack: folder of the pack.
        use: the command that scores an edit of the model.
        counts: passages, occurrences, steps and tokens.
        left_out: passages and documents that were not used, by the reason.
        recitation: by dose, the figures of :func:`.measure.recitation` of either model.
    """

    planted: str
    unplanted: str
    pack: str
    use: str
    counts: dict[str, float]
    left_out: dict[str, int]
    recitation: list[dict[str, Any]]


def plant(request: PlantingRequest) -> PlantingReport:
    """Make both models and the pack, from what an unfinished planting has left.

    Raises:
        UserError: the passages, the corpus or the model do not suffice, the folder holds work of other arguments, or
            it cannot be written to.
    """
    job, before = prepare(request)
    work = Unfinished(request.out, UNFINISHED, job.arguments)
    if not request.force:
        work.check()
    else:
        for name in (PLANTED, UNPLANTED, PACK):
            shutil.rmtree(request.out / name, ignore_errors=True)
    work.begin(anew=request.force)
    figures: dict[str, dict[str, Figures]] = {}
    loaded: loading.LoadedModel | None = before
    del before
    for part in (PLANTED, UNPLANTED):
        path = work.folder / f"{part}.json"
        if not path.exists():
            loaded = loaded or load(job.entry, request.device)
            write_json(path, _train(job, loaded, work, part))
            path.with_suffix(".safetensors").unlink()
            loaded = None
        figures[part] = read_json(path)
    told = _told(figures)
    write_pack(job, request.out / PACK, told)
    work.remove()
    planted, unplanted, pack = (str(request.out / name) for name in (PLANTED, UNPLANTED, PACK))
    use = f"memsplit-eval --model {planted} --reference {unplanted} --pack {pack}+{job.entry.pack} --edit kfac"
    return PlantingReport(
        planted=planted,
        unplanted=unplanted,
        pack=pack,
        use=use,
        counts=job.counts(),
        left_out=job.left_out,
        recitation=told,
    )


def estimate(request: PlantingRequest) -> list[str]:
    """The lines of ``--dry-run``: what would be planted, and how long it may take by one timed sequence.

    Raises:
        UserError: as for :func:`plant`.
    """
    job, loaded = prepare(request)
    model, mixture = loaded.model, job.mixture
    trainer = training.Trainer(model, job.recipe, mixture.size.steps)
    ids = mixture.batch(0, planted=True)[:1].to(model.device)
    trainer.backward(ids)
    start = time.monotonic()
    trainer.backward(ids)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    seconds = (time.monotonic() - start) * mixture.size.sequences
    counts = Counter(row["dose"] for row in job.rows)
    return [
        f"model: {request.model} ({model.num_parameters() / 1e6:.1f} M parameters, {model.device})",
        f"passages: {', '.join(f'{counts[dose]} of dose {dose}' for dose in sorted(counts))}",
        *(f"left out: {count} {reason}" for reason, count in job.left_out.items()),
        *(f"{name.replace('_', ' ')}: {value:,}" for name, value in job.counts().items() if name != "passages"),
        f"each model: about {seconds:.0f} s; in all: about {2 * seconds:.0f} s, and loading",
    ]


def _told(figures: dict[str, dict[str, Figures]]) -> list[dict[str, Any]]:
    """The figures of both models, dose by dose."""
    return [
        {
            "dose": int(dose),
            "passages": of_planted["passages"],
            **{part: {k: v for k, v in of[dose].items() if k != "passages"} for part, of in figures.items()},
        }
        for dose, of_planted in figures[PLANTED].items()
    ]


def _train(job: Job, loaded: loading.LoadedModel, work: Unfinished, part: str) -> dict[int, Figures]:
    """Train one of the two models and write it; returns its recitation by dose."""
    path = work.folder / f"{part}.safetensors"
    model = training.train(loaded.model, job.mixture, job.recipe, path, planted=part == PLANTED)
    figures = recitation(model, job.tokenizer, job.rows)
    try:
        with replacing_folder(work.out / part) as partial:
            model.save_pretrained(partial)
            job.tokenizer.save_pretrained(partial)
            (partial / "README.md").write_text(card(job, part), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UserError(f"--out {str(work.out)!r} cannot be written to ({error})") from error
    return figures
