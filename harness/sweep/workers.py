"""What evaluates the edits of a sweep: an engine, which is one worker in this process or several that Ray runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from filelock import FileLock

from ...model_edits.registry import chain_text
from ...results.records.record import Record
from ...results.records.schema import Evaluation
from ..common import cache
from ..common.runtime import quiet
from ..evaluation.request import Request
from ..evaluation.runner import evaluate, identity
from ..evaluation.session import EvalSession

RecordFiles = list[tuple[str, bytes]]
"""Names and contents of a record's files, its JSON last."""


class ResolvedRequest(NamedTuple):
    """What a request comes to with the loaded model.

    Attributes:
        specs: canonical specs of its edits, in their order.
        recipe_hashes: hash of everything that decides an edit's weights, by spec (see ``ModelEditor.recipe_hash``).
        identity: everything beside the edit that decides an evaluation's figures (see ``runner.identity``).
    """

    specs: list[str]
    recipe_hashes: dict[str, str | None]
    identity: Evaluation


class Engine(Protocol):
    """What runs the evaluations of a sweep.

    Attributes:
        workers: how many specs are evaluated at once.
        device: the device that each worker computes on.
    """

    workers: int
    device: str

    def load(self, request: Request) -> ResolvedRequest:
        """Load the model, if it is not loaded yet, and resolve the request with it."""
        ...

    def prepare(self, specs: Sequence[str]) -> None:
        """Compute what the specs have in common: curvature, and the scores of the base model."""
        ...

    def evaluate(self, specs: Sequence[str]) -> Iterator[Record]:
        """Evaluate the specs, and yield their records, which are in the request's folder, in the order of their end."""
        ...

    def close(self) -> None:
        """Release the workers."""
        ...


class Worker:
    """One loaded model, in this process or in one of Ray's.

    Args:
        environment: variables of the environment to set.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        os.environ.update(environment or {})
        self.session: EvalSession | None = None

    def load(self, request: Request) -> ResolvedRequest:
        """See :class:`Engine`. A model that is loaded already is used again."""
        quiet()
        self.session = EvalSession(request, self.session.loaded if self.session else None)
        specs = [chain_text(chain) for chain in self.session.chains]
        return ResolvedRequest(specs, self.session.recipe_hashes(), identity(self.session))

    def prepare(self, specs: Sequence[str]) -> None:
        """See :class:`Engine`. Of workers that share a cache one computes, and the others wait and read the cache."""
        assert self.session
        folder = cache.folder()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".preparing.lock"):
            self.session.prepare([self.session.editor.chain(spec) for spec in specs])

    def evaluate(self, spec: str, out: Path | None = None) -> Record:
        """Evaluate a spec, and write its record into ``out`` or else the request's folder."""
        assert self.session
        return evaluate(self.session, self.session.editor.chain(spec), out)

    def evaluate_remotely(self, spec: str) -> RecordFiles:
        """Evaluate a spec, and return the files of its record; none of them stays on this machine."""
        with tempfile.TemporaryDirectory() as folder:
            written = self.evaluate(spec, Path(folder))
            return [(path.name, path.read_bytes()) for path in (*written.files().values(), written.path)]

    def place(self) -> tuple[str, int]:
        """The id of the worker's machine, and how many processors it may use there."""
        import ray  # an optional dependency

        return ray.get_runtime_context().get_node_id(), len(os.sched_getaffinity(0))

    def threads(self, number: int) -> None:
        """Compute with this number of threads."""
        torch.set_num_threads(number)


class LocalEngine:
    """An engine of one worker, in this process.

    Args:
        device: what it computes on.
    """

    def __init__(self, device: str) -> None:
        self.workers = 1
        self.device = device
        self.worker = Worker()

    def load(self, request: Request) -> ResolvedRequest:
        """See :class:`Engine`."""
        return self.worker.load(request)

    def prepare(self, specs: Sequence[str]) -> None:
        """See :class:`Engine`."""
        self.worker.prepare(specs)

    def evaluate(self, specs: Sequence[str]) -> Iterator[Record]:
        """See :class:`Engine`."""
        return map(self.worker.evaluate, specs)

    def close(self) -> None:
        """See :class:`Engine`."""
