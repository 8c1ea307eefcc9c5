"""The regression gate: what an edit must do, and whether its items show that it does.

Every criterion says that a mean of paired values is above 0 (see ``results.noninferiority``). It is met, PASS, where
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

from ..errors import UserError, unknown
from . import noninferiority, stats
from .compare import check_same_items
from .gate_policy import FORGOTTEN, Policy
from .paired import Key
from .record import Record

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
        low: one-sided bound of what ``found`` is in truth: at ``alpha`` on the side that must keep to the limit for
            PASS, at ``alpha`` / (number of criteria) on the other, which must miss it for FAIL.
        high: the other bound.
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
        from .gate_reports import headline

        return headline(self)

    def __str__(self) -> str:
        from .gate_reports import text

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
        base: items of the base model (see ``results.stats``).
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
        _check_comparable(new, old)
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


def _check_comparable(new: Record, old: Record) -> None:
    for name in ("weights", "dtype"):
        mine, theirs = new.content.get(name), old.content.get(name)
        if mine != theirs:
            raise UserError(
                f"the record {old.id} cannot be compared with {new.spec!r}: {name} {theirs}, expected {mine}"
            )
    check_same_items(new, old)


@dataclass(frozen=True, kw_only=True)
class _Question:
    """A criterion to be settled.

    Attributes:
        parts: the rows of each family; the criterion is about the plain mean over families.
        value: of rows; the mean is to be above 0.
        lowest: no row's value can be below it.
        highest: or above.
        shown: the figure for a mean of ``value``.
    """

    name: str
    at_least: bool
    limit: float
    parts: Sequence[pd.DataFrame]
    value: Callable[[pd.DataFrame], pd.Series]
    lowest: float
    highest: float
    shown: Callable[[float], float]


def _matched(base: pd.DataFrame, new: pd.DataFrame, old: pd.DataFrame | None) -> pd.DataFrame:
    """One table with columns ``base``, ``new``, ``old`` in place of ``value``; old is the base where there is none."""
    keys = [column for column in stats.COLUMNS if column != "value"]
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
        part = _part(by_key, "removed", FORGOTTEN)
        recited = _mean(part["base"], part["weight"])
        least = policy.removed
        yield _Question(
            name="removed",
            at_least=True,
            limit=least,
            parts=[part],
            value=lambda row: (1 - least) * row["base"] - row["new"],
            lowest=-1,
            highest=1 - least,
            shown=lambda mean: least + mean / recited if recited else math.nan,
        )
    if policy.perplexity_ratio is not None:
        most = policy.perplexity_ratio
        yield _Question(
            name="perplexity_ratio",
            at_least=False,
            limit=most,
            parts=[_part(by_key, "perplexity_ratio", ("fluency", "perplexity"))],
            value=lambda row: math.log(most) - (row["new"] - row["old"]),
            lowest=-math.inf,
            highest=math.inf,
            shown=lambda mean: most * float(np.exp(min(-mean, 700.0))),
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
        limit=-sign * margin,
        parts=parts,
        value=lambda row: sign * (row["new"] - row["old"]) + margin,
        lowest=margin - 1,
        highest=margin + 1,
        shown=lambda mean: sign * (mean - margin) + 0.0,
    )


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
        if (key in chance or key[0] in stats.FAMILIES)
        and key[0] not in (FORGOTTEN[0], "twins")
        and part["base"].between(0, 1).all()
    }
    kept = {"/".join(key): [part] for key, part in shares.items()}
    for axis in dict.fromkeys(axis for axis, _ in shares):
        own = [part for key, part in shares.items() if key[0] == axis]
        tasks = [task for part in own for task in part["task"].unique()]
        if (axis, "acc") in shares:
            kept[axis] = [shares[axis, "acc"]]
        elif axis in stats.FAMILIES and len(set(tasks)) == len(tasks):
            kept[axis] = own
    return kept


def _decide(question: _Question, alpha: float, alpha_below: float) -> Criterion:
    x_c, largest = _by_cluster(question)
    floor, ceiling = question.lowest * largest, question.highest * largest
    more = None
    if noninferiority.p_not_above(x_c, floor) <= alpha:
        outcome: Outcome = "PASS"
    elif np.isneginf(x_c).any() or noninferiority.p_not_above(-x_c, -ceiling) <= alpha_below:
        outcome = "FAIL"
    else:
        outcome = "INCONCLUSIVE"
        times = noninferiority.times_needed(x_c, floor, ceiling, alpha, alpha_below)
        more = None if times is None else max(1, math.ceil((times - 1) * sum(map(len, question.parts)) - 1e-6))
    bounds = (
        noninferiority.lower_bound(x_c, floor, alpha),
        noninferiority.upper_bound(x_c, ceiling, alpha_below),
    )
    low, high = sorted(map(question.shown, bounds))
    return Criterion(
        name=question.name,
        at_least=question.at_least,
        limit=question.limit,
        found=question.shown(float(x_c.mean())),
        low=low,
        high=high,
        outcome=outcome,
        items=sum(map(len, question.parts)),
        clusters=len(x_c),
        more=more,
    )


def _by_cluster(question: _Question) -> tuple[np.ndarray, float]:
    """(C,) values whose plain mean is the criterion's, and the largest cluster's share of the items, times C.

    A new score that is not finite makes its cluster's value ``-inf``.
    """
    values, shares = [], []
    for part in question.parts:
        code, clusters = pd.factorize(part["cluster"])
        share = (part["weight"] / part["weight"].sum() / len(question.parts)).to_numpy()
        value = question.value(part).to_numpy(dtype=float)
        value = np.where(np.isfinite(part["new"]), value, -np.inf)
        values.append(np.bincount(code, share * value, len(clusters)))
        shares.append(np.bincount(code, share, len(clusters)))
    x_c, share_c = np.concatenate(values), np.concatenate(shares)
    return x_c * len(x_c), float(share_c.max()) * len(x_c)


def _mean(value: pd.Series, weight: pd.Series) -> float:
    return float((value * weight).sum() / weight.sum())
