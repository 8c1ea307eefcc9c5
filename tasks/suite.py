"""The suites and how their tasks' figures make up the axes. Reads no data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "suites"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One task's place in the suite.

    Attributes:
        task: lm-eval's name for it.
        axis: ``recitation``, ``twins``, ``quotes``, ``facts_closed``, ``facts_open``, ``arithmetic``, ``logic`` or
            ``fluency``.
        metrics: lm-eval's name of each metric -> its name in the axis.
        chance: what guessing scores.
        kind: the file of the model's pack that its items are from; ``a+b`` where it needs both.
        family: or the generator that makes them, which the pack must name.
        summary: what is asked.
    """

    task: str
    axis: str
    metrics: dict[str, str]
    chance: float = 0.0
    kind: str = ""
    family: str = ""
    summary: str

    @property
    def needs(self) -> str:
        """What it needs of a pack, in words."""
        return (
            " and ".join(f"{kind}.jsonl" for kind in self.kind.split("+")) if self.kind else f"family {self.family!r}"
        )


_RECITATION = {
    name: name
    for name in (
        *("strict", "loose", "levenshtein", "matched_prefix", "rouge_l", "bleu"),
        *("token_accuracy", "extraction_strength", "log_prob", "median_rank", "reciprocal_rank", "p_z"),
        *("mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_pp"),
    )
}
"""Defined in ``tasks.recitation``."""
NO_RATES = {"log_prob", "prior_log_ratio", "mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_pp"}
"""Metrics of which more is better, but that are no share of anything."""
_PASSAGES = (
    Part(
        task="memsplit_recitation",
        axis="recitation",
        metrics=_RECITATION,
        kind="memorized",
        summary="greedy continuation of memorized passages, as a rule 64 tokens given and 48 asked",
    ),
    Part(
        task="memsplit_twins",
        axis="twins",
        metrics=_RECITATION,
        kind="twins",
        summary="the same for passages that were never trained on: the floor of every figure of recitation",
    ),
    Part(
        task="memsplit_quotes",
        axis="quotes",
        metrics=_RECITATION,
        kind="quotes",
        summary="the same for short quotes of any length",
    ),
)
MEMSPLIT = (
    *_PASSAGES,
    Part(
        task="memsplit_facts_closed",
        axis="facts_closed",
        metrics={"acc": "acc"},
        kind="facts_closed",
        summary="facts of training, asked in a wording never used for them; greedy exact match",
    ),
    Part(
        task="memsplit_facts_open",
        axis="facts_open",
        metrics={"acc": "acc"},
        kind="facts_open",
        summary="invented facts that stand in the context; greedy exact match",
    ),
    *(
        Part(
            task=f"memsplit_arithmetic_{family}",
            axis="arithmetic",
            metrics={"acc": family},
            family=family,
            summary=f"{family} of two numbers, pairs never trained on; greedy exact match",
        )
        for family in ("addition", "subtraction")
    ),
    *(
        Part(
            task=f"memsplit_logic_{family}",
            axis="logic",
            metrics={"acc": family},
            chance=chance,
            family=family,
            summary=summary,
        )
        for family, chance, summary in (
            ("boolean", 1 / 2, "value of a Boolean expression; 2 choices"),
            ("ordering", 1 / 4, "first or last of four by transitive comparisons; 4 choices"),
            ("chain", 1 / 4, "two if-then steps among distracting rules; 4 choices"),
        )
    ),
    Part(
        task="memsplit_fluency",
        axis="fluency",
        metrics={"perplexity": "perplexity", "kl": "kl", "ndcg": "ndcg"},
        kind="clean",
        summary="perplexity of held-out text, and KL and nDCG@10 against the base model; every token weighs the same",
    ),
)
AUDIT = (
    *_PASSAGES,
    *(
        Part(
            task=f"memsplit_{probe}{suffix}",
            axis=axis,
            metrics={name: name for name in metrics},
            kind=kind,
            summary=summary if axis == "recitation" else f"the same for passages never trained on ({probe})",
        )
        for probe, metrics, summary in (
            ("position", ("longest_prefix", "position_strict"), "recitation from 20 later and 44 shorter prompts"),
            ("prior", ("prior_log_ratio", "p_z_beyond_prior"), "what a suffix owes to its own prefix"),
            ("near_verbatim", ("near_verbatim",), "probability of sampling the suffix or nearly so, a lower bound"),
        )
        for suffix, axis, kind in (
            ("", "recitation", "memorized+twins" if probe == "prior" else "memorized"),
            ("_twins", "twins", "twins"),
        )
    ),
)
WORLD = (
    *(
        Part(
            task=f"memsplit_arithmetic_{family}",
            axis="arithmetic",
            metrics={"acc": family},
            family=family,
            summary=f"{summary}; greedy exact match",
        )
        for family, summary in (
            ("add", "sums of two numbers, 1 to 4 digits"),
            ("subtract", "differences of two numbers, 1 to 4 digits"),
            ("multiply", "products of two numbers, 1 to 3 digits"),
            ("divide", "exact quotients, 1 to 3 digits"),
            ("word_problems", "stories of 1 to 3 steps"),
        )
    ),
    *(
        Part(
            task=f"memsplit_logic_{family}",
            axis="logic",
            metrics={"acc": family},
            chance=1 / choices,
            family=family,
            summary=f"{summary}; {choices} choices",
        )
        for family, choices, summary in (
            ("truth", 2, "value of a Boolean expression, depths 1 to 4"),
            ("order", 3, "k-th of 3 to 6 people by transitive comparisons"),
            ("syllogism", 2, "whether a conclusion follows from 2 or 3 premises"),
            ("implication", 3, "1 to 4 if-then steps among distracting rules"),
            ("sets", 3, "who belongs to just these of 3 to 5 groups"),
            ("dates", 4, "days, weeks, months and dates from another"),
            ("directions", 4, "facing and place after a walk of 2 or 3 turns"),
        )
    ),
)
"""Asked of models that know English."""
SUITES: dict[str, tuple[Part, ...]] = {"memsplit": (*MEMSPLIT, *WORLD), "memsplit_audit": AUDIT}
