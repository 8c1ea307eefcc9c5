"""What an edit changed, paired item by item: bootstrap intervals, tests, normalized scores, detectable differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import hmean

from ..records import tables
from ..records.axes import DISTANCES, KEPT, KNOWLEDGE, PERPLEXITY, REASONING, STRICT, is_share
from ..records.record import Record
from ..records.schema import Change, Interval, Key
from . import aggregate, power, significance
from .memory import Memory, groups
from .resampling import LEVEL, RESAMPLES, cluster_times, one_more, task_rng

SPLIT_SCORE = ("net_erased", "reasoning_kept", "fluency_kept")
"""The summary metrics whose harmonic mean is the split score."""
OF_MEMORY = ("erased", "scar", "stays_erased", "net_erased")
"""The summary metrics that are shares of the base's memory."""


@dataclass(frozen=True, kw_only=True)
class _Metric:
    """A metric on both sides.

    Attributes:
        replicates: the base's and the edited model's value, [1 + RESAMPLES] each: the sample's own, then those of its
            bootstrap resamples (of a share at an end, see :func:`_with_one_more`).
        above: the same of (value - chance) / (1 - chance); ``None`` where the metric has no chance.
        gain_c: (C,) each cluster's part in the change of the mean; the parts add up to the change.
        error: the standard error of that change, by the spread of the clusters.
        n: number of items.
        single: whether scores are 0 or 1 and have equal weights, and every item is a cluster of its own.
    """

    replicates: tuple[np.ndarray, np.ndarray]
    above: tuple[np.ndarray, np.ndarray] | None
    gain_c: np.ndarray
    error: float
    n: int
    single: bool

    @property
    def spread(self) -> dict[str, float]:
        """The spread of the differences, as ``statistics.power`` takes it."""
        if self.single:
            return {"discordance": float((self.gain_c != 0).mean() - abs(np.sign(self.gain_c).mean()))}
        return {"sd": self.error * len(self.gain_c) ** 0.5}

    def normalized(self) -> Interval | None:
        """The normalized score (see ``Change``)."""
        return interval(_ratio(self.above[1], self.above[0])) if self.above else None

    def p(self, rng: np.random.Generator) -> float:
        """The two-sided p of the change (see ``Change``)."""
        if self.single:
            return significance.mcnemar(int((self.gain_c > 0).sum()), int((self.gain_c < 0).sum()))
        return significance.sign_flip(self.gain_c, rng)


