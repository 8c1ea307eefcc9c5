"""What to evaluate, and the checks that need no model. Imports no torch."""

from __future__ import annotations

import dataclasses
import operator
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...model_edits import registry, spec
from ...model_edits.target_names import resolve_layers
from ...results.records.axes import RECITATION, TWINS
from ...results.records.store import DEFAULT
from ...tasks import packs
from ...tasks.suite import TaskSpec
from ..common import runtime
from ..models import model_table
from .task_selection import choose_parts, expand_suite, known


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate, checked when it is made; the names are those of the command's options.

    Attributes:
        model: a name of the model table, a folder, a GGUF file, or a hub id.
        edits: their specs.
        pack: probe data; the model's by default.
        corpus: calibration data that curvature is collected from; the pack's by default, else the model's.
        parallelize: spread the model over all devices.
        suite: which group of tasks.
        tasks: names of tasks or groups, or patterns (see ``task_selection.choose_parts``); the whole suite by default.
        split: ``dev`` or ``test``.
        limit: only the first so many items of each task.
        batch_size: sequences a forward pass; ``auto`` for 64, and half of that wherever the memory does not suffice.
        device: where to compute; by default CUDA if there is one, else the CPU.
        dtype: to compute in; the model's by default, float32 on a CPU.
        revision: branch, tag or commit of the model's repository on the hub; the model table's by default, else its
            main branch.
        trust_remote_code: run code that comes with the model, or with the reference.
        chat_template: put the prompts into the words of the tokenizer's chat template, but no passage and no text whose
            every token is scored.
        dequantize: dequantize the weights of the model and of the reference where they are quantized.
        seed: of the intervals' resampling.
        out: the folder of the records.
        factor_tokens: tokens that curvature is collected from; the model's by default.
        rescore: score again what was scored before.
        resume: keep the records in ``out`` that a killed evaluation wrote.
        reference: the unseen counterpart, a model that never saw the passages: what it needs for them is the floor of
            memory. By default the model table's; ``none`` for no counterpart.
        include_path: folders with further tasks and suites, as lm-eval's YAML.
        attacks: specs of attacks, after each of which an edit is scored too.

    Raises:
        UserError: a value is of the wrong kind or range; the message says what was expected.
    """

    model: str
    edits: Sequence[str]
    pack: str | None = None
    corpus: str | None = None
    parallelize: bool = False
    suite: str = "memsplit"
    tasks: Sequence[str] = ()
    split: str = "test"
    limit: int | None = None
    batch_size: int | str = 32
    device: str | None = None
    dtype: str | None = None
    seed: int = 0
    out: Path = DEFAULT
    factor_tokens: int | None = None
    rescore: bool = False
    resume: bool = False
    reference: str | None = None
    include_path: Sequence[str | Path] = ()
    attacks: Sequence[str] = ()
    revision: str | None = None
    trust_remote_code: bool = False
    dequantize: bool = False
    chat_template: bool = False

    def __post_init__(self) -> None:
        for name, example in (("edits", "kfac-80"), ("tasks", "memsplit_fluency"), ("attacks", "relearn")):
            object.__setattr__(self, name, _listed(name, getattr(self, name), "texts", str, example))
        for name in ("model", "suite", "split", "pack", "corpus", "reference", "revision"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name in ("model", "suite", "split")):
                raise UserError(f"bad {name} {value!r}: expected a name")
        for name, least in (("limit", 1), ("batch_size", 1), ("factor_tokens", 1), ("seed", 0)):
            optional, value = name in ("limit", "factor_tokens"), getattr(self, name)
            if (name, value) != ("batch_size", runtime.AUTO_BATCH):
                also = f" or {runtime.AUTO_BATCH!r}" if name == "batch_size" else ""
                object.__setattr__(self, name, whole_number(name, value, least, optional=optional, also=also))
        for name in ("parallelize", "rescore", "resume", "trust_remote_code", "dequantize", "chat_template"):
            if not isinstance(value := getattr(self, name), bool):
                raise UserError(f"bad {name} {value!r}: expected True or False")
        object.__setattr__(self, "out", folder_path("out", self.out))
        folders = _listed("include_path", self.include_path, "folders", str | Path, "my-tasks")
        object.__setattr__(self, "include_path", tuple(map(Path, folders)))
        expand_suite(self.suite, known(self.include_path))
        packs.check_split(self.split)
        runtime.check_device(self.device)
        runtime.check_dtype(self.dtype)

    @property
    def entry(self) -> model_table.ModelEntry:
        """The model's place and defaults (see ``model_table.resolve``)."""
        how = {name: getattr(self, name) for name in model_table.HOW}
        return model_table.resolve(self.model, self.pack, self.corpus, revision=self.revision, **how)


def _listed(name: str, values: object, what: str, kind: Any, example: str) -> tuple[Any, ...]:
    """The values as a tuple, if they are a list of this kind; one text is not."""
    if isinstance(values, Iterable) and not isinstance(values, str):
        listed = tuple(values)
        if all(isinstance(value, kind) for value in listed):
            return listed
    like = str(values) if isinstance(values, str | Path) else example
    raise UserError(f"bad {name} {values!r}: expected a list of {what}, as in {name}=[{like!r}]")


def folder_path(name: str, value: object) -> Path:
    """``value`` as a folder's path.

    Raises:
        UserError: it is none.
    """
    if isinstance(value, str | Path) and str(value) and "\0" not in str(value):
        return Path(value)
    raise UserError(f"bad {name} {value!r}: expected a folder's path")


