"""How much of a passage a model recites: the metrics of one item, computed on token ids.

A passage is a prefix and a suffix. The metrics come from two sources: the *continuation*, decoded greedily from the
prefix, and the *token statistics* of one teacher-forced pass over prefix and suffix, which gives the model's
distribution at every token given the gold tokens before it. A harness that returns only text gives no statistics, and
the metrics that need them are missing.

===========================  ===========================================================================================
metric                       definition; n is the number of the suffix's tokens
===========================  ===========================================================================================
``strict``                   1 if the continuation equals the suffix, else 0 (arXiv 2510.24256)
``levenshtein``              edit distance of continuation and suffix over n
``loose``                    1 if 1 - levenshtein >= 0.75, else 0 (arXiv 2510.24256)
``matched_prefix``           tokens before the continuation's first difference, over n
``rouge_l``                  longest common subsequence over n (ROUGE-L recall; Lin 2004)
``bleu``                     sentence BLEU-4 with exponential smoothing, from 0 to 1 (sacrebleu)
``token_accuracy``           number of tokens that are the model's first choice given the gold tokens before, over n;
                             called exact memorization in arXiv 2205.10770
``extraction_strength``      1 - k/n for the fewest k suffix tokens that must be given with the prefix for the rest to
                             be decoded greedily (arXiv 2406.09179)
``log_prob``                 mean log-probability of the suffix's tokens, nats
``median_rank``              median over the suffix of the token's rank in the vocabulary, 0 being the first choice
``reciprocal_rank``          mean over the suffix of 1 / (1 + rank)
``p_z``                      probability that sampling emits the suffix: the product of each token's probability under
                             temperature and top-k (arXiv 2410.19482)
===========================  ===========================================================================================

Membership signals are of the whole passage but its first token. The higher, the likelier it was in the training data:

===========================  ===========================================================================================
``mia_loss``                 mean log-probability
``mia_zlib``                 summed log-probability over the bytes of the zlib-compressed text (arXiv 2012.07805)
``mia_min_k``                mean of the lowest 20 % of the log-probabilities (Min-K %, arXiv 2310.16789)
``mia_min_k_pp``             the same after taking off their mean and dividing by their deviation under the model's own
                             next-token distribution (Min-K %++, arXiv 2404.02936)
===========================  ===========================================================================================
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein, Prefix
from sacrebleu.metrics.bleu import BLEU

from ..errors import UserError
from . import packs
from .measured import take

LOOSE = 0.75
LOWEST = 0.2
"""Share of the tokens, those of the lowest log-probability, that Min-K % averages."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a continuation is sampled: temperature first, then the top-k.

    Attributes:
        temperature: what the logits are divided by.
        top_k: number of most likely tokens that may be drawn; 0 is all.
    """

    temperature: float = 1.0
    top_k: int = 40


@dataclass(frozen=True, kw_only=True)
class TokenStats:
    """Statistics of each token of a passage in one teacher-forced pass, given all tokens before it.

    A passage has N tokens; its first has none before it, so that there are N - 1 of each.

    Attributes:
        start: index of the suffix's first token.
        ids: [N] the passage.
        greedy: [N - 1] the model's first choice for tokens 1 to N - 1; the other arrays are of the same tokens.
        log_p: log-probability of the passage's token, nats.
        rank: how many tokens the model prefers to it (of equals, those of lower id).
        log_q: its log-probability under sampling, nats; minus infinity where sampling never draws it.
        mean: mean log-probability of a token drawn from the model's own distribution, nats.
        deviation: standard deviation of the same, nats.
    """

    start: int
    ids: np.ndarray
    greedy: np.ndarray
    log_p: np.ndarray
    rank: np.ndarray
    log_q: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def suffix(self, values: np.ndarray) -> np.ndarray:
        """The part of [N - 1] ``values`` that belongs to the suffix."""
        return values[self.start - 1 :]

    @property
    def known(self) -> bool:
        """Whether the pass computed numbers: with a logit that is nan or plus infinity, no figure is known."""
        return not bool(np.isnan(self.log_p).any())

    @property
    def log_pz(self) -> float:
        """Log-probability that sampling emits the suffix."""
        return float(self.suffix(self.log_q).sum())


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What a model generated after a passage's prefix.

    Attributes:
        ids: the greedy continuation.
        gold: the suffix's ids.
        passage: the text of prefix and suffix.
        stats: of the teacher-forced pass.
    """

    ids: list[int]
    gold: list[int]
    passage: str
    stats: TokenStats


