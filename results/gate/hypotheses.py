"""What a policy's criteria say of the scores: that a mean of values, linear in those of the sides, is above 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...errors import UserError, unknown
from ..records.axes import LOG_PROB, PERPLEXITY, REASONING, RECITATION, STRICT, TWINS
from ..records.schema import Key
from ..statistics.aggregate import standard_error
from .policy import WORST, Policy
from .rows import by_metric, kept, matched, scored


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Scores (``records.tables.ITEMS``) of all that a policy may compare.

    Attributes:
        base: of the base model.
        new: of the edit.
        old: of the edit that the new one is to be no worse than; ``None`` for the base.
        unseen: of the unseen counterpart, a model that never saw the passages; ``None`` where there is none.
        attacked: of the edit after each attack, and of the unseen counterpart after the same, by the attack's spec.
    """

    base: pd.DataFrame
    new: pd.DataFrame
    old: pd.DataFrame | None = None
    unseen: pd.DataFrame | None = None
    attacked: Mapping[str, tuple[pd.DataFrame, pd.DataFrame | None]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Items whose mean is a term of a hypothesis.

    Attributes:
        values: a row an item, a column a side, and ``weight`` and ``cluster``.
        factor: what the mean is multiplied by.
        low: the least value that a side can have.
        high: the largest.
    """

    values: pd.DataFrame
    factor: float = 1.0
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """That the sum over parts of the mean of ``gain + slack · share`` is above 0.

    Attributes:
        name: the criterion's.
        at_least: the criterion's.
        parts: of the sum.
        gain: of a row: the coefficients of the sides' values.
        share: of a row, likewise; 1 where it is empty. How much a unit of slack adds.
        slack: what the policy allows; the larger it is, the more edits pass.
        limit: the criterion's limit, by slack.
        edited: the side that must be finite.
        note: the criterion's.
    """

    name: str
    at_least: bool
    parts: Sequence[Part]
    gain: Mapping[str, float]
    share: Mapping[str, float]
    slack: float
    limit: Callable[[float], float]
    edited: str = "new"
    note: str = ""

    def ends(self, part: Part, gain: float, slack: float) -> tuple[float, float]:
        """The least and the largest value that a row's ``gain · (its gain) + slack · share`` can have."""
        sides = dict.fromkeys([*self.gain, *self.share])
        weights = [gain * self.gain.get(side, 0.0) + slack * self.share.get(side, 0.0) for side in sides]
        if math.isinf(part.low):
            return -math.inf, math.inf
        ends = [sorted((weight * part.low, weight * part.high)) for weight in weights]
        constant = 0.0 if self.share else slack
        return constant + sum(low for low, _ in ends), constant + sum(high for _, high in ends)


def hypotheses(sides: Sides, chance: Mapping[Key, float], policy: Policy) -> Iterator[Hypothesis]:
    """Those of a policy's criteria, in its order; ``stays_erased`` has one for the edit, and one for each attack.

    Args:
        sides: the scores.
        chance: what guessing scores, by (axis, metric); its keys are the metrics that are shares, more is better.
        policy: that asks.

    Raises:
        UserError: the policy asks for what was not scored.
        ValueError: the items differ.
    """
    by_key = by_metric(base=sides.base, new=sides.new, old=sides.base if sides.old is None else sides.old)
    if policy.removed is not None:
        part = Part(values=scored(by_key, "removed", STRICT))
        yield _kept_share("removed", policy.removed, [part], gain={"base": 1, "new": -1})
    yield from _erased(sides, policy)
    to_keep = kept(by_key, chance)
    if policy.reasoning is not None:
        yield _reasoning(policy.reasoning, to_keep, chance)
    yield from _fluent(by_key, policy)
    for name, margin in policy.margins.items():
        if name == RECITATION:
            if sides.old is not None:
                yield _margin(name, margin, [scored(by_key, name, STRICT)], sign=-1)
        elif name in to_keep:
            yield _margin(name, margin, to_keep[name], sign=1)
        else:
            raise unknown("axis in the policy's [margins]", name, [*to_keep, RECITATION])


def _kept_share(
    name: str, share: float, parts: Sequence[Part], *, gain: Mapping[str, float], note: str = ""
) -> Hypothesis:
    """That ``gain`` is at least a share of the base's value."""
    return Hypothesis(
        name=name,
        at_least=True,
        parts=parts,
        gain=gain,
        share={"base": 1},
        slack=-share,
        limit=lambda slack: -slack + 0.0,
        note=note,
    )


def _erased(sides: Sides, policy: Policy) -> Iterator[Hypothesis]:
    """That the edit, and the edit after each attack, has at most 1 - r of the base's memory M, in bits a token.

    And that the edit's is not below -s M, where s is the largest scar. Without an unseen counterpart the memory of a
    model is the twins' code length less the passages'.
    """
    if policy.erased is not None:
        yield _memory("erased", policy.erased, sides, sides.new, sides.unseen)
    if policy.stays_erased is not None:
        if not sides.attacked:
            raise UserError("the policy asks for 'stays_erased', but no attack was run: expected --attacks")
        yield _memory("stays_erased", policy.stays_erased, sides, sides.new, sides.unseen, "before any attack")
        for attack, (edited, floor) in sides.attacked.items():
            yield _memory("stays_erased", policy.stays_erased, sides, edited, floor, f"after {attack}")
    if policy.scar is not None:
        yield _memory("scar", policy.scar, sides, sides.new, sides.unseen, at_least=False)


def _memory(
    name: str,
    share: float,
    sides: Sides,
    edited: pd.DataFrame,
    floor: pd.DataFrame | None,
    note: str = "",
    *,
    at_least: bool = True,
) -> Hypothesis:
    seen = {"base": sides.base, "new": edited}
    left, of_base = {"new": 1.0}, {"base": 1.0}
    if sides.unseen is None or floor is None:
        note = f"{note}; " * bool(note) + "no unseen counterpart, so that its part of the memory counts as 0"
    else:
        seen |= {"unseen": sides.unseen, "floor": floor}
        left |= {"floor": -1.0}
        of_base |= {"unseen": -1.0}
    parts = []
    for axis, factor in ((TWINS, 1.0), (RECITATION, -1.0)):
        key = (axis, LOG_PROB)
        of_key = {side: items[(items["axis"] == axis) & (items["metric"] == LOG_PROB)] for side, items in seen.items()}
        for items in of_key.values():
            scored({key: items} if len(items) else {}, name, key)
        rows = matched(**of_key)
        bits = rows.assign(**{side: -rows[side] / math.log(2) for side in seen})
        parts.append(Part(values=bits, factor=factor, low=-math.inf, high=math.inf))
    erased = of_base | {side: -factor for side, factor in left.items()}
    sign = -1 if at_least else 1
    return Hypothesis(
        name=name,
        at_least=at_least,
        parts=parts,
        gain=erased if at_least else left,
        share=of_base,
        slack=sign * share,
        limit=lambda slack: sign * slack + 0.0,
        note=note,
    )


def _reasoning(share: float, to_keep: Mapping[str, Sequence[pd.DataFrame]], chance: Mapping[Key, float]) -> Hypothesis:
    """That the mean over axes of what is kept above guessing is at least a share, as ``reasoning_kept`` is made.

    An axis counts on which the base is above guessing by two standard errors. Each axis counts alike, and in it each
    task, as a share of what the base has of it.
    """
    if missing := [axis for axis in REASONING if axis not in to_keep]:
        asked = ", ".join(REASONING)
        raise UserError(f"the policy asks for 'reasoning', but {missing[0]} was not scored: expected {asked}")
    above = {axis: [_above_guessing(rows, axis, chance) for rows in to_keep[axis]] for axis in REASONING}
    kept_of_base = {axis: _of_base(parts) for axis, parts in above.items()}
    counted = [axis for axis, (mean, error) in kept_of_base.items() if mean > 2 * error]
    left_out = [axis for axis in REASONING if axis not in counted]
    parts = [
        Part(
            values=part.values,
            factor=1 / (len(counted) * len(above[axis]) * kept_of_base[axis][0]) if counted else math.nan,
            low=part.low,
        )
        for axis in counted or REASONING
        for part in above[axis]
    ]
    note = f"without {' and '.join(left_out)}, of which the base knows nothing" if left_out else ""
    return _kept_share("reasoning", share, parts, gain={"new": 1}, note=note)


def _above_guessing(rows: pd.DataFrame, axis: str, chance: Mapping[Key, float]) -> Part:
    guess = chance.get((axis, str(rows["metric"].iloc[0])), 0.0)
    scaled = rows.assign(**{side: (rows[side] - guess) / (1 - guess) for side in ("base", "new")})
    return Part(values=scaled, low=-guess / (1 - guess))


def _of_base(parts: Sequence[Part]) -> tuple[float, float]:
    """The base's mean over tasks, and its standard error."""
    means = [np.average(part.values["base"], weights=part.values["weight"]) for part in parts]
    errors = [_error(part.values, mean) for part, mean in zip(parts, means, strict=True)]
    return float(np.mean(means)), math.hypot(*errors) / len(parts)


def _error(rows: pd.DataFrame, mean: float) -> float:
    """The standard error of the base's mean, by the spread of the clusters."""
    error_c = (rows["weight"] * (rows["base"] - mean)).groupby(rows["cluster"]).sum() / rows["weight"].sum()
    return standard_error(error_c.to_numpy())


def _fluent(by_key: Mapping[Key, pd.DataFrame], policy: Policy) -> Iterator[Hypothesis]:
    if policy.fluency is not None:
        slack = -math.log(policy.fluency)
        yield _perplexity("fluency", slack, by_key, "base", at_least=True, limit=lambda slack: math.exp(-slack))
    if policy.perplexity_ratio is not None:
        slack = math.log(policy.perplexity_ratio)
        yield _perplexity("perplexity_ratio", slack, by_key, "old", at_least=False, limit=math.exp)
    if policy.worst_texts is not None:
        rows = scored(by_key, "worst_texts", PERPLEXITY)
        change = rows["new"] - rows["old"]
        worst = (change > math.log(WORST)).where(np.isfinite(change)).astype(float)
        yield Hypothesis(
            name="worst_texts",
            at_least=False,
            parts=[Part(values=rows.assign(worst=worst, weight=1))],
            gain={"worst": -1},
            share={},
            slack=policy.worst_texts,
            limit=lambda slack: slack + 0.0,
            edited="worst",
            note=f"texts whose perplexity is more than {WORST:g} times what it was",
        )


def _perplexity(
    name: str,
    slack: float,
    by_key: Mapping[Key, pd.DataFrame],
    before: str,
    *,
    at_least: bool,
    limit: Callable[[float], float],
) -> Hypothesis:
    """That the nats of a token grow by less than ``slack``, those of each text clipped so that the mean is bounded."""
    rows = scored(by_key, name, PERPLEXITY)
    change, clip = rows["new"] - rows[before], max(math.log(WORST), 2 * slack)
    change = change.where(np.isfinite(change))
    clipped = int((change.abs() > clip).sum())
    note = ""
    if clipped:
        with np.errstate(over="ignore"):
            ratio = float(np.exp(np.average(change, weights=rows["weight"])))
        note = f"{clipped} of {len(rows)} texts clipped to ±{clip:.2f} nats a token; not clipped {ratio:.4g}"
    return Hypothesis(
        name=name,
        at_least=at_least,
        parts=[Part(values=rows.assign(change=change.clip(-clip, clip)), low=-clip, high=clip)],
        gain={"change": -1},
        share={},
        slack=slack,
        limit=limit,
        edited="change",
        note=note,
    )


def _margin(name: str, margin: float, rows: Sequence[pd.DataFrame], *, sign: int) -> Hypothesis:
    """That ``sign`` times the change is above -margin."""
    return Hypothesis(
        name=f"margins.{name}",
        at_least=sign > 0,
        parts=[Part(values=of_task, factor=1 / len(rows)) for of_task in rows],
        gain={"new": sign, "old": -sign},
        share={},
        slack=margin,
        limit=lambda slack: -sign * slack + 0.0,
    )
