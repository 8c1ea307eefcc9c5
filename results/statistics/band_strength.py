"""How much stronger some texts act on bands of curvature than others, with intervals, and what an edit costs them.

A strength of many texts is Σ over their tokens / number of tokens. The relative strength of one kind of text against
another is the ratio of the two; over several matrices, whose strengths have units of their own, the geometric mean of
their ratios. Intervals are percentiles of the bootstrap over texts (clusters, where several are of one document or
about one fact), each kind resampled by itself and all matrices and bands on the same resamples.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from ..records.schema import Change, Key
from .paired import interval
from .resampling import RESAMPLES

MEASURES = ("read", "write", "share")
"""Measures of how strongly a band is used: see ``model_edits.bands.Strength``."""
ALL = "all"
"""In place of a projection: all matrices of the layer; without a layer, all matrices of ``together``."""
SKEW = "low / high"
"""In place of a band: strength of the lowest band / strength of the highest."""
PERMUTATIONS = 20_000


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Strengths of texts.

    Attributes:
        texts: one row a text: ``kind``, ``text`` (its name), ``cluster``, ``tokens`` (how many were counted).
        matrices: one row a matrix: ``name``, ``layer``, ``proj``.
        bands: their names.
        ends: places of the highest and of the lowest among them, which ``SKEW`` is of.
        sums: Σ over a text's tokens [texts, matrices, bands, MEASURES].
    """

    texts: pd.DataFrame
    matrices: pd.DataFrame
    bands: Sequence[str]
    ends: tuple[int, int]
    sums: np.ndarray

    def tidy(self) -> pd.DataFrame:
        """One row a text, matrix and band, with the mean over its tokens by every measure."""
        t, m, b, _ = self.sums.shape
        means = (self.sums / self.texts["tokens"].to_numpy()[:, None, None, None]).reshape(-1, len(MEASURES))
        rows = self.texts.loc[self.texts.index.repeat(m * b)].reset_index(drop=True)
        names = self.matrices[["layer", "proj"]]
        names = names.loc[names.index.repeat(b)].reset_index(drop=True)
        rows[["layer", "proj"]] = pd.concat([names] * t, ignore_index=True)
        rows["band"] = list(self.bands) * (t * m)
        return rows.assign(**{name: means[:, i].astype("float32") for i, name in enumerate(MEASURES)})

    def only(self, kinds: Sequence[str]) -> Measured:
        """The strengths of texts of these kinds only."""
        chosen = self.texts["kind"].isin(kinds).to_numpy()
        return dataclasses.replace(self, texts=self.texts[chosen].reset_index(drop=True), sums=self.sums[chosen])

    def log_replicates(self, kind: str, seed: int) -> np.ndarray:
        """Log of the mean strength of a kind of text, [1 + RESAMPLES, matrices, bands and SKEW, MEASURES].

        The sample's own comes first, then the bootstrap replicates.
        """
        of_kind = (self.texts["kind"] == kind).to_numpy()
        codes, clusters = pd.factorize(self.texts["cluster"][of_kind])
        k = len(clusters)
        by_cluster = np.zeros((k, *self.sums.shape[1:]))
        np.add.at(by_cluster, codes, self.sums[of_kind])
        tokens_c = np.bincount(codes, self.texts["tokens"][of_kind], k)
        rng = np.random.default_rng([seed, *kind.encode()])
        times = np.concatenate([np.ones((1, k)), rng.multinomial(k, np.full(k, 1 / k), size=RESAMPLES)])
        means = (times @ by_cluster.reshape(k, -1)) / (times @ tokens_c)[:, None]
        with np.errstate(divide="ignore"):
            logs = np.log(means).reshape(len(times), *self.sums.shape[1:])
        high, low = self.ends
        with np.errstate(invalid="ignore"):  # nothing reads either
            return np.concatenate([logs, logs[:, :, [low]] - logs[:, :, [high]]], axis=2)

    def relative(self, against: str, together: Sequence[int], seed: int = 0) -> pd.DataFrame:
        """Every kind of text against one of them.

        Args:
            against: the kind of text that the others are divided by.
            together: indices of the matrices over which the rows without a layer are averaged.
            seed: of the bootstrap.

        Returns:
            One row a kind, matrix (and each layer's matrices together, and ``together``), band or SKEW, and measure:
            ``value`` is the ratio of strengths - 1, ``low`` and ``high`` its interval, ``strength`` the kind's own (nan
            where of several matrices), ``texts`` and ``clusters`` how many there are.
        """
        base = self.log_replicates(against, seed)
        sets: list[tuple[Any, str, list[int]]] = [
            (layer, proj, [i]) for i, (layer, proj) in enumerate(self.matrices[["layer", "proj"]].to_numpy())
        ]
        sets += [(layer, ALL, list(rows.index)) for layer, rows in self.matrices.groupby("layer")]
        sets.append((None, ALL, list(together)))
        frames = []
        for kind in dict.fromkeys(self.texts["kind"]):
            if kind == against:
                continue
            own = self.log_replicates(kind, seed)
            texts = self.texts[self.texts["kind"] == kind]
            about = {"kind": kind, "against": against, "texts": len(texts), "clusters": texts["cluster"].nunique()}
            for layer, proj, places in sets:
                with np.errstate(invalid="ignore"):  # nothing reads a band on either side
                    replicates = np.expm1((own[:, places] - base[:, places]).mean(axis=1))
                strength = np.exp(own[0, places[0]]) if len(places) == 1 else np.full(replicates.shape[1:], np.nan)
                frames.append(_rows(replicates, strength, [*self.bands, SKEW]).assign(**about, layer=layer, proj=proj))
        columns = ["kind", "against", "layer", "proj", "band", "measure", "value", "low", "high", "strength"]
        table = pd.concat(frames, ignore_index=True)[[*columns, "texts", "clusters"]]
        return table.astype({"layer": "Int64"})


