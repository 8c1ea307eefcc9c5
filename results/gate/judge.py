"""The regression gate: whether an edit's items show that it meets a policy.

Every criterion says that a mean of paired values is above 0 (see ``statistics.noninferiority``). It passes (PASS) where
the lower one-sided bound of the mean at ``alpha`` is above 0, fails (FAIL) where the upper bound at ``alpha`` / (number
of criteria) is below 0, and is INCONCLUSIVE otherwise. So an edit that does not meet one of the criteria passes the
gate with probability at most ``alpha``, and an edit that meets all fails with probability at most ``alpha``
(Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import UserError, unknown
from ..records import tables
from ..records.axes import FAMILIES, PERPLEXITY, RECITATION, STRICT, TWINS
from ..records.record import Record
from ..records.schema import Key
from ..statistics import noninferiority
from ..statistics.compare import check_same_items
from .policy import Policy
from .verdict import Criterion, Outcome, Verdict


def judge(
    base: pd.DataFrame, new: pd.DataFrame, old: pd.DataFrame | None, chance: Mapping[Key, float], policy: Policy
) -> tuple[Criterion, ...]:
    """Every criterion of a policy.

    Args:
        base: scores of the base model (``records.tables.ITEMS``).
        new: scores of the edit.
        old: scores of the edit that the new one is to be no worse than; ``None`` for the base.
        chance: what guessing scores, by (axis, metric); its keys are the metrics that are shares, more is better.
        policy: whose criteria are tested.

    Raises:
        UserError: the policy names an axis or metric that was not scored, or has no criterion.
        ValueError: the items differ.
    """
    hypotheses = list(_hypotheses(_matched(base, new, old), chance, policy, against=old is not None))
    if not hypotheses:
        raise UserError("the policy asks for nothing: expected removed, perplexity_ratio, or an axis in [margins]")
    return tuple(_decide(hypothesis, policy.alpha, policy.alpha / len(hypotheses)) for hypothesis in hypotheses)


def verdict(new: Record, old: Record | None, policy: Policy) -> Verdict:
    """The verdict on a record, against the base or another record.

    Raises:
        UserError: the two cannot be compared, or the policy names an axis or metric that was not scored.
    """
    if old is not None:
        check_same_items(new, old)
    items = (tables.items(new, "base"), tables.items(new, "edit"), tables.items(old, "edit") if old else None)
    return Verdict(
        model=new.content.model,
        spec=new.spec,
        against=old.spec if old else "base",
        policy=policy,
        criteria=judge(*items, new.chance, policy),
        record=str(new.path),
        fingerprint=new.content.fingerprint,
    )


@dataclass(frozen=True, kw_only=True)
class _Hypothesis:
    """What a criterion tests: the mean of ``gain + slack · share`` is above 0.

    Attributes:
        name: the criterion's.
        at_least: the criterion's.
        parts: the rows of each task; the mean is the plain mean over tasks.
        gain: of rows.
        share: of rows: how much a unit of slack adds.
        slack: what the policy allows; the larger it is, the more edits pass.
        lowest: the least value that a row can have, by slack.
        highest: the largest value that a row can have, by slack.
        limit: the criterion's limit, by slack.
    """

    name: str
    at_least: bool
    parts: Sequence[pd.DataFrame]
    gain: Callable[[pd.DataFrame], pd.Series]
    share: Callable[[pd.DataFrame], pd.Series]
    slack: float
    lowest: Callable[[float], float]
    highest: Callable[[float], float]
    limit: Callable[[float], float]


def _matched(base: pd.DataFrame, new: pd.DataFrame, old: pd.DataFrame | None) -> pd.DataFrame:
    """One table with columns ``base``, ``new``, ``old`` in place of ``value``; old is the base where there is none."""
    keys = [column for column in tables.ITEMS if column != "value"]
    order = ["axis", "metric", "task", "item"]
    sides = {
        name: items.sort_values(order, ignore_index=True)
        for name, items in (("base", base), ("new", new), ("old", base if old is None else old))
    }
    rows = sides["base"][keys]
    if rows.duplicated(order).any():
        raise ValueError("an item was scored more than once")
    for side in sides.values():
        if len(side) != len(rows) or not (side[keys].to_numpy() == rows.to_numpy()).all():
            raise ValueError("the sides were not scored on the same items")
    return rows.assign(**{name: side["value"] for name, side in sides.items()})


def _hypotheses(
    rows: pd.DataFrame, chance: Mapping[Key, float], policy: Policy, *, against: bool
) -> Iterator[_Hypothesis]:
    by_key: dict[Key, pd.DataFrame] = {(str(a), str(m)): part for (a, m), part in rows.groupby(["axis", "metric"])}
    if policy.removed is not None:
        yield _Hypothesis(
            name="removed",
            at_least=True,
            parts=[_part(by_key, "removed", STRICT)],
            gain=lambda row: row["base"] - row["new"],
            share=lambda row: row["base"],
            slack=-policy.removed,
            lowest=lambda _: -1.0,
            highest=lambda slack: 1 + slack,
            limit=lambda slack: -slack + 0.0,
        )
    if policy.perplexity_ratio is not None:
        yield _Hypothesis(
            name="perplexity_ratio",
            at_least=False,
            parts=[_part(by_key, "perplexity_ratio", PERPLEXITY)],
            gain=lambda row: row["old"] - row["new"],
            share=_one,
            slack=math.log(policy.perplexity_ratio),
            lowest=lambda _: -math.inf,
            highest=lambda _: math.inf,
            limit=lambda slack: float(np.exp(min(slack, 700.0))),
        )
    kept = _kept(by_key, chance)
    for name, margin in policy.margins.items():
        if name == RECITATION:
            if against:
                yield _margin(name, margin, [_part(by_key, name, STRICT)], sign=-1)
        elif name in kept:
            yield _margin(name, margin, kept[name], sign=1)
        else:
            raise unknown("axis in the policy's [margins]", name, [*kept, RECITATION])


def _margin(name: str, margin: float, parts: Sequence[pd.DataFrame], *, sign: int) -> _Hypothesis:
    """That ``sign`` times the change is above -margin."""
    return _Hypothesis(
        name=f"margins.{name}",
        at_least=sign > 0,
        parts=parts,
        gain=lambda row: sign * (row["new"] - row["old"]),
        share=_one,
        slack=margin,
        lowest=lambda slack: slack - 1,
        highest=lambda slack: slack + 1,
        limit=lambda slack: -sign * slack + 0.0,
    )


def _one(row: pd.DataFrame) -> pd.Series:
    return row["weight"] * 0 + 1.0


def _part(by_key: Mapping[Key, pd.DataFrame], criterion: str, key: Key) -> pd.DataFrame:
    if key not in by_key:
        known = ", ".join(sorted({axis for axis, _ in by_key}))
        raise UserError(
            f"the policy asks for {criterion!r}, but {'/'.join(key)} was not scored: expected one of {known}"
        )
    return by_key[key]


def _kept(by_key: Mapping[Key, pd.DataFrame], chance: Mapping[Key, float]) -> dict[str, list[pd.DataFrame]]:
    """The rows, by task, of every ``AXIS`` (its ``acc``) and ``AXIS/METRIC`` that is a share and can be kept."""
    shares = {
        key: part
        for key, part in by_key.items()
        if (key in chance or key[0] in FAMILIES)
        and key[0] not in (RECITATION, TWINS)
        and part["base"].between(0, 1).all()
    }
    kept = {"/".join(key): [part] for key, part in shares.items()}
    for axis in dict.fromkeys(axis for axis, _ in shares):
        own = [part for key, part in shares.items() if key[0] == axis]
        tasks = [task for part in own for task in part["task"].unique()]
        if (axis, "acc") in shares:
            kept[axis] = [shares[axis, "acc"]]
        elif axis in FAMILIES and len(set(tasks)) == len(tasks):
            kept[axis] = own
    return kept


def _decide(hypothesis: _Hypothesis, alpha: float, alpha_below: float) -> Criterion:
    gain_c, share_c, largest = _by_cluster(hypothesis)

    def p_missed(slack: float) -> float:
        return noninferiority.p_not_above(gain_c + slack * share_c, hypothesis.lowest(slack) * largest)

    def p_met(slack: float) -> float:
        return noninferiority.p_not_above(-gain_c - slack * share_c, -hypothesis.highest(slack) * largest)

    more, items = None, sum(map(len, hypothesis.parts))
    if p_missed(hypothesis.slack) <= alpha:
        outcome: Outcome = "PASS"
    elif np.isneginf(gain_c).any() or p_met(hypothesis.slack) <= alpha_below:
        outcome = "FAIL"
    else:
        outcome = "INCONCLUSIVE"
        slack = hypothesis.slack
        ends = (hypothesis.lowest(slack) * largest, hypothesis.highest(slack) * largest)
        times = noninferiority.times_needed(gain_c + slack * share_c, *ends, alpha, alpha_below)
        more = None if times is None else max(1, math.ceil((times - 1) * items - 1e-6))
    slack_0 = -float(gain_c.mean() / share_c.mean()) if share_c.any() else math.nan  # at which the mean is 0
    bounds = (
        noninferiority.turn(lambda slack: p_missed(slack) - alpha, slack_0, 1),
        noninferiority.turn(lambda slack: p_met(slack) - alpha_below, slack_0, -1),
    )
    low, high = sorted(map(hypothesis.limit, bounds))
    return Criterion(
        name=hypothesis.name,
        at_least=hypothesis.at_least,
        limit=hypothesis.limit(hypothesis.slack),
        estimate=hypothesis.limit(slack_0),
        low=low,
        high=high,
        outcome=outcome,
        items=items,
        clusters=len(gain_c),
        more=more,
    )


def _by_cluster(hypothesis: _Hypothesis) -> tuple[np.ndarray, np.ndarray, float]:
    """Gain and share of each cluster, (C,) each, and the largest cluster's weight · C.

    The plain means over clusters are those that the criterion is about. A new score that is not finite makes its
    cluster's gain ``-inf``.
    """
    gains: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for part in hypothesis.parts:
        code, clusters = pd.factorize(part["cluster"])
        weight = (part["weight"] / part["weight"].sum() / len(hypothesis.parts)).to_numpy()
        gain = np.where(np.isfinite(part["new"]), hypothesis.gain(part).to_numpy(dtype=float), -np.inf)
        for values, value in ((gains, gain), (shares, hypothesis.share(part).to_numpy(dtype=float)), (weights, 1.0)):
            values.append(np.bincount(code, weight * value, len(clusters)))
    gain_c, share_c, weight_c = map(np.concatenate, (gains, shares, weights))
    return gain_c * len(gain_c), share_c * len(gain_c), float(weight_c.max()) * len(gain_c)
