"""What an edit changed, item by item: intervals by the bootstrap, tests, what is kept, what could be seen at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import aggregate, power, significance

Key = tuple[str, str]
RESAMPLES, LEVEL = 2000, 0.95
ONE_SIDED = ("kl", "ndcg")
"""Distances from the base itself: any edit moves them one way, so that no test says anything."""
KEPT = ("logic", "arithmetic", "facts_closed", "facts_open")
"""Axes of whose ``acc`` a summary figure says what is kept."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and its interval: percentiles of the bootstrap at ``LEVEL``; nan where the figure is not finite."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Change(Interval):
    """Edited - base of a metric, with its interval, and whether it could be chance.

    Attributes:
        base: the base model's figure.
        edited: the edited model's.
        n: items.
        clusters: of items about one thing, which are resampled, and flipped, together.
        retained: (edited - chance) / (base - chance), the share that is left of what is above guessing, nan where the
            base is no better than that; ``None`` for a metric that has no such share. ``acc`` over families takes the
            mean of (acc - chance) / (1 - chance) on either side.
        p: two-sided, of such a change where the edit makes no difference; nan where an item's score is not finite, and
            of a distance from the base.
        p_holm: the same by Holm's correction over all metrics of the comparison.
        test: ``mcnemar`` where scores are 0 or 1, every item a cluster of its own; else ``sign-flip``, on the clusters'
            sums (perplexity: on nats).
        detectable: the smallest true difference that so many clusters would show in 80 % of all cases; nan where
            that is not known (see ``statistics.power``).
    """

    base: float
    edited: float
    n: int
    clusters: int
    retained: Interval | None
    p: float
    p_holm: float
    test: str
    detectable: float


@dataclass(frozen=True, kw_only=True)
class _Metric:
    """A metric on both sides.

    Attributes:
        draws: the base's and the edited model's figure, 1 + RESAMPLES times; the first is the sample's own.
        above: the same as (figure - chance) / (1 - chance), if there is such a thing.
        gain_c: (C,) each cluster's part in the change of the mean; they add up to it.
        error: the standard error of that change, by the spread of the clusters.
        n: items.
        single: whether scores are 0 or 1 and weigh the same, every item a cluster of its own.
    """

    draws: tuple[np.ndarray, np.ndarray]
    above: tuple[np.ndarray, np.ndarray] | None
    gain_c: np.ndarray
    error: float
    n: int
    single: bool

    @property
    def spread(self) -> dict[str, float]:
        """What ``statistics.power`` goes by."""
        if self.single:
            return {"churn": float((self.gain_c != 0).mean() - abs(np.sign(self.gain_c).mean()))}
        return {"sd": self.error * len(self.gain_c) ** 0.5}

    def retained(self) -> Interval | None:
        """See ``Change``."""
        return interval(_ratio(self.above[1], self.above[0])) if self.above else None

    def p(self, rng: np.random.Generator) -> float:
        """See ``Change``."""
        if self.single:
            return significance.mcnemar(int((self.gain_c > 0).sum()), int((self.gain_c < 0).sum()))
        return significance.sign_flip(self.gain_c, rng)


class Paired:
    """Base and edited scores of the same items. Clusters are resampled, all metrics of a task together.

    Args:
        base: items of the base model.
        edited: items of the edited model; the same items.
        chance: what guessing scores, by (axis, metric); a metric that is not in it has no share that is retained.
        seed: of resampling and flips.

    Raises:
        ValueError: the items differ, or a metric of an axis is of more than one task.
    """

    def __init__(self, base: pd.DataFrame, edited: pd.DataFrame, chance: Mapping[Key, float], seed: int = 0) -> None:
        keys = [column for column in aggregate.COLUMNS if column != "value"]
        both = base.merge(
            edited, on=keys, how="outer", suffixes=("_base", "_edit"), indicator=True, validate="one_to_one"
        )
        if not (both["_merge"] == "both").all():
            raise ValueError("base and edit were not scored on the same items")
        if (both.groupby(["axis", "metric"])["task"].nunique() > 1).any():
            raise ValueError("a metric of an axis is asked by more than one task")
        self.seed = seed
        found: dict[Key, _Metric] = {}
        for task, rows in both.groupby("task", sort=True):
            found.update(_metrics(rows, np.random.default_rng([seed, *str(task).encode()]), chance))
        figures = aggregate.figures(base)
        for axis, metrics in figures.items():
            if "acc" in metrics and (axis, "acc") not in found:
                found[axis, "acc"] = _mean_of([metric for (a, _), metric in found.items() if a == axis])
        self.metrics = {(a, m): found[a, m] for a, metrics in figures.items() for m in metrics}

    def changes(self) -> dict[Key, Change]:
        """Every metric's change, in the order of ``aggregate.figures``."""
        ps = [
            np.nan if key[1] in ONE_SIDED else m.p(np.random.default_rng([self.seed, *"/".join(key).encode()]))
            for key, m in self.metrics.items()
        ]
        found = {}
        for (key, metric), p, p_holm in zip(self.metrics.items(), ps, significance.holm(ps), strict=True):
            base, edited = metric.draws
            seen = power.detectable(len(metric.gain_c), **metric.spread)
            with np.errstate(over="ignore", invalid="ignore"):
                found_interval = interval(edited - base)
                seen = float(base[0] * np.expm1(seen)) if key[1] == "perplexity" else seen
            found[key] = Change(
                **vars(found_interval),
                base=float(base[0]),
                edited=float(edited[0]),
                n=metric.n,
                clusters=len(metric.gain_c),
                retained=metric.retained(),
                p=p,
                p_holm=p_holm,
                test="mcnemar" if metric.single else "sign-flip",
                detectable=seen,
            )
        return found

    def clusters_needed(self, difference: float) -> dict[Key, int | None]:
        """How many clusters would show a true difference of this size in 80 % of all cases (see ``statistics.power``).

        Args:
            difference: in the metric's unit; of perplexity, as a share of the base's.
        """
        sizes = {key: np.log1p(difference) if key[1] == "perplexity" else difference for key in self.metrics}
        return {key: power.clusters_needed(sizes[key], **metric.spread) for key, metric in self.metrics.items()}

    def summary(self) -> dict[str, Interval]:
        """The summary figures that the axes at hand allow.

        ``recitation_removed`` = 1 - strict(edit) / strict(base). ``AXIS_kept``, for logic, arithmetic and facts, is
        what is retained of the axis's ``acc`` (see ``Change``). ``split_score`` = the harmonic mean of the first and
        ``logic_kept``, each clipped to 0..1. ``perplexity_ratio`` = perplexity(edit) / perplexity(base). A ratio to a
        base that recites nothing, or is no better than guessing, is nan, and the split score with it.
        """
        return {name: interval(draws) for name, draws in self.summary_draws().items()}

    def summary_draws(self) -> dict[str, np.ndarray]:
        """The summary figures, [1 + RESAMPLES]: the sample's own, then the resamples'.

        The resamples are the same for all that is paired on the same items with the same seed, so that the difference
        of two edits' draws is the resampled difference.
        """
        found: dict[str, np.ndarray] = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            if strict := self.metrics.get(("recitation", "strict")):
                found["recitation_removed"] = 1 - _ratio(strict.draws[1], strict.draws[0])
            for axis in KEPT:
                acc = self.metrics.get((axis, "acc"))
                if acc and acc.above:
                    found[f"{axis}_kept"] = _ratio(acc.above[1], acc.above[0])
            if {"recitation_removed", "logic_kept"} <= found.keys():
                removed, kept = (np.clip(found[name], 0, 1) for name in ("recitation_removed", "logic_kept"))
                found["split_score"] = np.where(removed + kept == 0, 0.0, 2 * removed * kept / (removed + kept))
            if perplexity := self.metrics.get(("fluency", "perplexity")):
                found["perplexity_ratio"] = perplexity.draws[1] / perplexity.draws[0]
        return found