def _rows(replicates: np.ndarray, strength: np.ndarray, bands: Sequence[str]) -> pd.DataFrame:
    """One row a band and measure, from replicates [1 + RESAMPLES, bands, MEASURES]."""
    intervals = [interval(of_one) for of_one in replicates.reshape(len(replicates), -1).T]
    rows = pd.DataFrame([msgspec.structs.asdict(of_one) for of_one in intervals])
    rows.index = pd.MultiIndex.from_product([bands, MEASURES], names=["band", "measure"])
    return rows.assign(strength=strength.ravel()).reset_index()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Whether low curvature is used more, and high curvature less, on memorized text (arXiv 2510.24256, section 4).

    Attributes:
        layer: where.
        proj: of which matrix; ``all`` for the layer's together.
        bottom: the low band's ``value``, ``low`` and ``high`` (see ``Measured.relative``).
        top: the high band's.
        ordered: whether the ratio memorized / clean rises from each of the source's bands to the next lower one.
    """

    layer: int
    proj: str
    bottom: tuple[float, float, float]
    top: tuple[float, float, float]
    ordered: bool

    @property
    def verdict(self) -> str:
        """Each half counts where its interval leaves 0 out on the side that the source saw."""
        if any(map(math.isnan, (*self.bottom[1:], *self.top[1:]))):
            return "is not known"
        low_more, high_less = self.bottom[1] > 0, self.top[2] < 0
        if low_more and high_less:
            return "holds"
        if low_more or high_less:
            return "half holds: low curvature more" if low_more else "half holds: high curvature less"
        return "is reversed" if self.bottom[2] < 0 and self.top[1] > 0 else "does not hold"


def findings(table: pd.DataFrame, kind: str, measure: str, bands: Sequence[str]) -> Iterator[Finding]:
    """The finding of every matrix, and of each layer after its matrices.

    Args:
        table: of :meth:`Measured.relative`.
        kind: the memorized texts'.
        measure: which of :data:`MEASURES`.
        bands: the source's, from the highest curvature to the lowest.
    """
    rows = table[(table["kind"] == kind) & (table["measure"] == measure) & table["layer"].notna()]
    rows = rows[rows["band"].isin(bands)].assign(after=rows["proj"] == ALL)
    rows = rows.sort_values(["layer", "after"], kind="stable")
    for (layer, proj), of_one in rows.groupby(["layer", "proj"], sort=False):
        of_band = of_one.set_index("band")[["value", "low", "high"]]
        values = [float(of_band.loc[band, "value"]) for band in bands]
        bottom, top = (tuple(map(float, of_band.loc[band])) for band in (bands[-1], bands[0]))
        yield Finding(
            layer=int(layer),
            proj=str(proj),
            bottom=(bottom[0], bottom[1], bottom[2]),
            top=(top[0], top[1], top[2]),
            ordered=all(a < b for a, b in itertools.pairwise(values)),
        )


def costs(changes: Mapping[Key, Change], rates: Mapping[str, Key]) -> dict[str, float]:
    """What an edit costs each kind of text: 1 - normalized score; a kind whose score is not known is left out.

    Args:
        changes: by (axis, metric).
        rates: by kind, the (axis, metric) that is its score.
    """
    cost = {}
    for kind, key in rates.items():
        score = changes[key].normalized if key in changes else None
        if score is not None and math.isfinite(score.value):
            cost[kind] = 1 - score.value
    return cost


def correlations(table: pd.DataFrame, cost: Mapping[str, float], seed: int = 0) -> pd.DataFrame:
    """Over kinds of text: log of the relative strength, over the matrices that the edit changes, against its cost.

    Args:
        table: of :meth:`Measured.relative`.
        cost: by kind.
        seed: of random permutations, where there are more than ``PERMUTATIONS`` in all.

    Returns:
        One row a measure and band, or SKEW: Pearson's and Spearman's coefficient, each with its two-sided p by
        permuting the costs, and ``n``; nan below three kinds, or where all are alike.
    """
    rows = table[table["layer"].isna() & table["kind"].isin(cost)]
    coefficients = []
    for (measure, band), of_band in rows.groupby(["measure", "band"], sort=False):
        x, y = np.log1p(of_band["value"].to_numpy()), of_band["kind"].map(cost).to_numpy(dtype=float)
        pearson, spearman = _correlation(x, y, seed), _correlation(_ranks(x), _ranks(y), seed)
        coefficients.append((measure, band, len(x), *pearson, *spearman))
    names = ["measure", "band", "n", "pearson", "pearson_p", "spearman", "spearman_p"]
    return pd.DataFrame(coefficients, columns=names)


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.asarray(pd.Series(values).rank())


def _correlation(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[float, float]:
    """Pearson's r and its p: over all orders of ``y`` where there are few enough, else over random ones."""
    n = len(x)
    if n < 3 or not np.isfinite([x, y]).all() or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan, np.nan
    unit_x, unit_y = ((values - values.mean()) / np.linalg.norm(values - values.mean()) for values in (x, y))
    r = float(unit_x @ unit_y)
    few = math.factorial(n) <= PERMUTATIONS
    if few:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        orders = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (PERMUTATIONS, 1)), axis=1)
    as_far = int((np.abs(unit_y[orders] @ unit_x) >= abs(r) - 1e-9).sum())
    return r, as_far / len(orders) if few else (as_far + 1) / (len(orders) + 1)