def of_continuation(found: Sequence[int], gold: Sequence[int]) -> dict[str, float]:
    """The metrics of a continuation.

    Args:
        found: ids decoded greedily, at most as many as ``gold``; fewer if the model ended its text.
        gold: the suffix's ids.
    """
    found, gold = list(found), list(gold)
    distance = Levenshtein.distance(found, gold) / len(gold)
    return {
        "strict": float(found == gold),
        "loose": float(1 - distance >= LOOSE),
        "levenshtein": distance,
        "matched_prefix": Prefix.similarity(found, gold) / len(gold),
        "rouge_l": LCSseq.similarity(found, gold) / len(gold),
        "bleu": bleu(found, gold),
    }


def bleu(found: Sequence[int], gold: Sequence[int]) -> float:
    """Sentence BLEU-4 of ids, 0 to 1."""
    texts = [" ".join(map(str, ids)) for ids in (found, gold)]
    scorer = BLEU(tokenize="none", smooth_method="exp", effective_order=True)
    return float(scorer.sentence_score(texts[0], [texts[1]]).score) / 100


def of_token_stats(stats: TokenStats) -> dict[str, float]:
    """The metrics of a suffix that need its teacher-forced pass."""
    rank = stats.suffix(stats.rank)
    return {
        "token_accuracy": float(np.mean(rank == 0)),
        "extraction_strength": extraction_strength(rank),
        "log_prob": float(np.mean(stats.suffix(stats.log_p))),
        "median_rank": float(np.median(rank)),
        "reciprocal_rank": float(np.mean(1 / (1 + rank))),
        "p_z": math.exp(stats.log_pz),
    }


def extraction_strength(rank: np.ndarray) -> float:
    """1 - k/n, where k is the number of tokens up to and with the last one that is not the model's first choice."""
    missed = np.flatnonzero(rank)
    return 1 - (int(missed[-1]) + 1) / len(rank) if len(missed) else 1.0


def longest_run(rank: np.ndarray) -> int:
    """Number of tokens, from the first on, before the first that is not the model's first choice."""
    missed = np.flatnonzero(rank)
    return int(missed[0]) if len(missed) else len(rank)


def membership(stats: TokenStats, text: str) -> dict[str, float]:
    """The membership signals of a passage whose text is ``text``."""
    relative = (stats.log_p - stats.mean) / np.maximum(stats.deviation, 1e-6)
    return {
        "mia_loss": float(np.mean(stats.log_p)),
        "mia_zlib": float(np.sum(stats.log_p)) / len(zlib.compress(text.encode())),
        "mia_min_k": _lowest(stats.log_p),
        "mia_min_k_pp": _lowest(relative),
    }


def _lowest(values: np.ndarray) -> float:
    """The mean of the lowest :data:`LOWEST` of the values, of at least one."""
    return float(np.mean(np.sort(values)[: max(1, int(LOWEST * len(values)))]))


def process_results(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's hook for a recitation item: every figure that can be had.

    The model ``memsplit`` leaves a :class:`Generation` in the document, which gives all of them; all are nan where its
    statistics are not known. Of any other model
    there is the continuation's text, which the pack's tokenizer turns into ids: the figures of the continuation alone.

    Raises:
        UserError: there is only text, and the pack has no tokenizer.
    """
    generation: Generation | None = take(doc)
    if generation is None:
        pack = packs.find(doc["pack"])
        gold = doc.get("suffix_ids") or pack.encode(doc["suffix_text"])
        return of_continuation(pack.encode(results[0])[: len(gold)], gold)
    stats = generation.stats
    figures = of_continuation(generation.ids, generation.gold)
    figures |= {**of_token_stats(stats), **membership(stats, generation.passage)}
    return figures if stats.known else dict.fromkeys(figures, math.nan)


def process_probe(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's hook for a row that names a probe: the figures that the probe left in the document.

    Raises:
        UserError: there are none, since another model than ``memsplit`` was asked.
    """
    figures: dict[str, float] | None = take(doc)
    if figures is None:
        raise UserError(
            f"the probe {doc['probe']!r} is run by lm-eval's model 'memsplit' alone: expected --model memsplit"
        )
    return figures
