"""The suites and how their tasks' figures make up the axes. Reads no data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "suites"


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """One task's place in the suite.

    Attributes:
        task: lm-eval's name for it.
        axis: ``recitation``, ``twins``, ``quotes``, ``facts_closed``, ``facts_open``, ``arithmetic``, ``logic``,
            ``fluency`` or ``commonsense``.
        metrics: lm-eval's name of each metric -> its name in the axis.
        filter: lm-eval's name of the filter that the answers go through before they are scored.
        chance: what guessing scores.
        kind: of the rows of the model's pack that its items are; ``a+b`` where it needs both.
        family: or the generator that makes them, which the pack must name.
        hub: or, for a task of lm-eval's own, the folder of ``lm_eval/tasks`` that defines it.
        note: why it is not asked, where it is not.
        summary: what is asked.
    """

    task: str
    axis: str
    metrics: dict[str, str]
    filter: str = "none"
    chance: float = 0.0
    kind: str = ""
    family: str = ""
    hub: str = ""
    note: str = ""
    summary: str

    @property
    def needs(self) -> str:
        """What it needs of a pack, in words."""
        return (
            " and ".join(f"{kind}.jsonl" for kind in self.kind.split("+")) if self.kind else f"family {self.family!r}"
        )

    @property
    def reason(self) -> str:
        """Why it is not asked, where it is not."""
        return self.note or f"no pack has {self.needs}"


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
    TaskSpec(
        task="memsplit_recitation",
        axis="recitation",
        metrics=_RECITATION,
        kind="memorized",
        summary="greedy continuation of memorized passages, as a rule 64 tokens given and 48 asked",
    ),
    TaskSpec(
        task="memsplit_twins",
        axis="twins",
        metrics=_RECITATION,
        kind="twins",
        summary="the same for passages that were never trained on: the floor of every figure of recitation",
    ),
    TaskSpec(
        task="memsplit_quotes",
        axis="quotes",
        metrics=_RECITATION,
        kind="quotes",
        summary="the same for short quotes of any length",
    ),
)
MEMSPLIT = (
    *_PASSAGES,
    TaskSpec(
        task="memsplit_facts_closed",
        axis="facts_closed",
        metrics={"acc": "acc"},
        kind="facts_closed",
        summary="facts of training, no context; greedy exact match with one of the accepted answers",
    ),
    TaskSpec(
        task="memsplit_facts_open",
        axis="facts_open",
        metrics={"acc": "acc"},
        kind="facts_open",
        summary="facts that stand in the context; greedy exact match with one of the accepted answers",
    ),
    *(
        TaskSpec(
            task=f"memsplit_arithmetic_{family}",
            axis="arithmetic",
            metrics={"acc": family},
            family=family,
            summary=f"{family} of two numbers, pairs never trained on; greedy exact match",
        )
        for family in ("addition", "subtraction")
    ),
    *(
        TaskSpec(
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
    TaskSpec(
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
        TaskSpec(
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
FACTS = (
    TaskSpec(
        task="memsplit_facts_choice",
        axis="facts_closed",
        metrics={"acc": "choice"},
        chance=1 / 4,
        kind="facts_choice",
        summary="facts by the likelihood of the answer among others of its type; 4 choices",
    ),
    TaskSpec(
        task="memsplit_facts_counterfactual",
        axis="facts_open",
        metrics={"read": "read_counterfactual", "recalled": "recalled_counterfactual"},
        kind="facts_counterfactual",
        summary="facts of which the context says something else: whether what it says or the truth is given",
    ),
)
"""Asked beside closed and open book where a pack has facts to make such questions of."""
WORLD = (
    *(
        TaskSpec(
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
        TaskSpec(
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


def _hub(
    folder: str, task: str, axis: str, name: str, summary: str, *, score: str = "acc/none", chance: float = 0.0
) -> TaskSpec:
    """A task of lm-eval's own, by reference; ``score`` is its METRIC/FILTER."""
    metric, filter_name = score.split("/")
    return TaskSpec(
        task=task, axis=axis, metrics={metric: name}, filter=filter_name, chance=chance, hub=folder, summary=summary
    )