def _metrics(
    rows: pd.DataFrame, rng: np.random.Generator, chance: Mapping[Key, float]
) -> Iterator[tuple[Key, _Metric]]:
    """The metrics of one task, on the same resamples of its clusters, which are in the order of their first items."""
    rows = rows.sort_values("item")
    codes, clusters = pd.factorize(rows["cluster"])
    k = len(clusters)
    times = np.concatenate([np.ones((1, k)), rng.multinomial(k, np.full(k, 1 / k), size=RESAMPLES)])
    for (axis, name), group in rows.assign(code=codes).groupby(["axis", "metric"]):
        key = (str(axis), str(name))
        yield key, _metric(group, times, key[1] == "perplexity", chance.get(key))


def _metric(rows: pd.DataFrame, times: np.ndarray, exp: bool, chance: float | None) -> _Metric:
    code, weight = rows["code"].to_numpy(), rows["weight"].to_numpy()
    base, edited = rows["value_base"].to_numpy(), rows["value_edit"].to_numpy()

    def by_cluster(values: np.ndarray) -> np.ndarray:
        return np.bincount(code, values, times.shape[1])

    weight_c = by_cluster(weight)
    asked = weight_c > 0
    with np.errstate(all="ignore"):  # a score that is not finite, or a resample without any item of this metric
        means = [times @ by_cluster(weight * values) / (times @ weight_c) for values in (base, edited)]
        before, after = map(np.exp, means) if exp else means
        gain_c = by_cluster(weight * (edited - base)) / weight.sum()
        error = aggregate.standard_error((gain_c - gain_c.sum() * weight_c / weight.sum())[asked])
    return _Metric(
        draws=(before, after),
        above=None if chance is None else ((before - chance) / (1 - chance), (after - chance) / (1 - chance)),
        gain_c=gain_c[asked],
        error=error,
        n=len(rows),
        single=len(rows) == asked.sum() and len(set(weight)) == 1 and bool(np.isin([base, edited], (0, 1)).all()),
    )


def _mean_of(parts: Sequence[_Metric]) -> _Metric:
    """The plain mean over families, which are independent of one another."""
    if len(parts) == 1:
        return parts[0]

    def mean(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        return np.mean([pair[0] for pair in pairs], axis=0), np.mean([pair[1] for pair in pairs], axis=0)

    above = [part.above for part in parts if part.above]
    return _Metric(
        draws=mean([part.draws for part in parts]),
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
    """Of each summary figure that both have, mine - theirs, on the same resamples (see ``Paired.summary_draws``)."""
    with np.errstate(invalid="ignore"):  # infinite perplexities
        return {name: interval(mine[name] - theirs[name]) for name in mine if name in theirs}


def interval(draws: np.ndarray) -> Interval:
    """The percentile interval of draws.

    The first draw is the sample itself; resamples that have no value are left out, but not where it has none.
    """
    tail = (1 - LEVEL) / 2 * 100
    known = draws[1:][~np.isnan(draws[1:])]
    low = high = np.nan
    if np.isfinite(draws[0]) and len(known):
        with np.errstate(invalid="ignore"):  # infinite resamples
            low, high = np.percentile(known, [tail, 100 - tail])
    return Interval(value=float(draws[0]), low=float(low), high=float(high))
