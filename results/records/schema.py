"""What a record holds: the types of its JSON, how it is read and what is checked.

The JSON keeps the keys that it always had; where the field has a better word, the attribute has another name than its
key (``rename``). A null in the place of a metric is nan here. A key that no type has is passed over, so that a record
to which a later version adds one can be read.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from .encoding import checked, nan_for_null

NEWEST = 2
"""The one schema that is read and written."""
METRIC_FIELDS = ("base", "axes", "changes", "summary", "by_group", "attacks", "risk", "groups", "matrices")
"""Keys under which a null is a metric that is nan."""

BEFORE_MEMORY = "silence_score"
"""What the split score of records from before attacks is called here: it was the harmonic mean of recitation removed
and logic kept."""

Key = tuple[str, str]
"""Axis and metric."""
Count = Annotated[int, Meta(ge=0)]
Guess = Annotated[float, Meta(ge=0, lt=1)]
MetricName = Annotated[str, Meta(pattern="^[^/]+/.")]
"""``AXIS/METRIC``."""
Metrics = dict[str, Annotated[dict[str, float], Meta(min_length=1)]]
"""Value by axis and metric; an axis that is named has a metric."""
Discoverable = dict[str, dict[str, float]]
"""The share of passages that n samples bring out with probability p: ``{"p=0.5": {"n=100": share, …}, …}``."""
T = TypeVar("T")


class Interval(Struct, frozen=True, kw_only=True):
    """A value and its 95 % interval, percentiles of the bootstrap; the bounds are nan where the value is not finite."""

    value: float
    low: float
    high: float


class Change(Interval, frozen=True, kw_only=True, rename={"normalized": "retained"}):
    """Edited - base of a metric, with its interval, and whether it could be chance.

    Attributes:
        base: the base model's value.
        edited: the edited model's value.
        n: number of items.
        clusters: number of clusters. Items about one thing are a cluster; they are resampled, and flipped, together.
        normalized: (edited - chance) / (base - chance), the share that is left of what is above guessing; nan where the
            base is no better than guessing, ``None`` for a metric that has no such share. ``acc`` as the mean over
            tasks takes the mean of (acc - chance) / (1 - chance) on either side.
        p: two-sided p of such a change where the edit makes no difference; nan where an item's score is not finite,
            and for a distance from the base.
        p_holm: ``p`` by Holm's correction over all metrics of the comparison.
        test: ``mcnemar`` where scores are 0 or 1 and every item is a cluster of its own; else ``sign-flip``, on the
            clusters' sums (for perplexity: in nats).
        detectable: the smallest true difference that this number of clusters would show in 80 % of all cases; nan where
            that is not known (see ``statistics.power``).
    """

    base: float
    edited: float
    n: Count
    clusters: Count
    normalized: Interval | None
    p: float
    p_holm: float
    test: str
    detectable: float


class GroupMetric(Struct, frozen=True, kw_only=True):
    """A metric over the items of one level or relation, with their number and its standard error."""

    value: float
    n: Count
    se: float


Groups = dict[str, dict[str, dict[str, GroupMetric]]]
"""By task, metric, and level or relation."""


class Risk(Struct, frozen=True, kw_only=True):
    """What can be extracted from a model.

    Attributes:
        discoverable: by axis, the share of passages that samples bring out (see ``statistics.extraction``).
        membership: by signal, and under ``best`` for all of them, how well memorized passages are told from twins:
            ``auroc``, ``tpr_at_fpr``, ``auroc_two_sided``, ``tpr_two_sided`` (see ``statistics.extraction``). Records
            of before hold the first two alone.
    """

    discoverable: dict[str, Discoverable]
    membership: dict[str, dict[str, Interval]]


class Sides(Struct, Generic[T], frozen=True, kw_only=True):
    """The same of the base model and of the edited one."""

    base: T
    edit: T


class Arguments(Struct, frozen=True, kw_only=True):
    """The options of a command that decide what a record holds (see ``harness.evaluation.request.Request``).

    ``include_path`` and those after it are in the JSON only where they are given, as in records from before them.
    """

    model: str = ""
    pack: str | None = None
    corpus: str | None = None
    parallelize: bool = False
    suite: str = ""
    tasks: tuple[str, ...] = ()
    split: str
    limit: int | None = None
    batch_size: int | str | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int
    factor_tokens: int | None = None
    reference: str | None = None
    include_path: tuple[str, ...] | UnsetType = UNSET
    attacks: tuple[str, ...] | UnsetType = UNSET
    revision: str | UnsetType = UNSET
    trust_remote_code: bool | UnsetType = UNSET
    dequantize: bool | UnsetType = UNSET
    chat_template: bool | UnsetType = UNSET


class Reference(Struct, frozen=True, kw_only=True):
    """The unseen counterpart: a model that never saw the passages, against which memory and ``mia_ratio`` are taken."""

    model: str
    weights: str
    revision: str | None = None


class Attack(Struct, frozen=True, kw_only=True):
    """What an attack on the edited model brought back.

    Attributes:
        spec: the attack's canonical spec.
        erased: the share of the base's memory that is still gone (see ``statistics.memory``).
        strict: the share of the memorized passages that the attacked model continues word for word.
    """

    spec: str
    erased: Interval
    strict: float


class ScoredTask(Struct, frozen=True, kw_only=True):
    """A task of the suite: its axis, its version, the hash of its items and prompts, and how many items were scored.

    ``left_out`` is how many more there are that are longer than the model's context; in the JSON only where there are.
    """

    axis: str
    version: int | float | str
    fingerprint: str
    n: Count
    left_out: Count | UnsetType = UNSET


class SkippedTask(Struct, frozen=True, kw_only=True):
    """A task that was not scored, and why."""

    task: str
    reason: str


class EditedMatrix(Struct, frozen=True, kw_only=True):
    """What a step of an edit removed from one matrix.

    Attributes:
        name: the parameter's.
        kept: components (or weights) that are kept.
        total: components that the method looks at; 0 where it knows none.
        removed_norm: ‖W - W'‖ / ‖W‖, Frobenius.
    """

    name: str
    kept: Count
    total: Count
    removed_norm: float


class Evaluation(Struct, frozen=True, kw_only=True):
    """What was evaluated and how, apart from the edit.

    Attributes:
        model: its name in the model table, a hub id, or a folder.
        weights: sha256 of the base model's weights.
        arguments: options of the command.
        suite: name of the suite.
        fingerprint: hash of the tasks' versions, items and prompts. Only records of one fingerprint are comparable.
        reference: the unseen counterpart, if there is one.
        dtype: type of the weights.
        versions: of packages.
        code: explicit version of the scoring code; empty in records of versions that kept none.
    """

    model: str
    weights: str
    arguments: Arguments
    suite: str
    fingerprint: str
    reference: Reference | None = None
    dtype: str = ""
    versions: dict[str, str]
    code: str = ""


class Results(Evaluation, frozen=True, kw_only=True, rename={"recipe_hash": "made_from", "edited": "axes"}):
    """An evaluation, the edit, and what was measured.

    Attributes:
        spec: the edit's canonical spec.
        command: the command line that makes the record again.
        control: whether other edits are measured against this one.
        pretrained: hub id or folder of the model.
        revision: of the hub's repository.
        parameters: number of the model's.
        recipe_hash: hash of all that decides the edited weights, known before they are computed; ``None`` where it
            cannot be known.
        edited_weights: sha256 of the edited model's weights.
        steps: the edit's steps: ``name``, ``dial`` and the method's options, defaults filled in.
        factors: arguments and sha256 of the curvature factors that were used.
        matrices: what was removed, step by step and matrix by matrix.
        tasks: scored tasks by name.
        skipped: tasks of the suite that were not scored.
        created: UTC, ISO 8601.
        hardware: device, machine, threads, processor (its name and instruction set), accelerator.
        base: the base model's metrics.
        edited: the edited model's metrics.
        chance: what guessing scores by ``AXIS/METRIC``; only metrics of which more is better and that are shares.
        changes: of each ``AXIS/METRIC``.
        summary: the summary metrics by name (see ``statistics.paired``).
        attacks: what each attack brought back; in the JSON only where there were any.
        by_group: the summary metrics of memory by group of the memorized passages, such as ``start, dose 64``; in the
            JSON only where the pack says doses.
        notes: what else must be known of the edit, a line each, such as that it changes no output; in the JSON only
            where there is any.
        risk: what can be extracted.
        groups: metrics by level or relation.
        seconds: by phase: ``base`` (scoring it), ``curvature``, ``edit``, ``suite`` (scoring the edited model).
    """

    spec: str
    command: str
    control: bool
    pretrained: str | None = None
    revision: str | None = None
    parameters: int | None = None
    recipe_hash: str | None = None
    edited_weights: str
    steps: tuple[dict[str, Any], ...]
    factors: tuple[dict[str, Any], ...] = ()
    matrices: tuple[EditedMatrix, ...]
    tasks: dict[str, ScoredTask]
    skipped: tuple[SkippedTask, ...] = ()
    created: str
    hardware: dict[str, Any] = {}
    base: Metrics
    edited: Metrics
    chance: dict[MetricName, Guess]
    changes: dict[MetricName, Change]
    summary: dict[str, Interval]
    attacks: tuple[Attack, ...] | UnsetType = UNSET
    by_group: dict[str, dict[str, Interval]] | UnsetType = UNSET
    notes: tuple[str, ...] | UnsetType = UNSET
    risk: Sides[Risk]
    groups: Sides[Groups] | None = None
    seconds: dict[str, float]

    def __post_init__(self) -> None:
        for step in self.steps:
            if not isinstance(step.get("name"), str) or not isinstance(step.get("dial", 0.0), int | float):
                raise ValueError("expected a `name` and a number `dial` in each of `steps`")

    @property
    def evaluation(self) -> Evaluation:
        """What was evaluated, without the results."""
        return Evaluation(**{name: getattr(self, name) for name in Evaluation.__struct_fields__})

    @property
    def method(self) -> str:
        """The names of the edit's steps."""
        return "+".join(step["name"] for step in self.steps)

    @property
    def dials(self) -> tuple[float, ...]:
        """The dial of each step."""
        return tuple(step.get("dial", 0.0) for step in self.steps)


class RecordContent(Results, frozen=True, kw_only=True):
    """Results as they are filed: with the record's name and the hashes of its files.

    Attributes:
        id: name of the record: what it is of, and a hash of its content.
        items_sha256: of the file with the items' scores.
        answers_sha256: of the file with the answers; ``None`` where none were written.
        sha256: of the rest of the JSON.
    """

    items_sha256: str
    answers_sha256: str | None = None
    id: str
    sha256: str


def decode(content: dict[str, Any]) -> RecordContent:
    """The typed content of a record's JSON.

    Raises:
        UserError: a field is missing, or is not of its type; one line that names its place.
    """
    filled = {
        key: nan_for_null(value, frozenset({"retained"})) if key in METRIC_FIELDS and value is not None else value
        for key, value in content.items()
    }
    summary = filled.get("summary")
    if isinstance(summary, dict) and "split_score" in summary and "stays_erased" not in summary:
        filled["summary"] = {BEFORE_MEMORY if key == "split_score" else key: value for key, value in summary.items()}
    record: RecordContent = checked(filled, RecordContent)
    return record
