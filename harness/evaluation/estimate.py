"""What an evaluation would do and how long it may take: the lines of ``--dry-run``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...model_edits import registry
from .request import Request
from .scoring import build_requests
from .session import EvalSession
from .task_selection import not_asked


def describe(request: Request) -> list[str]:
    """The lines of ``--dry-run``: tasks, edits with their defaults filled in, what is cached, and estimated seconds.

    Scoring is estimated from one timed forward pass and the number of tokens to read, collecting curvature from timed
    batches, and training from the tokens that it reads (``Edit.training_cost``). The weights of an edit are not
    known before they are computed, so its scoring counts even where scores of the same weights are kept.

    Raises:
        UserError: the request cannot be met.
    """
    session = EvalSession(request)
    model, scorer = session.loaded.model, session.scorer
    per_token = _seconds_per_token(session)
    missing = [part.task for part in scorer.missing(session.loaded.weights)]
    suite_s = per_token * _tokens(session, scorer.tasks)
    total_s = per_token * _tokens(session, {name: scorer.tasks[name] for name in missing})
    lines = [
        f"model: {request.model} ({model.num_parameters() / 1e6:.1f} M parameters, {model.dtype}, {model.device})",
        f"tasks: {', '.join(part.task for part in session.parts)}",
        f"base: {len(session.parts) - len(missing)} of {len(session.parts)} tasks scored before, about {total_s:.0f} s",
        *not_asked(session.skipped),
    ]
    counted: set[Path] = set()
    for chain in session.chains:
        preparing_s, state = _preparing(session, chain, counted, per_token)
        chain_s = preparing_s + (suite_s if any(edit.name != "none" for edit in chain) else 0.0)
        total_s += chain_s
        lines.append(f"edit: {registry.chain_text(chain)}: {state}, about {chain_s:.0f} s")
    passages = {part.task: scorer.tasks[part.task] for part in session.passages.parts}
    passages_s = per_token * _tokens(session, passages) if session.attacks else 0.0
    total_s += passages_s if session.unseen_name is not None else 0.0
    attacked = len(session.chains) + (session.unseen_name is not None)
    for name, chain in session.attacks.items():
        preparing_s, state = _preparing(session, chain, counted, per_token)
        total_s += (preparing_s + passages_s) * attacked
        whose = "the counterpart and each edit" if session.unseen_name is not None else "each edit"
        lines.append(f"attack: {name} on {whose}: {state}, about {preparing_s + passages_s:.0f} s each time")
    return [*lines, f"in all: about {total_s:.0f} s, and loading"]


def _preparing(
    session: EvalSession, chain: Sequence[registry.Edit], counted: set[Path], per_token: float
) -> tuple[float, str]:
    """Seconds that a chain's factors take to collect and its steps to train, and what it needs.

    Args:
        session: the evaluation.
        chain: the edits.
        counted: the factors whose collection is counted already; the chain's are added.
        per_token: seconds a token of a forward pass.
    """
    editor = session.editor
    curvature = editor.curvature
    seconds, states = 0.0, set()
    for edit in chain:
        arguments = curvature.arguments(edit)
        uncollected = curvature.missing(edit, editor.matrices(edit))
        paths = {t: curvature.store.path(arguments, t.name) for t in uncollected}
        to_collect = [t for t, path in paths.items() if path not in counted]
        counted.update(paths.values())
        if to_collect:
            seconds += curvature.collecting_s(arguments, to_collect)
            states.add(f"collects factors of {len(to_collect)} matrices from {curvature.tokens} tokens")
        elif edit.statistic:
            states.add("factors cached")
        if edit.needs_forget_set:
            cost = edit.training_cost(editor.inputs(edit))
            seconds += per_token * cost.forward_tokens if cost else 0.0
            known = f"on up to {cost.trained} tokens" if cost else "for a time that is not known beforehand"
            states.add(f"trains {known}")
    return seconds, "; ".join(sorted(states)) or "needs no factors"


def _tokens(session: EvalSession, tasks: Mapping[str, Any]) -> int:
    """How many tokens the forward passes over these tasks read."""
    tokens = 0
    for task in tasks.values():
        build_requests(task, session.scorer.lm, session.request.limit)
        texts = ["".join(part for part in request.args if isinstance(part, str)) for request in task.instances]
        tokens += sum(map(len, session.loaded.tokenizer(texts)["input_ids"]))
        generated = [r.args[1] for r in task.instances if r.request_type == "generate_until"]
        tokens += sum(kwargs.get("max_gen_toks", session.scorer.lm.max_gen_toks) for kwargs in generated)
    return tokens


def _seconds_per_token(session: EvalSession) -> float:
    """Seconds a token, of a forward pass over sequences as long as those of curvature; a first pass warms up."""
    model = session.loaded.model
    ids = torch.zeros(8, session.editor.curvature.length, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        float(model(ids).logits[0, 0, 0])
        start = time.monotonic()
        float(model(ids).logits[0, 0, 0])
    return (time.monotonic() - start) / ids.numel()
