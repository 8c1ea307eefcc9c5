"""The regression gate: what an edit must do, and whether its items show that it does.

Every criterion says that a mean of paired values is above 0 (see ``statistics.noninferiority``). It is met, PASS, where
the one-sided bound at ``alpha`` is above 0; missed, FAIL, where the bound from above at ``alpha`` / (number of
criteria) is below 0; else INCONCLUSIVE. So an edit that misses any of them passes the whole with probability at most
``alpha``, and one that meets all fails with probability at most ``alpha`` (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from ...errors import UserError, unknown
from ..records.record import Record
from ..statistics import aggregate, noninferiority
from ..statistics.compare import check_same_items
from ..statistics.paired import Key
from .policy import FORGOTTEN, Policy

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]
EXIT_CODES: dict[Outcome, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One criterion and what was found.

    Attributes:
        name: ``removed``, ``perplexity_ratio``, or ``margins.AXIS[/METRIC]``, as in the policy.
        at_least: whether ``limit`` is the least that will do, or the most.
        limit: of ``found``.
        found: the share of the base's recitation that is removed; the ratio of perplexities; the change of an axis.
        low: of the limits that would not be settled the lowest; beyond it an ``at_least`` would PASS (at ``alpha``), an
            "at most" would FAIL (at ``alpha`` / number of criteria). One-sided bounds of what ``found`` is in truth.
        high: the highest.
        outcome: see above.
        items: that it is found from.
        clusters: of items about one thing.
        more: items, if they were like these, that would settle it; ``None`` where it is settled, and where more of
            the same would not do it, or not ``noninferiority.MOST`` times as many.
    """

    name: str
    at_least: bool
    limit: float
    found: float
    low: float
    high: float
    outcome: Outcome
    items: int
    clusters: int
    more: int | None


@dataclass(frozen=True, kw_only=True, repr=False)
class Verdict:
    """All criteria of an edit; true where it passes.

    Attributes:
        model: its name.
        spec: the edit.
        against: the spec that kept axes and perplexity are compared with.
        policy: that was asked.
        criteria: in the policy's order.
        record: path of the edit's record.
        fingerprint: of the suite.
    """

    model: str
    spec: str
    against: str
    policy: Policy
    criteria: tuple[Criterion, ...]
    record: str
    fingerprint: str

    @property
    def outcome(self) -> Outcome:
        """PASS where all pass, FAIL where any fails."""
        found = {criterion.outcome for criterion in self.criteria}
        return "FAIL" if "FAIL" in found else "INCONCLUSIVE" if "INCONCLUSIVE" in found else "PASS"

    @property
    def passed(self) -> bool:
        """Whether all pass."""
        return self.outcome == "PASS"

    @property
    def exit_code(self) -> int:
        """0, 1 or 3."""
        return EXIT_CODES[self.outcome]

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        from .reports import headline

        return headline(self)

    def __str__(self) -> str:
        from .reports import text

        return text(self)

    def check(self) -> None:
        """Raise ``AssertionError`` with the table where it does not pass."""
        if not self.passed:
            raise AssertionError(f"\n{self}")


def judge(
    base: pd.DataFrame,
    new: pd.DataFrame,
    old: pd.DataFrame | None,
    chance: Mapping[Key, float],
    policy: Policy,
) -> tuple[Criterion, ...]:
    """Every criterion of a policy.

    Args:
        base: items of the base model (see ``statistics.aggregate``).
        new: of the edit.
        old: of the edit that it is to be no worse than; ``None`` for the base.
        chance: what guessing scores, by (axis, metric): its keys are the metrics that are shares, more is better.
        policy: what is asked.

    Raises:
        UserError: the policy asks for what there are no items of, or for nothing.
        ValueError: the items differ.
    """
    questions = list(_questions(_matched(base, new, old), chance, policy, against=old is not None))
    if not questions:
        raise UserError("the policy asks for nothing: expected removed, perplexity_ratio, or an axis in [margins]")
    return tuple(_decide(question, policy.alpha, policy.alpha / len(questions)) for question in questions)