def whole_number(name: str, value: Any, least: int, *, optional: bool = False, also: str = "") -> int | None:
    """``value`` as an ``int``, be it Python's or NumPy's; ``None`` if that is ``optional``.

    ``also`` says, for errors, what else could have been given.

    Raises:
        UserError: it is no whole number, or out of range.
    """
    if value is None and optional:
        return None
    if hasattr(value, "__index__") and not isinstance(value, bool) and least <= (number := operator.index(value)):
        if number < 2**63:
            return number
        below = " and below 2**63"
    else:
        below = ""
    expected = f"a whole number above 0{below}" if least else f"a whole number, 0 or more{below}"
    raise UserError(f"bad {name} {value!r}: expected {expected}{', or None' if optional else also}")


NO_REFERENCE = "none"
"""The ``reference`` that stands for no unseen counterpart."""
NOT_IDENTITY = ("edits", "out", "rescore", "resume")
"""Fields of a request that do not change an edit's record."""


REPEATED = {"include_path": "--include-path", "attacks": "--attack"}
"""Fields of a request whose option is given once for each of their values."""


def command(request: Request, edit: str) -> str:
    """The command line that makes an edit's record again, in the default folder."""
    words = ["memsplit-eval", "--model", request.model, "--edit", edit]
    words += ["--device", request.device] if request.device else []
    for option in dataclasses.fields(Request):
        value = getattr(request, option.name)
        if option.name in (*NOT_IDENTITY, "model", "device") or value == option.default:
            continue
        if option.name in REPEATED:
            words += [word for one in value for word in (REPEATED[option.name], str(one))]
            continue
        words.append(f"--{option.name.replace('_', '-')}")
        if value is not True:
            words.append(",".join(value) if option.name == "tasks" else str(value))
    return shlex.join(words)


def resolve(request: Request) -> tuple[model_table.ModelEntry, list[TaskSpec], list[TaskSpec]]:
    """The model's entry, the tasks to run, and those left out, once everything is checked that needs no loaded model.

    Raises:
        UserError: no such model, pack, corpus or task, or an edit that does not fit the model.
    """
    entry = check_model(request.entry, [*request.edits, *request.attacks], request.factor_tokens)
    for text in request.attacks:
        if not any(step.attack for step in fill_in(text, entry, None)):
            attacks = [name for name, edit in registry.edits().items() if edit.attack]
            raise UserError(f"bad attack {text!r}: it has no attack in it, expected one of {', '.join(attacks)}")
    if request.reference not in (None, NO_REFERENCE):
        model_table.resolve(request.reference)
    parts, left_out = choose_parts(request.suite, request.tasks, entry, request.include_path)
    axes = {part.axis for part in passage_tasks(parts)}
    if request.reference not in (None, NO_REFERENCE) and not axes:
        raise UserError(f"--reference {request.reference!r} is asked passages, and no task that is asked has any")
    if request.attacks and not axes >= {RECITATION, TWINS}:
        raise UserError(f"attack {request.attacks[0]!r} is scored on passages: expected tasks of recitation and twins")
    return entry, parts, left_out


def passage_tasks(parts: Iterable[TaskSpec]) -> list[TaskSpec]:
    """The tasks whose items are passages."""
    return [part for part in parts if "mia_loss" in part.metrics]


def check_model(
    entry: model_table.ModelEntry, edits: Iterable[str], factor_tokens: int | None
) -> model_table.ModelEntry:
    """The model's entry, once the edits are known to fit it, as far as that can be known without loading it.

    Raises:
        UserError: an edit that does not fit, or too few tokens for curvature.
    """
    config = model_table.local_config(entry)
    for text in edits:
        fill_in(text, entry, model_table.layer_count(config) if config else None)
    if factor_tokens is not None and factor_tokens < entry.factor_length:
        raise UserError(f"bad --factor-tokens {factor_tokens}: expected at least {entry.factor_length}")
    return entry


def fill_in(text: str, entry: model_table.ModelEntry, n_layers: int | None) -> tuple[registry.Edit, ...]:
    """The steps of a spec with the model's layers, projections and percent filled in where it gives none.

    Args:
        text: the spec.
        entry: the model.
        n_layers: the model's; ``None`` where it is not known yet leaves open what depends on it.

    Raises:
        UserError: the spec does not fit the grammar, the registry or the model.
    """
    steps = spec.parse_chain(text, registry.edit_names())
    return tuple(_fill_in(registry.build(step, entry.percent), entry, n_layers) for step in steps)


def _fill_in(edit: registry.Edit, entry: model_table.ModelEntry, n_layers: int | None) -> registry.Edit:
    if edit.needs_forget_set and not all(map(packs.find(entry.pack).has, ("memorized", "clean"))):
        raise UserError(
            f"{edit.name!r} trains on passages of a pack's memorized.jsonl and texts of its clean.jsonl: "
            "expected --pack NAME or FOLDER"
        )
    if not edit.targeted or edit.on_all:
        return edit
    layers = edit.layers or entry.layers or (model_table.default_layers(n_layers) if n_layers else None)
    if layers and n_layers:
        try:
            layers = resolve_layers(layers, n_layers)
        except UserError as error:
            raise UserError(f"bad edit '{edit.spec}': {error}") from error
    return dataclasses.replace(edit, layers=layers, proj=edit.proj or entry.proj)


def pack_kinds(parts: Iterable[TaskSpec]) -> list[str]:
    """The files of the pack that these tasks need, by their names without ``.jsonl``."""
    return [kind for part in parts if part.kind for kind in part.kind.split("+")]
