"""What a command asks for, its early checks, and what it would do. Imports torch only to tell the latter."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...model_edits import registry, spec, targets
from ...tasks import packs
from ..models import model_table
from .task_selection import not_asked

if TYPE_CHECKING:
    from .runner import EvalSession


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to run, as the command line gives it."""

    model: str
    edits: Sequence[str]
    pack: str | None = None
    corpus: str | None = None
    parallelize: bool = False
    suite: str = "memsplit"
    tasks: Sequence[str] = ()
    split: str = "test"
    limit: int | None = None
    batch_size: int = 32
    device: str = "cpu"
    dtype: str | None = None
    seed: int = 0
    out: Path = field(default_factory=lambda: Path("memsplit-results"))
    factor_tokens: int | None = None
    rescore: bool = False
    resume: bool = False
    reference: str | None = None
    include_path: Sequence[Path] = ()


NOT_ASKED = ("edits", "out", "rescore", "resume")
"""Fields of a request that have no say in what an edit's record holds."""


def command(request: Request, edit: str) -> str:
    """The command line that makes an edit's record again, where the records go aside."""
    words = ["memsplit-eval", "--model", request.model, "--edit", edit, "--device", request.device]
    for option in dataclasses.fields(Request):
        value = getattr(request, option.name)
        if option.name in (*NOT_ASKED, "model", "device") or value in (option.default, (), []):
            continue
        if option.name == "include_path":
            words += [word for folder in value for word in ("--include-path", str(folder))]
            continue
        words.append(f"--{option.name.replace('_', '-')}")
        if value is not True:
            words.append(",".join(value) if option.name == "tasks" else str(value))
    return shlex.join(words)


def fill_in(text: str, entry: model_table.ModelEntry, n_layers: int | None) -> tuple[registry.Edit, ...]:
    """The steps of a spec with the model's layers, projections and percent filled in where it gives none.

    Args:
        text: the spec.
        entry: the model.
        n_layers: the model's; ``None`` where it is not known yet leaves open what depends on it.

    Raises:
        UserError: the spec does not fit the grammar, the registry or the model.
    """
    return tuple(_fill_in(registry.build(step, entry.percent), entry, n_layers) for step in spec.parse_chain(text))


def _fill_in(edit: registry.Edit, entry: model_table.ModelEntry, n_layers: int | None) -> registry.Edit:
    if edit.needs_passages and not all(map(packs.find(entry.pack).has, ("memorized", "clean"))):
        raise UserError(
            f"{edit.name!r} is told what to forget by a pack's memorized.jsonl, and what to keep by its clean.jsonl: "
            "expected --pack NAME or FOLDER"
        )
    if not edit.targeted:
        return edit
    layers = edit.layers or entry.layers or (model_table.default_layers(n_layers) if n_layers else None)
    if layers and n_layers:
        try:
            targets.check_layers(layers, n_layers)
        except UserError as error:
            raise UserError(f"bad edit '{edit.spec}': {error}") from error
    return dataclasses.replace(edit, layers=layers, proj=edit.proj or entry.proj)


def describe(request: Request) -> list[str]:
    """The lines of ``--dry-run``: tasks, edits with their defaults filled in, what is cached, and how long it may take.

    Times are estimates: of scoring, from one timed forward pass and the number of tokens to be read; of curvature,
    from one timed batch. Edited weights that were scored before are not known before they are computed, so their
    scoring is counted.
    """
    from .runner import EvalSession

    session = EvalSession(request)
    model, editor, scorer = session.loaded.model, session.editor, session.scorer
    curvature = editor.curvature
    per_token = _seconds_per_token(session)
    missing = [part.task for part in scorer.missing(session.loaded.weights)]
    suite_s = per_token * _tokens(session, scorer.tasks)
    base_s = per_token * _tokens(session, {name: scorer.tasks[name] for name in missing})
    lines = [
        f"model: {request.model} ({model.num_parameters() / 1e6:.1f} M parameters, {model.dtype}, {model.device})",
        f"tasks: {', '.join(part.task for part in session.parts)}",
        f"base: {len(session.parts) - len(missing)} of {len(session.parts)} tasks scored before, about {base_s:.0f} s",
    ]
    lines += not_asked(session.skipped)
    total_s = base_s
    counted: set[Path] = set()
    for chain in session.chains:
        chain_s = suite_s if any(edit.name != "none" for edit in chain) else 0.0
        states = set()
        for edit in chain:
            arguments = curvature.arguments(edit)
            uncollected = curvature.missing(edit, editor.matrices(edit))
            paths = {t: curvature.store.path(arguments, t.name) for t in uncollected}
            to_collect = [t for t, path in paths.items() if path not in counted]
            counted.update(paths.values())
            if to_collect:
                chain_s += curvature.collecting_s(arguments, to_collect)
                states.add(f"collects factors of {len(to_collect)} matrices from {curvature.tokens} tokens")
            elif edit.needs_factors:
                states.add("factors cached")
            elif edit.needs_passages:
                states.add("trains, for a time that is not known beforehand")
        total_s += chain_s
        state = "; ".join(sorted(states)) or "needs no factors"
        lines.append(f"edit: {registry.chain_text(chain)}: {state}, about {chain_s:.0f} s")
    return [*lines, f"in all: about {total_s:.0f} s, and loading"]


def _tokens(session: EvalSession, tasks: Mapping[str, Any]) -> int:
    """Tokens that forward passes over these tasks read."""
    tokens = 0
    for task in tasks.values():
        task.build_all_requests(limit=session.request.limit)
        texts = ["".join(part for part in request.args if isinstance(part, str)) for request in task.instances]
        tokens += sum(map(len, session.loaded.tokenizer(texts)["input_ids"]))
        generated = [r.args[1] for r in task.instances if r.request_type == "generate_until"]
        tokens += sum(kwargs.get("max_gen_toks", session.scorer.lm.max_gen_toks) for kwargs in generated)
    return tokens


def _seconds_per_token(session: EvalSession) -> float:
    """Of a forward pass over sequences as long as those that curvature is collected from; the first pass warms up."""
    import torch

    model = session.loaded.model
    ids = torch.zeros(8, session.editor.curvature.length, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        float(model(ids).logits[0, 0, 0])
        start = time.monotonic()
        float(model(ids).logits[0, 0, 0])
    return (time.monotonic() - start) / ids.numel()