def verdict(new: Record, old: Record | None, policy: Policy) -> Verdict:
    """The verdict on a record, against the base or another record.

    Raises:
        UserError: the two cannot be compared, or the policy asks for what they do not hold.
    """
    if old is not None:
        check_same_items(new, old)
    items = (new.items("base"), new.items("edit"), old.items("edit") if old else None)
    return Verdict(
        model=new.content["model"],
        spec=new.spec,
        against=old.spec if old else "base",
        policy=policy,
        criteria=judge(*items, new.chance, policy),
        record=str(new.path),
        fingerprint=new.content["fingerprint"],
    )


@dataclass(frozen=True, kw_only=True)
class _Question:
    """A criterion to be settled: the mean of ``gain + ease · share`` is above 0.

    Attributes:
        parts: the rows of each family; the criterion is about the plain mean over families.
        gain: of rows.
        share: of rows; what a step of ease brings.
        ease: that the policy asks for; the larger, the more passes.
        lowest: no row's value can be below that, by ease.
        highest: or above.
        figure: the limit of an ease.
    """

    name: str
    at_least: bool
    parts: Sequence[pd.DataFrame]
    gain: Callable[[pd.DataFrame], pd.Series]
    share: Callable[[pd.DataFrame], pd.Series]
    ease: float
    lowest: Callable[[float], float]
    highest: Callable[[float], float]
    figure: Callable[[float], float]


def _matched(base: pd.DataFrame, new: pd.DataFrame, old: pd.DataFrame | None) -> pd.DataFrame:
    """One table with columns ``base``, ``new``, ``old`` in place of ``value``; old is the base where there is none."""
    keys = [column for column in aggregate.COLUMNS if column != "value"]
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


def _questions(
    rows: pd.DataFrame, chance: Mapping[Key, float], policy: Policy, *, against: bool
) -> Iterator[_Question]:
    by_key: dict[Key, pd.DataFrame] = {(str(a), str(m)): part for (a, m), part in rows.groupby(["axis", "metric"])}
    if policy.removed is not None:
        yield _Question(
            name="removed",
            at_least=True,
            parts=[_part(by_key, "removed", FORGOTTEN)],
            gain=lambda row: row["base"] - row["new"],
            share=lambda row: row["base"],
            ease=-policy.removed,
            lowest=lambda _: -1.0,
            highest=lambda ease: 1 + ease,
            figure=lambda ease: -ease + 0.0,
        )
    if policy.perplexity_ratio is not None:
        yield _Question(
            name="perplexity_ratio",
            at_least=False,
            parts=[_part(by_key, "perplexity_ratio", ("fluency", "perplexity"))],
            gain=lambda row: row["old"] - row["new"],
            share=_one,
            ease=math.log(policy.perplexity_ratio),
            lowest=lambda _: -math.inf,
            highest=lambda _: math.inf,
            figure=lambda ease: float(np.exp(min(ease, 700.0))),
        )
    kept = _kept(by_key, chance)
    for name, margin in policy.margins.items():
        if name == FORGOTTEN[0]:
            if against:
                yield _margin(name, margin, [_part(by_key, name, FORGOTTEN)], sign=-1)
        elif name in kept:
            yield _margin(name, margin, kept[name], sign=1)
        else:
            raise unknown("axis in the policy's [margins]", name, [*kept, FORGOTTEN[0]])


def _margin(name: str, margin: float, parts: Sequence[pd.DataFrame], *, sign: int) -> _Question:
    """That ``sign`` times the change is above -margin."""
    return _Question(
        name=f"margins.{name}",
        at_least=sign > 0,
        parts=parts,
        gain=lambda row: sign * (row["new"] - row["old"]),
        share=_one,
        ease=margin,
        lowest=lambda ease: ease - 1,
        highest=lambda ease: ease + 1,
        figure=lambda ease: -sign * ease + 0.0,
    )


def _one(row: pd.DataFrame) -> pd.Series:
    return row["weight"] * 0 + 1.0


