"""Where progress is shown: a notebook's bar, a terminal's, or log lines."""

import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from memsplit.harness.common import progress


class Bar:
    made: list["Bar"]

    def __init__(self, **options: Any) -> None:
        self.options, self.n, self.closed = options, options["initial"], False
        self.made.append(self)

    def update(self, n: int) -> None:
        self.n += n

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def test_a_notebook_gets_a_bar_of_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    import tqdm.auto

    Bar.made = []
    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert list(progress.track([3, 4], "curvature", total=9, done=2, size=lambda n: n)) == [3, 4]
    (bar,) = Bar.made
    assert (bar.options["desc"], bar.options["total"], bar.n, bar.closed) == ("curvature", 9, 9, True)


@pytest.mark.parametrize("shell", [None, SimpleNamespace()])
def test_ipython_on_a_terminal_is_no_notebook(
    shell: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.track("ab", "fetching", total=2)) == ["a", "b"]
    assert "fetching" in capsys.readouterr().err


def test_a_log_gets_lines_with_the_time_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = iter([0.0, 20.0, 40.0])
    monkeypatch.setattr("memsplit.harness.common.progress.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "memsplit"):
        list(progress.track("ab", "scoring", total=4, done=1))
    assert caplog.messages == ["scoring: 2 of 4, 40 s left", "scoring: 3 of 4, 20 s left"]