_ARITHMETIC = {
    "1dc": "an expression of three one-digit numbers",
    **{f"{digits}da": f"sums of {digits}-digit numbers" for digits in range(2, 6)},
    **{f"{digits}ds": f"differences of {digits}-digit numbers" for digits in range(2, 6)},
    "2dm": "products of 2-digit numbers",
}
_EXACT = "exact_match/remove_whitespace"
_HUB = (
    _hub("triviaqa", "triviaqa", "facts_closed", "triviaqa", "TriviaQA, no context; exact match", score=_EXACT),
    _hub("nq_open", "nq_open", "facts_closed", "nq_open", "Natural Questions, no context; exact match", score=_EXACT),
    TaskSpec(
        task="popqa",
        axis="facts_closed",
        metrics={"exact_match": "popqa"},
        note="lm-eval has no task of it",
        summary="PopQA: facts of more and less known entities",
    ),
    _hub("super_glue/boolq", "boolq", "facts_open", "boolq", "BoolQ: yes or no, from a passage", chance=1 / 2),
    *(
        _hub(
            "bbh/cot_fewshot",
            f"bbh_cot_fewshot_{task}",
            "logic",
            name,
            f"BBH: {summary}; 3 worked examples, answer extracted",
            score="exact_match/get-answer",
            chance=chance,
        )
        for task, name, chance, summary in (
            ("boolean_expressions", "bbh_boolean", 1 / 2, "value of a Boolean expression"),
            ("logical_deduction_three_objects", "bbh_deduction_3", 1 / 3, "order of three objects"),
            ("logical_deduction_five_objects", "bbh_deduction_5", 1 / 5, "order of five objects"),
            ("logical_deduction_seven_objects", "bbh_deduction_7", 1 / 7, "order of seven objects"),
        )
    ),
    *(
        _hub("arithmetic", f"arithmetic_{name}", "arithmetic", f"arithmetic_{name}", f"{summary}; greedy exact match")
        for name, summary in _ARITHMETIC.items()
    ),
    _hub(
        "gsm8k",
        "gsm8k",
        "arithmetic",
        "gsm8k",
        "GSM8K: word problems; 5 worked examples, the last number counts",
        score="exact_match/flexible-extract",
    ),
    _hub(
        "mmlu_pro",
        "mmlu_pro_math",
        "arithmetic",
        "mmlu_pro_math",
        "MMLU-Pro: mathematics, up to 10 choices; 5 worked examples, letter extracted",
        score="exact_match/custom-extract",
        chance=1 / 10,
    ),
    _hub("winogrande", "winogrande", "commonsense", "winogrande", "WinoGrande: who is meant; 2 choices", chance=1 / 2),
    *(
        _hub(folder, task, "commonsense", task, summary, score="acc_norm/none", chance=chance)
        for folder, task, summary, chance in (
            ("openbookqa", "openbookqa", "OpenBookQA: elementary science, without its book; 4 choices", 1 / 4),
            ("piqa", "piqa", "PIQA: how to do an everyday thing; 2 choices", 1 / 2),
            ("hellaswag", "hellaswag", "HellaSwag: what happens next; 4 choices", 1 / 4),
            ("arc", "arc_easy", "ARC: school science, easy part; mostly 4 choices", 1 / 4),
            ("arc", "arc_challenge", "ARC: school science, hard part; mostly 4 choices", 1 / 4),
        )
    ),
)
_OURS = {part.task: part for part in MEMSPLIT}
MEMSPLIT_PAPER = (
    _OURS["memsplit_recitation"],
    _OURS["memsplit_twins"],
    *_HUB,
    _OURS["memsplit_fluency"],
)
SUITES: dict[str, tuple[TaskSpec, ...]] = {
    "memsplit": (*MEMSPLIT, *FACTS, *WORLD),
    "memsplit_audit": AUDIT,
    "memsplit_paper": MEMSPLIT_PAPER,
}