def _part(by_key: Mapping[Key, pd.DataFrame], asked: str, key: Key) -> pd.DataFrame:
    if key not in by_key:
        known = ", ".join(sorted({axis for axis, _ in by_key}))
        raise UserError(f"the policy asks for {asked!r}, but {'/'.join(key)} was not scored: expected one of {known}")
    return by_key[key]


def _kept(by_key: Mapping[Key, pd.DataFrame], chance: Mapping[Key, float]) -> dict[str, list[pd.DataFrame]]:
    """The rows, by family, of every ``AXIS`` (its ``acc``) and ``AXIS/METRIC`` that can be kept: shares."""
    shares = {
        key: part
        for key, part in by_key.items()
        if (key in chance or key[0] in aggregate.FAMILIES)
        and key[0] not in (FORGOTTEN[0], "twins")
        and part["base"].between(0, 1).all()
    }
    kept = {"/".join(key): [part] for key, part in shares.items()}
    for axis in dict.fromkeys(axis for axis, _ in shares):
        own = [part for key, part in shares.items() if key[0] == axis]
        tasks = [task for part in own for task in part["task"].unique()]
        if (axis, "acc") in shares:
            kept[axis] = [shares[axis, "acc"]]
        elif axis in aggregate.FAMILIES and len(set(tasks)) == len(tasks):
            kept[axis] = own
    return kept


def _decide(question: _Question, alpha: float, alpha_below: float) -> Criterion:
    gain_c, share_c, largest = _by_cluster(question)

    def p_missed(ease: float, times: float = 1.0) -> float:
        return noninferiority.p_not_above(gain_c + ease * share_c, question.lowest(ease) * largest, times)

    def p_met(ease: float) -> float:
        return noninferiority.p_not_above(-gain_c - ease * share_c, -question.highest(ease) * largest)

    more, items = None, sum(map(len, question.parts))
    if p_missed(question.ease) <= alpha:
        outcome: Outcome = "PASS"
    elif np.isneginf(gain_c).any() or p_met(question.ease) <= alpha_below:
        outcome = "FAIL"
    else:
        outcome = "INCONCLUSIVE"
        x_c, ends = gain_c + question.ease * share_c, (question.lowest(question.ease), question.highest(question.ease))
        times = noninferiority.times_needed(x_c, ends[0] * largest, ends[1] * largest, alpha, alpha_below)
        more = None if times is None else max(1, math.ceil((times - 1) * items - 1e-6))
    found = -float(gain_c.mean() / share_c.mean()) if share_c.any() else math.nan
    bounds = (
        noninferiority.turn(lambda ease: p_missed(ease) - alpha, found, 1),
        noninferiority.turn(lambda ease: p_met(ease) - alpha_below, found, -1),
    )
    low, high = sorted(map(question.figure, bounds))
    return Criterion(
        name=question.name,
        at_least=question.at_least,
        limit=question.figure(question.ease),
        found=question.figure(found),
        low=low,
        high=high,
        outcome=outcome,
        items=items,
        clusters=len(gain_c),
        more=more,
    )


def _by_cluster(question: _Question) -> tuple[np.ndarray, np.ndarray, float]:
    """Gain and share of each cluster, (C,), whose plain means are the criterion's; the largest cluster's weight · C.

    A new score that is not finite makes its cluster's gain ``-inf``.
    """
    gains: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for part in question.parts:
        code, clusters = pd.factorize(part["cluster"])
        weight = (part["weight"] / part["weight"].sum() / len(question.parts)).to_numpy()
        gain = np.where(np.isfinite(part["new"]), question.gain(part).to_numpy(dtype=float), -np.inf)
        for found, value in ((gains, gain), (shares, question.share(part).to_numpy(dtype=float)), (weights, 1.0)):
            found.append(np.bincount(code, weight * value, len(clusters)))
    gain_c, share_c, weight_c = map(np.concatenate, (gains, shares, weights))
    return gain_c * len(gain_c), share_c * len(gain_c), float(weight_c.max()) * len(gain_c)
