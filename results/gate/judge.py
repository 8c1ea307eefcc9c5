"""The regression gate: whether an edit's items show that it meets a policy.

Every criterion says that a mean of paired values is above 0 (see ``gate.hypotheses`` and
``statistics.noninferiority``). It passes (PASS) where the lower one-sided bound of the mean at ``alpha`` is above 0,
fails (FAIL) where the upper bound at ``alpha`` / (number of criteria) is below 0, and is INCONCLUSIVE otherwise. So an
edit that does not meet one of the criteria passes the gate with probability at most ``alpha``, and an edit that meets
all fails with probability at most ``alpha`` (Bonferroni). A criterion about a share of what the base has is decided
only where the base is shown to have something.

``stays_erased`` is met where it is met by the edit and after every attack. It passes where all these tests do, at
``alpha`` each (an intersection-union test needs no correction), and fails where one does, at its level divided by their
number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec
import numpy as np
import pandas as pd

from ...errors import UserError
from ..records import tables
from ..records.record import Record
from ..records.schema import Key
from ..statistics import noninferiority
from ..statistics.compare import check_same_items
from .hypotheses import Hypothesis, Sides, hypotheses
from .policy import ASKS, Policy
from .verdict import Criterion, Outcome, Verdict


def judge(sides: Sides, chance: Mapping[Key, float], policy: Policy) -> tuple[Criterion, ...]:
    """Every criterion of a policy.

    Args:
        sides: the scores.
        chance: what guessing scores, by (axis, metric); its keys are the metrics that are shares, more is better.
        policy: whose criteria are tested.

    Raises:
        UserError: the policy names an axis or metric that was not scored, or has no criterion.
        ValueError: the items differ.
    """
    by_criterion = [list(same) for _, same in groupby(hypotheses(sides, chance, policy), lambda one: one.name)]
    if not by_criterion:
        raise UserError(f"the policy asks for nothing: expected {ASKS}")
    below = policy.alpha / len(by_criterion)
    return tuple(_worst([_decide(one, policy.alpha, below / len(same)) for one in same]) for same in by_criterion)


def verdict(new: Record, old: Record | None, policy: Policy) -> Verdict:
    """The verdict on a record, against the base or another record.

    Raises:
        UserError: the two cannot be compared, or the policy asks for what was not scored.
    """
    if old is not None:
        check_same_items(new, old)
    sides = sides_of(new, old)
    if policy.stays_erased is not None and not sides.attacked:
        raise UserError(
            f"the policy asks for 'stays_erased', but {new.id} was not attacked: expected a record of "
            f"{new.content.command or 'memsplit-eval'} --attacks"
        )
    return Verdict(
        model=new.content.model,
        spec=new.spec,
        against=old.spec if old else "base",
        policy=policy,
        criteria=judge(sides, new.chance, policy),
        record=str(new.path),
        fingerprint=new.content.fingerprint,
    )


def sides_of(new: Record, old: Record | None) -> Sides:
    """The scores of a record, and of the edit of another one.

    Raises:
        UserError: their files are damaged or gone.
    """
    by_name, none = tables.sides(new), pd.DataFrame(columns=tables.ITEMS)
    attacks = [name.partition("+")[2] for name in by_name if name.startswith(tables.attacked(tables.EDIT, ""))]
    return Sides(
        base=by_name.get(tables.BASE, none),
        new=by_name.get(tables.EDIT, none),
        old=tables.items(old, tables.EDIT) if old else None,
        unseen=by_name.get(tables.UNSEEN),
        attacked={
            attack: (by_name[tables.attacked(tables.EDIT, attack)], by_name.get(tables.attacked(tables.UNSEEN, attack)))
            for attack in attacks
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Clusters:
    """A hypothesis's values by cluster; the plain means over clusters are those that it is about.

    Attributes:
        hypothesis: it.
        gain_c: (C,); ``-inf`` where a score of the edit is not finite.
        share_c: (C,).
        part_c: (C,) number of the part that the cluster is of.
        largest_p: by part, the largest cluster's weight · C.
    """

    hypothesis: Hypothesis
    gain_c: np.ndarray
    share_c: np.ndarray
    part_c: np.ndarray
    largest_p: Sequence[float]

    def x(self, gain: float, slack: float) -> tuple[np.ndarray, float, float]:
        """``gain · gain_c + slack · share_c``, and the least and the largest value that a cluster's can have."""
        ends = []
        for part, largest in zip(self.hypothesis.parts, self.largest_p, strict=True):
            ends += [end * largest for end in self.hypothesis.ends(part, gain, slack)]
        return (gain * self.gain_c if gain else 0.0) + slack * self.share_c, min(ends), max(ends)

    def p_above(self, gain: float, slack: float) -> float:
        """P of "the mean is at most 0"."""
        x_c, low, _ = self.x(gain, slack)
        return noninferiority.p_not_above(x_c, low, part_c=self.part_c)

    def p_below(self, gain: float, slack: float) -> float:
        """P of "the mean is at least 0"."""
        x_c, _, high = self.x(gain, slack)
        return noninferiority.p_not_above(-x_c, -high, part_c=self.part_c)

    def more(self, gain: float, slack: float, alpha: float, alpha_below: float) -> float | None:
        """See ``noninferiority.times_needed``."""
        x_c, low, high = self.x(gain, slack)
        return noninferiority.times_needed(x_c, low, high, alpha, alpha_below, part_c=self.part_c)


