"""Plant passages: train a model with them and its counterpart without them, and write both with their pack."""

from __future__ import annotations

import math
import shlex
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ...errors import UserError
from ...files import digest, replacing_folder, write_json
from ..common.unfinished import Unfinished, read_json
from ..models import loading
from . import training
from .job import Job, load, prepare
from .measure import NAMES, Figures, recitation
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
    work.begin(anew=request.force)
    figures: dict[str, dict[str, Figures]] = {}
    loaded: loading.LoadedModel | None = before
    del before
    for part in (PLANTED, UNPLANTED):
        path = work.folder / f"{part}.json"
        if not (path.exists() and (request.out / part / "config.json").exists()):
            loaded = loaded or load(job.entry, request.device)
            write_json(path, _train(job, loaded, work, part))
            path.with_suffix(".safetensors").unlink()
            loaded = None
        figures[part] = _figures(path, job)
    told = _told(figures)
    write_pack(job, request.out / PACK, told)
    work.remove()
    return PlantingReport(
        **{name: str(request.out / name) for name in (PLANTED, UNPLANTED, PACK)},
        use=use(request, job.entry.pack),
        counts=job.counts(),
        left_out=job.left_out,
        recitation=told,
    )


def use(request: PlantingRequest, pack: str) -> str:
    """The command that scores an edit of the planted model, by the planted pack and the one of the model before."""
    planted, unplanted, own = (str(request.out / name) for name in (PLANTED, UNPLANTED, PACK))
    words = ["memsplit-eval", "--model", planted, "--reference", unplanted, "--pack", f"{own}+{pack}"]
    words += ["--trust-remote-code"] if request.trust_remote_code else []
    return shlex.join([*words, "--edit", "kfac"])


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


def _figures(path: Path, job: Job) -> dict[str, Figures]:
    """The figures by dose that a finished part has left.

    Raises:
        UserError: they are not those of a recitation of the passages.
    """
    there = read_json(path)
    counts = Counter(str(row["dose"]) for row in job.rows)
    whole = there.keys() == counts.keys() and all(
        isinstance(of, dict)
        and of.keys() == {*NAMES}
        and all(type(value) in (int, float) and math.isfinite(value) for value in of.values())
        and of["passages"] == counts[dose]
        for dose, of in there.items()
    )
    if not whole:
        raise UserError(f"{path} is damaged: expected the figures of {len(counts)} doses; --force starts again")
    return there


def _train(job: Job, loaded: loading.LoadedModel, work: Unfinished, part: str) -> dict[int, Figures]:
    """Train one of the two models and write it; returns its recitation by dose.

    Raises:
        UserError: the training diverges, its checkpoint does not do, or the model cannot be written.
    """
    path = work.folder / f"{part}.safetensors"
    arguments = digest(work.arguments)
    model = training.train(loaded.model, job.mixture, job.recipe, path, planted=part == PLANTED, arguments=arguments)
    figures = recitation(model, job.tokenizer, job.rows, batch=job.mixture.size.batch)
    if not all(math.isfinite(value) for of in figures.values() for value in of.values()):
        raise training.diverged("its figures are", job.mixture.size.steps, job.recipe)
    try:
        with replacing_folder(work.out / part) as partial:
            model.save_pretrained(partial)
            job.tokenizer.save_pretrained(partial)
            (partial / "README.md").write_text(card(job, part), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UserError(f"--out {str(work.out)!r} cannot be written to ({error})") from error
    return figures