class Paired:
    """Base and edited scores of the same items. Clusters are resampled, all metrics of a task together.

    Args:
        base: items of the base model.
        edited: items of the edited model; the same items.
        chance: what guessing scores, by (axis, metric); a metric that is not in it has no normalized score.
        seed: of resampling and sign flips.
        others: items of further sides of a record (see ``records.tables``), which have passages alone.

    Raises:
        ValueError: the items differ, or two tasks have the same metric of an axis.
    """

    def __init__(
        self,
        base: pd.DataFrame,
        edited: pd.DataFrame,
        chance: Mapping[Key, float],
        seed: int = 0,
        others: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        keys = [column for column in tables.ITEMS if column != "value"]
        both = base.merge(
            edited, on=keys, how="outer", suffixes=("_base", "_edit"), indicator=True, validate="one_to_one"
        )
        if not (both["_merge"] == "both").all():
            raise ValueError("base and edit were not scored on the same items")
        if (both.groupby(["axis", "metric"])["task"].nunique() > 1).any():
            raise ValueError("two tasks have the same metric of an axis")
        self.seed = seed
        changed = bool((both["value_base"] != both["value_edit"]).any())
        by_key: dict[Key, _Metric] = {}
        for task, rows in both.groupby("task", sort=True):
            by_key.update(_metrics(rows, task_rng(seed, str(task)), chance, changed))
        values = aggregate.metrics(base)
        for axis, of_axis in values.items():
            if "acc" in of_axis and (axis, "acc") not in by_key:
                by_key[axis, "acc"] = _mean_of([metric for (a, _), metric in by_key.items() if a == axis])
        self.metrics = {(a, m): by_key[a, m] for a, of_axis in values.items() for m in of_axis}
        self.sides = {tables.BASE: base, tables.EDIT: edited, **(others or {})}
        self.memory = Memory(self.sides, seed)

    @classmethod
    def of(cls, record: Record, seed: int | None = None) -> Paired:
        """Base and edit of a record, paired as when it was written.

        Args:
            record: whose items are read.
            seed: in place of the record's own; edits that are compared need the same.

        Raises:
            UserError: the record's items are damaged or gone.
        """
        seed = record.content.arguments.seed if seed is None else seed
        sides = tables.sides(record)
        return cls(sides.pop(tables.BASE), sides.pop(tables.EDIT), record.chance, seed, sides)

    def changes(self) -> dict[Key, Change]:
        """Every metric's change, in the order of ``aggregate.metrics``."""
        ps = [
            np.nan if key[1] in DISTANCES else m.p(np.random.default_rng([self.seed, *"/".join(key).encode()]))
            for key, m in self.metrics.items()
        ]
        changes = {}
        for (key, metric), p, p_holm in zip(self.metrics.items(), ps, significance.holm(ps), strict=True):
            base, edited = metric.replicates
            detectable = power.detectable(len(metric.gain_c), **metric.spread)
            with np.errstate(over="ignore", invalid="ignore"):
                difference = interval(edited - base)
                detectable = float(base[0] * np.expm1(detectable)) if key[1] == "perplexity" else detectable
            changes[key] = Change(
                value=difference.value,
                low=difference.low,
                high=difference.high,
                base=float(base[0]),
                edited=float(edited[0]),
                n=metric.n,
                clusters=len(metric.gain_c),
                normalized=metric.normalized(),
                p=p,
                p_holm=p_holm,
                test="mcnemar" if metric.single else "sign-flip",
                detectable=detectable,
            )
        return changes

    def clusters_needed(self, difference: float) -> dict[Key, int | None]:
        """How many clusters would show a true difference of this size in 80 % of all cases (see ``statistics.power``).

        Args:
            difference: in the metric's unit; for perplexity, as a share of the base's.
        """
        sizes = {key: np.log1p(difference) if key[1] == "perplexity" else difference for key in self.metrics}
        return {key: power.clusters_needed(sizes[key], **metric.spread) for key, metric in self.metrics.items()}

    def summary(self) -> dict[str, Interval]:
        """The summary metrics that the axes and sides at hand allow.

        Those of memory are in ``statistics.memory``. ``AXIS_kept``, for logic, arithmetic and facts, is the normalized
        score of the axis's ``acc`` (see ``Change``). ``reasoning_kept`` is the mean of that over ``axes.REASONING``, if
        all of them were scored, without axes where the base is not better than guessing by more than its interval;
        ``knowledge_kept`` is that of closed-book facts. ``perplexity_ratio`` = perplexity(edit) / perplexity(base), and
        ``fluency_kept`` = 1 over it, at most 1. ``split_score`` = the harmonic mean of :data:`SPLIT_SCORE`, each
        clipped to 0..1; only where attacks were made. ``recitation_removed`` = 1 - strict(edit) / strict(base). A ratio
        to a base that holds no memory, recites nothing, or is no better than guessing, is nan, and what is made of it;
        so is one of figures that are not finite. An infinite perplexity of the edit is a fluency of 0.
        """
        return {name: interval(replicates) for name, replicates in self.summary_replicates().items()}

    def summary_replicates(self) -> dict[str, np.ndarray]:
        """The bootstrap replicates of the summary metrics, [1 + RESAMPLES]; first the sample's own value.

        All that is paired on the same items with the same seed has the same resamples, so that the difference of two
        edits' replicates is the replicate of their difference.
        """
        summary = self.memory.summary_replicates()
        with np.errstate(divide="ignore", invalid="ignore"):
            if strict := self.metrics.get(STRICT):
                summary["recitation_removed"] = 1 - _ratio(strict.replicates[1], strict.replicates[0])
            for axis in KEPT:
                acc = self.metrics.get((axis, "acc"))
                if acc and acc.above:
                    summary[f"{axis}_kept"] = _ratio(acc.above[1], acc.above[0])
            reasoning = [summary[f"{axis}_kept"] for axis in REASONING if self._above_guessing(axis)]
            if reasoning and summary.keys() >= {f"{axis}_kept" for axis in REASONING}:
                summary["reasoning_kept"] = np.mean(reasoning, axis=0)
            if f"{KNOWLEDGE}_kept" in summary:
                summary["knowledge_kept"] = summary[f"{KNOWLEDGE}_kept"]
            if perplexity := self.metrics.get(PERPLEXITY):
                before, after = perplexity.replicates
                ratio = np.where(np.isfinite(before) & (after > 0), after / before, np.nan)
                summary |= {"perplexity_ratio": ratio, "fluency_kept": np.minimum(1.0, 1 / ratio)}
            if summary.keys() >= set(SPLIT_SCORE):
                parts = np.clip([summary[name] for name in SPLIT_SCORE], 0, 1)
                summary["split_score"] = hmean(parts, axis=0)
        return summary

    def by_group(self) -> dict[str, dict[str, Interval]]:
        """The summary metrics of memory of each group of the memorized passages, against all twins, if known.

        Where the base is not shown to hold memory of a group, shares of it are nan.
        """
        if not self.memory.known:
            return {}
        found = {}
        for group in groups(self.sides[tables.BASE]):
            memory = Memory(self.sides, self.seed, group)
            found[group] = {name: interval(values) for name, values in memory.summary_replicates().items()}
        return found

    def attacks(self) -> dict[str, Interval]:
        """What is erased after each attack, by its spec."""
        memory = self.memory
        return {attack: interval(memory.erased(tables.attacked(tables.EDIT, attack))) for attack in memory.attacks}

    def _above_guessing(self, axis: str) -> bool:
        """Whether the base's accuracy on an axis is above guessing by more than its interval."""
        acc = self.metrics.get((axis, "acc"))
        return bool(acc and acc.above and interval(acc.above[0]).low > 0)


def _metrics(
    rows: pd.DataFrame, rng: np.random.Generator, chance: Mapping[Key, float], changed: bool
) -> Iterator[tuple[Key, _Metric]]:
    """The metrics of one task, all on the same resamples of its clusters (in the order of their first items).

    ``changed`` says whether any score of any task differs between the sides; where none does, no change has width.
    """
    rows = rows.sort_values("item")
    codes, clusters = pd.factorize(rows["cluster"])
    times = cluster_times(len(clusters), rng)
    ranks = rng.permutation(RESAMPLES) if changed else np.zeros(RESAMPLES)
    for (axis, name), group in rows.assign(code=codes).groupby(["axis", "metric"]):
        key = (str(axis), str(name))
        yield key, _metric(group, times, (ranks + 0.5) / RESAMPLES, key, chance)


def _metric(
    rows: pd.DataFrame, times: np.ndarray, levels: np.ndarray, key: Key, chance_of: Mapping[Key, float]
) -> _Metric:
    code, weight = rows["code"].to_numpy(), rows["weight"].to_numpy()
    base, edited = rows["value_base"].to_numpy(), rows["value_edit"].to_numpy()
    chance = chance_of.get(key)

    def by_cluster(values: np.ndarray) -> np.ndarray:
        return np.bincount(code, values, times.shape[1])

    weight_c = by_cluster(weight)
    has_items = weight_c > 0
    with np.errstate(all="ignore"):  # a score that is not finite, or a resample without any item of this metric
        means = [_summed(times, by_cluster(weight * values)) / (times @ weight_c) for values in (base, edited)]
        before, after = map(np.exp, means) if key[1] == "perplexity" else means
        gain_c = by_cluster(weight * (edited - base)) / weight.sum()
        error = aggregate.standard_error((gain_c - gain_c.sum() * weight_c / weight.sum())[has_items])
    if is_share(key, chance_of):
        after = _with_one_more(before, after, base, edited, one_more(levels, has_items.sum()))
    return _Metric(
        replicates=(before, after),
        above=None if chance is None else ((before - chance) / (1 - chance), (after - chance) / (1 - chance)),
        gain_c=gain_c[has_items],
        error=error,
        n=len(rows),
        single=len(rows) == has_items.sum() and len(set(weight)) == 1 and bool(np.isin([base, edited], (0, 1)).all()),
    )


def _summed(times: np.ndarray, values_c: np.ndarray) -> np.ndarray:
    """``times @ values_c``; an infinite value makes those resamples infinite that hold its cluster, and no other."""
    total = np.asarray(times @ np.where(np.isinf(values_c), 0.0, values_c))
    for value in (np.inf, -np.inf):
        total[times[:, values_c == value].any(axis=1)] += value
    return total


def _with_one_more(
    before: np.ndarray, after: np.ndarray, base: np.ndarray, edited: np.ndarray, part: np.ndarray
) -> np.ndarray:
    """The edited side's replicates of a share, with one more cluster where the bootstrap sees no spread.

    A resample of values that are all 0, or all 1, is all 0 or all 1 again, though the next cluster may differ: here it
    has the other value. Where no item changed, but others of the model's did, the cluster rises in every second
    replicate and falls in the others.

    Args:
        before: [1 + RESAMPLES] replicates of the base.
        after: the edited side's.
        base: values of the items, one each.
        edited: the edited side's.
        part: [RESAMPLES] that cluster's part of the weight (see ``resampling.one_more``).
    """
    if not ((base >= 0) & (base <= 1) & (edited >= 0) & (edited <= 1)).all():
        return after
    if (edited == edited[0]).all() and edited[0] in (0, 1):
        return np.append(after[0], np.abs(edited[0] - part))
    if (base == edited).all():
        return np.append(after[0], np.clip(before[1:] + part * np.resize([1, -1], len(part)), 0, 1))
    return after


def _mean_of(parts: Sequence[_Metric]) -> _Metric:
    """The plain mean over the tasks of an axis, which are independent of one another."""
    if len(parts) == 1:
        return parts[0]

    def mean(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        return np.mean([pair[0] for pair in pairs], axis=0), np.mean([pair[1] for pair in pairs], axis=0)

    above = [part.above for part in parts if part.above]
    return _Metric(
        replicates=mean([part.replicates for part in parts]),
        above=mean(above) if len(above) == len(parts) else None,
        gain_c=np.concatenate([part.gain_c for part in parts]) / len(parts),
        error=float(np.linalg.norm([part.error for part in parts])) / len(parts),
        n=sum(part.n for part in parts),
        single=False,
    )


def _ratio(edited: np.ndarray, base: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(base > 0, edited / base, np.nan)


def differences(mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """Mine - theirs of each summary metric that both have, with its interval (see ``Paired.summary_replicates``)."""
    with np.errstate(invalid="ignore"):  # infinite perplexities
        return {name: interval(mine[name] - theirs[name]) for name in mine if name in theirs}


def interval(replicates: np.ndarray) -> Interval:
    """The value of the sample, and the percentile interval of its replicates, extended to the value where need be.

    Args:
        replicates: [1 + RESAMPLES], the sample's own value first. Resamples without a value (nan) are left out; where
            the sample itself has no finite value, the bounds are nan.
    """
    tail = (1 - LEVEL) / 2 * 100
    known = replicates[1:][~np.isnan(replicates[1:])]
    low = high = np.nan
    if np.isfinite(replicates[0]) and len(known):
        with np.errstate(invalid="ignore"):  # infinite resamples
            low, high = np.percentile(known, [tail, 100 - tail])
        low, high = min(low, replicates[0]), max(high, replicates[0])
    return Interval(value=float(replicates[0]), low=float(low), high=float(high))