def _decide(hypothesis: Hypothesis, alpha: float, alpha_below: float) -> Criterion:
    clusters, slack = _by_cluster(hypothesis), hypothesis.slack
    gain_c, share_c = clusters.gain_c, clusters.share_c
    p_nothing = clusters.p_above(0.0, 1.0)  # of "the base has nothing of this"

    def p_missed(slack: float) -> float:
        return max(p_nothing, clusters.p_above(1.0, slack))

    def p_met(slack: float) -> float:
        return max(p_nothing, clusters.p_below(1.0, slack))

    more, items = None, sum(len(part.values) for part in hypothesis.parts)
    if p_missed(slack) <= alpha:
        outcome: Outcome = "PASS"
    elif np.isneginf(gain_c).any() or p_met(slack) <= alpha_below:
        outcome = "FAIL"
    else:
        outcome = "INCONCLUSIVE"
        times = [clusters.more(1.0, slack, alpha, alpha_below)]
        if p_nothing > alpha_below:
            times.append(clusters.more(0.0, 1.0, alpha_below, alpha_below) if share_c.mean() > 0 else None)
        known = [each for each in times if each is not None]
        if len(known) == len(times):
            more = max(1, math.ceil((max(known) - 1) * items - 1e-6))
    slack_0 = -float(gain_c.mean() / share_c.mean()) if share_c.any() else math.nan  # at which the mean is 0
    bounds = (
        noninferiority.turn(lambda slack: p_missed(slack) - alpha, slack_0, 1),
        noninferiority.turn(lambda slack: p_met(slack) - alpha_below, slack_0, -1),
    )
    low, high = sorted(map(hypothesis.limit, bounds))
    return Criterion(
        name=hypothesis.name,
        at_least=hypothesis.at_least,
        limit=hypothesis.limit(slack),
        estimate=hypothesis.limit(slack_0),
        low=low,
        high=high,
        outcome=outcome,
        items=items,
        clusters=len(gain_c),
        more=more,
        note=hypothesis.note,
    )


def _worst(criteria: Sequence[Criterion]) -> Criterion:
    """Of the same criterion after several attacks: the attack that leaves least, and bounds of what all leave."""
    first, *others = sorted(criteria, key=lambda one: one.estimate if math.isfinite(one.estimate) else -math.inf)
    if not others:
        return first
    outcomes = {one.outcome for one in criteria}
    outcome: Outcome = "FAIL" if "FAIL" in outcomes else "INCONCLUSIVE" if "INCONCLUSIVE" in outcomes else "PASS"
    open_ones = [one.more for one in criteria if one.outcome == "INCONCLUSIVE"] if outcome == "INCONCLUSIVE" else []
    known = [more for more in open_ones if more is not None]
    return msgspec.structs.replace(
        first,
        low=min(one.low for one in criteria),
        high=min(one.high for one in criteria),
        outcome=outcome,
        more=max(known) if known and len(known) == len(open_ones) else None,
    )


def _by_cluster(hypothesis: Hypothesis) -> _Clusters:
    gains: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    largest: list[float] = []
    for part in hypothesis.parts:
        values = part.values
        code, clusters = pd.factorize(values["cluster"])
        weight = part.factor * (values["weight"] / values["weight"].sum()).to_numpy()
        finite = np.isfinite(values[hypothesis.edited])
        gain = np.where(finite, _linear(values, hypothesis.gain), -math.inf * part.factor)
        share = _linear(values, hypothesis.share) if hypothesis.share else np.ones(len(values))
        gains.append(np.bincount(code, weight * gain, len(clusters)))
        shares.append(np.bincount(code, weight * share, len(clusters)))
        largest.append(float(np.bincount(code, weight, len(clusters)).max()))
    gain_c, share_c = np.concatenate(gains), np.concatenate(shares)
    n = len(gain_c)
    return _Clusters(
        hypothesis=hypothesis,
        gain_c=gain_c * n,
        share_c=share_c * n,
        part_c=np.repeat(np.arange(len(gains)), list(map(len, gains))),
        largest_p=[each * n for each in largest],
    )


def _linear(values: pd.DataFrame, coefficients: Mapping[str, float]) -> np.ndarray:
    total = np.zeros(len(values))
    for side, coefficient in coefficients.items():
        total = total + coefficient * values[side].to_numpy(dtype=float)
    return total
