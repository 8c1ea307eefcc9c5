"""Workers that die, without Ray: what they were at is given to others, but not for ever."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memsplit.errors import UserError
from memsplit.harness.sweep import ray_workers


class Gone(Exception):
    """Ray's word for a dead actor, for :class:`FakeRay`."""


class FakeRay:
    """As much of Ray as evaluating takes; a call of an actor is done when it is waited for."""

    class exceptions:
        RayActorError = Gone
        RayTaskError = ZeroDivisionError

    @staticmethod
    def wait(references: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return references[:num_returns], references[num_returns:]

    @staticmethod
    def get(reference: Any) -> Any:
        return reference()


class FakeActor:
    def __init__(self, name: str, deaths: set[tuple[str, str]], log: list[tuple[str, str]]) -> None:
        self.name, self.deaths, self.log = name, deaths, log
        self.evaluate_remotely = self

    def remote(self, spec: str) -> Any:
        def call() -> list[tuple[str, bytes]]:
            self.log.append((self.name, spec))
            if {(self.name, spec), ("any", spec)} & self.deaths:
                raise Gone("killed")
            return [(spec, b"")]

        return call


@pytest.mark.parametrize(
    ("deaths", "written"),
    [
        (set(), {"a", "b", "c"}),
        ({("2", "a")}, {"a", "b", "c"}),
        ({("any", "b")}, None),
        ({("0", "c"), ("1", "b"), ("2", "a")}, None),
    ],
)
def test_a_dead_workers_spec_goes_to_another(
    deaths: set[tuple[str, str]], written: set[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = object.__new__(ray_workers.RayEngine)
    log: list[tuple[str, str]] = []
    actors = [FakeActor(str(i), deaths, log) for i in range(3)]
    monkeypatch.setattr(engine, "ray", FakeRay, raising=False)
    monkeypatch.setattr(engine, "actors", list(actors), raising=False)
    monkeypatch.setattr(engine, "_write", lambda files: SimpleNamespace(id=files[0][0]), raising=False)
    if written is None:
        with pytest.raises(UserError, match="a worker died over"):
            list(engine.evaluate(["a", "b", "c"]))
    else:
        assert {found.id for found in engine.evaluate(["a", "b", "c"])} == written
        assert len(engine.actors) == 3 - len(deaths)
    assert all(sum(asked == spec for _, asked in log) <= ray_workers.TRIES for spec in "abc")
