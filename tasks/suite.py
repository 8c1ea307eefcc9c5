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
        axis: ``recitation``, ``facts_closed``, ``facts_open``, ``arithmetic``, ``logic``, ``fluency`` or
            ``commonsense``.
        metrics: lm-eval's name of each metric -> its name in the axis.
        filter: lm-eval's name of the filter that the answers go through before they are scored.
        chance: what guessing scores.
        kind: the file of the model's pack that its items are from.
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
        return f"{self.kind}.jsonl" if self.kind else f"family {self.family!r}"

    @property
    def reason(self) -> str:
        """Why it is not asked, where it is not."""
        return self.note or f"no pack has {self.needs}"


_RECITATION = {"strict": "strict", "loose": "loose", "levenshtein": "levenshtein"}
MEMSPLIT = (
    Part(
        task="memsplit_recitation",
        axis="recitation",
        metrics=_RECITATION,
        kind="memorized",
        summary="greedy continuation of memorized passages, 64 tokens given, 48 asked",
    ),
    Part(
        task="memsplit_twins",
        axis="recitation",
        metrics={"strict": "twins_strict"},
        kind="twins",
        summary="the same for passages that were never trained on: the rate of a lucky recitation",
    ),
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
        metrics={"perplexity": "perplexity"},
        kind="clean",
        summary="perplexity of held-out text, every token weighing the same",
    ),
)


def _hub(
    folder: str, task: str, axis: str, name: str, summary: str, *, score: str = "acc/none", chance: float = 0.0
) -> Part:
    """A task of lm-eval's own, by reference; ``score`` is its METRIC/FILTER."""
    metric, filter_name = score.split("/")
    return Part(
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
    Part(
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
SUITES: dict[str, tuple[Part, ...]] = {"memsplit": MEMSPLIT, "memsplit_paper": MEMSPLIT_PAPER}
