"""What evaluates the specs of a request: a worker in this process, or several that Ray runs on one or more machines."""

from __future__ import annotations

import os
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from filelock import FileLock

from ...errors import UserError
from ...files import replacing
from ...results.records import record
from ...results.records.schema import Evaluation
from ..common import cache
from ..evaluation.request import Request

if TYPE_CHECKING:
    from ...results.records.record import Record
    from ..evaluation.runner import EvalSession

TRIES = 2
"""Workers that one spec may cost before it is given up."""
ENVIRONMENT = ("TOKENIZERS_PARALLELISM", "TQDM_DISABLE", "HF_HUB_OFFLINE", cache.VARIABLE)
"""Variables that a worker elsewhere is given, where they are set."""
Files = list[tuple[str, bytes]]


class Begun(NamedTuple):
    """What a request asks of the loaded model.

    Attributes:
        specs: its edits, canonically.
        made_from: what decides each edit's weights, by spec (see ``ModelEditor.made_from``).
        identity: what makes an evaluation the one that it is.
    """

    specs: list[str]
    made_from: dict[str, str | None]
    identity: Evaluation


class Engine(Protocol):
    """What a sweep asks of what runs it.

    Attributes:
        workers: how many specs are evaluated at once.
        device: what each computes on.
    """

    workers: int
    device: str

    def begin(self, request: Request) -> Begun:
        """Load the model, and say what is asked of it."""
        ...

    def prepare(self, specs: Sequence[str]) -> None:
        """Have ready what the specs have in common: curvature, and the base's scores."""
        ...

    def evaluate(self, specs: Sequence[str]) -> Iterator[Record]:
        """The record of each spec, as they come, written into the request's folder."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class Worker:
    """One loaded model.

    Args:
        environment: variables to set.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        os.environ.update(environment or {})
        self.session: EvalSession | None = None

    def begin(self, request: Request) -> Begun:
        """See :class:`Engine`; a model that is loaded already is used again."""
        from ...model_edits.registry import chain_text
        from ..cli.arguments import quiet
        from ..evaluation.runner import EvalSession, identity

        quiet()
        self.session = EvalSession(request, self.session.loaded if self.session else None)
        specs = [chain_text(chain) for chain in self.session.chains]
        return Begun(specs, self.session.made_from(), identity(self.session))

    def prepare(self, specs: Sequence[str]) -> None:
        """See :class:`Engine`; of workers that share a cache one does it, and the others find it done."""
        assert self.session
        folder = cache.folder()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".preparing.lock"):
            self.session.prepare([self.session.editor.chain(spec) for spec in specs])

    def evaluate(self, spec: str, out: Path | None = None) -> Record:
        """The spec's record, written into the request's folder, or ``out``."""
        assert self.session
        return self.session.evaluate(self.session.editor.chain(spec), out)

    def evaluate_away(self, spec: str) -> Files:
        """The files of the spec's record by name, its JSON last; nothing is left on this machine."""
        with tempfile.TemporaryDirectory() as folder:
            found = self.evaluate(spec, Path(folder))
            return [(path.name, path.read_bytes()) for path in (*found.files().values(), found.path)]

    def place(self) -> tuple[str, int]:
        """Its machine, and how many processors that has."""
        import ray

        return ray.get_runtime_context().get_node_id(), len(os.sched_getaffinity(0))

    def threads(self, number: int) -> None:
        """Compute with so many threads."""
        import torch

        torch.set_num_threads(number)


class InProcess:
    """One worker, here."""

    def __init__(self, device: str) -> None:
        self.workers = 1
        self.device = device
        self.worker = Worker()

    def begin(self, request: Request) -> Begun:
        """See :class:`Engine`."""
        return self.worker.begin(request)

    def prepare(self, specs: Sequence[str]) -> None:
        """See :class:`Engine`."""
        self.worker.prepare(specs)

    def evaluate(self, specs: Sequence[str]) -> Iterator[Record]:
        """See :class:`Engine`."""
        return map(self.worker.evaluate, specs)

    def close(self) -> None:
        """See :class:`Engine`."""


class OnRay:
    """Workers of a Ray cluster. Their records are sent here and written here, so that no disk need be shared.

    Args:
        workers: how many; by default one a GPU, or one for every four processors where there is none.
        address: of a running cluster, as ``ray.init`` takes it; ``None`` starts one on this machine alone.
        device: what each computes on; ``None`` is a GPU of its own where there are any.

    Raises:
        UserError: Ray is not installed, or the cluster is not there or too small.
    """

    def __init__(self, workers: int | None, address: str | None, device: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
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

    def begin(self, request: Request) -> Begun:
        """See :class:`Engine`.

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
        begun = self._all("begin", request)
        first: Begun = begun[0]
        for other in begun[1:]:
            fields = Evaluation.__struct_fields__
            differ = [key for key in fields if getattr(other.identity, key) != getattr(first.identity, key)]
            differ += ["edits"] if other.made_from != first.made_from else []
            if differ:
                raise UserError(f"the workers differ in {', '.join(differ)}: expected the same on every machine")
        return first

    def prepare(self, specs: Sequence[str]) -> None:
        """See :class:`Engine`."""
        self._all("prepare", specs)

    def evaluate(self, specs: Sequence[str]) -> Iterator[Record]:
        """See :class:`Engine`. The spec of a worker that dies is given to another."""
        waiting, idle, tries = deque(specs), list(self.actors), Counter[str]()
        running: dict[Any, tuple[Any, str]] = {}
        while waiting or running:
            while waiting and idle:
                actor, spec = idle.pop(), waiting.popleft()
                running[actor.evaluate_away.remote(spec)] = (actor, spec)
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
        """See :class:`Engine`."""
        self.ray.shutdown()

    def _all(self, method: str, *arguments: object) -> list[Any]:
        """What a method of every worker returns, called at once."""
        try:
            return [self._get(ref) for ref in [getattr(actor, method).remote(*arguments) for actor in self.actors]]
        except self.ray.exceptions.RayActorError as error:
            raise UserError(f"a worker died, its memory may be too small ({error})") from error

    def _get(self, reference: Any) -> Any:
        """A result, or the worker's own error."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, UserError) else error from None

    def _write(self, files: Files) -> Record:
        try:
            for name, content in files:
                with replacing(self.out / name) as partial:
                    partial.write_bytes(content)
        except OSError as error:
            raise UserError(f"--out {str(self.out)!r} cannot be written to ({error.strerror})") from error
        return record.read(self.out / files[-1][0])
