"""An engine of several workers that Ray runs, on one machine or more."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import write_whole
from ...results.records import record
from ...results.records.record import Record
from ...results.records.schema import Evaluation
from ..common import cache
from ..evaluation.request import Request
from .workers import RecordFiles, ResolvedRequest, Worker

TRIES = 2
"""Workers that may die over one spec before it is given up."""
ENVIRONMENT = ("TOKENIZERS_PARALLELISM", "TQDM_DISABLE", "HF_HUB_OFFLINE", cache.VARIABLE)
"""Variables that a worker on another machine is given, where they are set here."""


class RayEngine:
    """An engine of a Ray cluster's workers. They send their records here to be written, so they share no disk.

    Args:
        workers: how many; by default one for each GPU, or one for every four processors where there is no GPU.
        address: address of a running cluster, as ``ray.init`` takes it; ``None`` starts one on this machine alone.
        device: what each worker computes on; by default a GPU of its own, or processors where there is no GPU.

    Raises:
        UserError: Ray is not installed, or the cluster is not there or too small.
    """

    def __init__(self, workers: int | None, address: str | None, device: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray  # an optional dependency
        except ImportError as error:
            raise UserError("--launcher ray needs the package ray: pip install 'memsplit[ray]'") from error
        self.ray = ray
        here = {"address": "local", "num_cpus": max(workers or 1, len(os.sched_getaffinity(0)))}
        try:
            ray.init(
                **({"address": address} if address else here),
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"Ray cannot be reached at --address {address!r} ({error})") from error
        has = {name: int(number) for name, number in ray.cluster_resources().items() if name in ("CPU", "GPU")}
        on_gpu = (device or ("cuda" if has.get("GPU") else "cpu")).startswith("cuda")
        room = has.get("GPU" if on_gpu else "CPU", 0)
        self.device = device or ("cuda" if on_gpu else "cpu")
        self.workers = workers or max(1, room if on_gpu else room // 4)
        if self.workers > room:
            ray.shutdown()
            kind = "GPUs" if on_gpu else "processors"
            raise UserError(f"bad --workers {self.workers}: the cluster has {room} {kind}, expected at most as many")
        given = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        remote = ray.remote(num_cpus=1, num_gpus=int(on_gpu), scheduling_strategy="SPREAD")(Worker)
        self.actors = [remote.remote(given) for _ in range(self.workers)]
        self.out = Path()

    def load(self, request: Request) -> ResolvedRequest:
        """See :class:`workers.Engine`.

        Raises:
            UserError: the request cannot be met, or the workers' models, packages or code are not the same.
        """
        self.out = request.out
        places = self._all("place")
        beside = Counter(node for node, _ in places)
        most = int(os.environ.get("OMP_NUM_THREADS") or 0)
        for actor, (node, processors) in zip(self.actors, places, strict=True):
            own = max(1, processors // beside[node])
            self._get(actor.threads.remote(min(own, most) if most else own))
        first: ResolvedRequest
        first, *others = self._all("load", request)
        for other in others:
            fields = Evaluation.__struct_fields__
            differ = [key for key in fields if getattr(other.identity, key) != getattr(first.identity, key)]
            differ += ["edits"] if other.recipe_hashes != first.recipe_hashes else []
            if differ:
                raise UserError(f"the workers differ in {', '.join(differ)}: expected the same on every machine")
        return first

    def prepare(self, specs: Sequence[str]) -> None:
        """See :class:`workers.Engine`."""
        self._all("prepare", specs)

    def evaluate(self, specs: Sequence[str]) -> Iterator[Record]:
        """See :class:`workers.Engine`. The spec of a worker that dies is given to another worker."""
        waiting, idle, tries = deque(specs), list(self.actors), Counter[str]()
        running: dict[Any, tuple[Any, str]] = {}
        while waiting or running:
            while waiting and idle:
                actor, spec = idle.pop(), waiting.popleft()
                running[actor.evaluate_remotely.remote(spec)] = (actor, spec)
            (done, *_), _ = self.ray.wait(list(running), num_returns=1)
            actor, spec = running.pop(done)
            try:
                files = self._get(done)
            except self.ray.exceptions.RayActorError as error:
                self.actors.remove(actor)
                tries[spec] += 1
                if tries[spec] == TRIES or not self.actors:
                    raise UserError(f"a worker died over {spec!r}, its memory may be too small ({error})") from error
                waiting.appendleft(spec)
                continue
            idle.append(actor)
            yield self._write(files)

    def close(self) -> None:
        """See :class:`workers.Engine`."""
        self.ray.shutdown()

    def _all(self, method: str, *arguments: object) -> list[Any]:
        """Call a method of every worker at once, and return what each returns."""
        try:
            return [self._get(ref) for ref in [getattr(actor, method).remote(*arguments) for actor in self.actors]]
        except self.ray.exceptions.RayActorError as error:
            raise UserError(f"a worker died, its memory may be too small ({error})") from error

    def _get(self, reference: Any) -> Any:
        """The result of a call; raises the worker's own ``UserError`` where that ended the call."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, UserError) else error from None

    def _write(self, files: RecordFiles) -> Record:
        """Write a record's files into the request's folder."""
        try:
            for name, content in files:
                write_whole(self.out / name, content)
        except OSError as error:
            raise UserError(f"--out {str(self.out)!r} cannot be written to ({error.strerror})") from error
        return record.read(self.out / files[-1][0])
