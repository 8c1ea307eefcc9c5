"""A pytest plugin: the fixture ``memsplit_gate``, which passes or fails an edit by a policy, as ``memsplit gate`` does.

Nothing but pytest is imported before a test asks for the fixture's verdict.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..results.gate.policy import Policy
    from ..results.gate.verdict import Verdict
    from ..results.records.record import Record
    from .evaluation.request import Request


class Gate:
    """What the fixture returns: call it with an edit.

    Args:
        out: where records go.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._scored: dict[tuple[Request, str | None], tuple[Record, Record | None]] = {}

    def __call__(
        self,
        edit: str,
        *,
        model: str = "olmo-tiny",
        against: str | None = None,
        policy: Policy | Mapping[str, Any] | str | Path | None = None,
        skip_inconclusive: bool = False,
        **options: Any,
    ) -> Verdict:
        """Score an edit, once a session for the same request, and judge it.

        Args:
            edit: its spec.
            model: as for ``--model``.
            against: another edit's spec, or a record's path or id; ``None`` for the base.
            policy: a TOML file, what it would hold, or a ``Policy``; ``None`` for the default.
            skip_inconclusive: skip the test where there are too few items to tell.
            options: other options of ``memsplit gate`` by their names, with underscores: ``pack``, ``limit``, ``tasks``
                (a list), ``attacks`` (a list), ``device``, ``dtype``, ``factor_tokens``, ``out``…

        Returns:
            The verdict: true where the edit passes; its text is the table.

        Raises:
            UserError: as the command would say.
        """
        from ..errors import unknown
        from ..results.gate.judge import verdict
        from ..results.gate.policy import given
        from .common import runtime
        from .evaluation import gating
        from .evaluation.request import Request
        from .evaluation.runner import run

        required = given(policy)
        out = Path(options.pop("out", self.out))
        old = gating.known_record(against, out)
        for name in options.keys() - set(gating.SCORED):
            raise unknown("option of memsplit_gate", name, gating.SCORED)
        if isinstance(options.get("tasks"), str):
            options["tasks"] = options["tasks"].split(",")
        specs = (edit, against) if against is not None and old is None else (edit,)
        request = gating.with_attacks(required, Request(model=model, edits=specs, out=out, **options))
        gating.check_policy(required, request)
        key = (request, old.id if old else None)
        if key not in self._scored:
            with warnings.catch_warnings():
                runtime.quiet()
                self._scored[key] = gating.sides(run(request).records, old)
        found = verdict(*self._scored[key], required)
        if skip_inconclusive and found.outcome == "INCONCLUSIVE":
            pytest.skip(repr(found))
        return found


@pytest.fixture(scope="session")
def memsplit_gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """A :class:`Gate`, to be called with an edit; its records go into a temporary folder."""
    return Gate(tmp_path_factory.mktemp("memsplit-gate"))
