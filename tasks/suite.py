"""Tasks, groups and suites as their YAML files declare them, read without lm-eval and without any data.

The files are in lm-eval's own format. What memsplit needs beside it stands in a task's ``metadata``::

    metadata:
      version: 1.0                    # lm-eval's: the version of the metrics' definitions
      axis: logic                     # what the task measures; "other" where the line is missing
      metrics: {acc: chain}           # lm-eval's name of a metric -> its name in the axis; default: all of metric_list
      chance: 1/4                     # the score of guessing, 0 by default
      summary: two if-then steps among distracting rules; 4 choices

``filter`` names the filter after which a task is scored, ``needs`` the files of a pack beside ``dataset_kwargs.kind``.
An entry of ``metric_list`` with ``rate: false`` is a metric of which more is better, but that is no share of anything.

A group's ``metadata.tasks`` declares the same of tasks that are defined elsewhere, by name; ``metadata.also_after``
lists tasks or groups that belong to the suite after one of the group's tasks, but not to lm-eval's own group.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import plugins
from .task_yaml import OTHER, Facts, Reference, TaskYamlError, convert, metadata_of, read

FOLDER = Path(__file__).parent / "suites"
"""memsplit's own tasks and suites: a folder for each suite, by its name."""
SUITES = tuple(sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))
"""The names of memsplit's own suites, known without reading a file."""
_GROUP_KEYS = {"group", "group_alias", "task", "task_alias", "aggregate_metric_list", "metadata", "tag"}
"""Keys of a group, and of an entry of its ``task`` list, that leave the tasks' own settings alone."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """How memsplit runs and reports one task.

    Attributes:
        task: lm-eval's name of the task.
        axis: what the task measures, such as ``recitation`` or ``logic``.
        metrics: lm-eval's name of each reported metric -> the metric's name in the axis. Empty where it is only known
            once lm-eval has loaded the task.
        not_rates: lm-eval's names of the metrics of which more is better, but that are no share of anything.
        filter: lm-eval's name of the filter that the model's answers pass before they are scored.
        chance: the score of guessing.
        kind: the file of the pack that the task's items come from; ``a+b`` if it needs both.
        family: the generator of the task's items, which a pack must list.
        folder: where the YAML is; ``None`` for a task of lm-eval's own whose folder has not been looked up.
        note: why the task cannot be run, if it cannot.
        summary: one line on the task's items.
    """

    task: str
    axis: str
    metrics: Mapping[str, str]
    not_rates: frozenset[str] = frozenset()
    filter: str = "none"
    chance: float = 0.0
    kind: str = ""
    family: str = ""
    folder: Path | None = None
    note: str = ""
    summary: str = ""

    @property
    def own(self) -> bool:
        """Whether memsplit itself defines the task, so that lm-eval can always load it."""
        return self.folder == FOLDER

    @property
    def needs(self) -> str:
        """What the task needs of a pack, in words."""
        return (
            " and ".join(f"{kind}.jsonl" for kind in self.kind.split("+")) if self.kind else f"family {self.family!r}"
        )

    @property
    def reason(self) -> str:
        """Why the task was not run, given that it was not."""
        return self.note or f"no pack has {self.needs}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """A named list of tasks and groups.

    Attributes:
        members: their names, in order.
        references: what the group declares of members that are defined elsewhere, by name.
        changes: settings of its tasks that the group overrides, which memsplit does not carry over.
        tag: whether it is a tag, of which each member says itself that it has it.
    """

    members: tuple[str, ...]
    references: Mapping[str, TaskSpec] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    tag: bool = False

    def with_tagged(self, other: Group) -> Group:
        """Of two tags of one name, one with the members of both; of two groups, the first."""
        if not (self.tag and other.tag):
            return self
        return replace(self, members=tuple(sorted({*self.members, *other.members})))


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Tasks and groups by name."""

    tasks: Mapping[str, TaskSpec] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)

    def __or__(self, other: Catalog) -> Catalog:
        """Both together.

        Raises:
            UserError: both have a task or group of one name.
        """
        twice = [name for name in (*other.tasks, *other.groups) if name in self]
        if twice:
            raise UserError(f"the task or group {twice[0]!r} is defined twice: expected a name of its own")
        return Catalog(tasks={**self.tasks, **other.tasks}, groups={**self.groups, **other.groups})

    def __contains__(self, name: object) -> bool:
        return name in self.tasks or name in self.groups

    def expand(self, name: str, elsewhere: Callable[[str], Iterable[TaskSpec]] | None = None) -> list[TaskSpec]:
        """The task of that name, or all tasks of the group, each once.

        Args:
            name: a task or group.
            elsewhere: gives the tasks of a name that is not in the catalog.

        Raises:
            KeyError: a name that is not in the catalog, and nothing is elsewhere; its argument is the name.
            UserError: a group overrides settings of its tasks, or names itself.
        """
        return list({spec.task: spec for spec in self._expand(name, elsewhere, ())}.values())

    def _expand(
        self, name: str, elsewhere: Callable[[str], Iterable[TaskSpec]] | None, within: tuple[str, ...]
    ) -> Iterator[TaskSpec]:
        if name in self.tasks:
            yield self.tasks[name]
            return
        if name not in self.groups and elsewhere is not None:
            yield from elsewhere(name)
            return
        if name in within:
            raise UserError(f"the group {name!r} names itself: expected tasks, or groups of other tasks")
        group = self.groups[name]
        if group.changes:
            changed = ", ".join(group.changes)
            raise UserError(f"the group {name!r} changes {changed} of its tasks, which memsplit does not carry over")
        for member in group.members:
            if member in group.references:
                yield group.references[member]
            else:
                yield from self._expand(member, elsewhere, (*within, name))


@functools.cache
def own() -> Catalog:
    """The tasks and suites of memsplit."""
    return read_folder(FOLDER)


@functools.cache
def installed() -> Catalog:
    """The tasks and groups of installed packages (entry-point group ``memsplit.tasks``).

    Raises:
        UserError: a package names no folder, or its YAML is broken.
    """
    catalog = Catalog()
    for name in plugins.names(plugins.TASKS):
        if folder := plugins.folder(plugins.TASKS, name):
            catalog |= read_folder(folder)
    return catalog


def read_folder(folder: Path, *, recursive: bool = True, strict: bool = True) -> Catalog:
    """The tasks, groups and tags that the YAML files of a folder define; files that define none are templates.

    Args:
        folder: where the files are.
        recursive: whether folders below it count too.
        strict: whether a broken file is an error, as is a name that two files define; otherwise the file is left out.

    Raises:
        UserError: there is no such folder, it has no task or group, or a file is broken.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {str(folder)!r}: expected one with lm-eval's task YAML")
    tasks: dict[str, TaskSpec] = {}
    groups: dict[str, Group] = {}
    tags: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.yaml") if recursive else folder.glob("*.yaml")):
        try:
            config = read(path)
            name = config.get("group") or config.get("task")
            if not isinstance(name, str) or {"class", "group"} <= config.keys():
                continue
            if name in tasks or name in groups:
                raise TaskYamlError(path, f"defines {name!r} a second time")
            if "group" in config:
                groups[name] = _group(path, config)
                continue
            found_tags = _texts(path, config.get("tag"))
            tasks[name] = _task(path, config, folder)
        except TaskYamlError as error:
            if strict:
                raise UserError(str(error)) from error
            continue
        for tag in found_tags:
            tags.setdefault(tag, []).append(name)
    groups |= {tag: Group(members=tuple(sorted(names)), tag=True) for tag, names in tags.items() if tag not in groups}
    if not tasks and not groups:
        raise UserError(f"{str(folder)!r} has no task: expected lm-eval's task YAML in it")
    return Catalog(tasks=tasks, groups=groups)


def _task(path: Path, config: Mapping[str, Any], folder: Path) -> TaskSpec:
    """The task that a YAML file defines."""
    facts = convert(path, metadata_of(config), Facts)
    entries = convert(path, config.get("metric_list") or [], list[dict[str, Any]])
    listed = {_function_name(entry["metric"]): entry for entry in entries if "metric" in entry}
    given = convert(path, config.get("dataset_kwargs") or {}, dict[str, Any])
    return replace(
        _spec(path, config["task"], facts, {} if facts.axis == OTHER else {name: name for name in listed}),
        not_rates=frozenset(name for name, entry in listed.items() if entry.get("rate") is False),
        kind="+".join(facts.needs) or str(given.get("kind", "")),
        family=str(given.get("family", "")),
        folder=folder,
    )


def _group(path: Path, config: Mapping[str, Any]) -> Group:
    """The group that a YAML file defines."""
    metadata = metadata_of(config)
    references = convert(path, metadata.get("tasks", {}), dict[str, Reference])
    also = convert(path, metadata.get("also_after", {}), dict[str, list[str]])
    listed = config.get("task") or []
    entries = convert(path, [listed] if isinstance(listed, str) else listed, list[str | dict[str, Any]])
    members: list[str] = []
    changes = [key for key in config if key not in _GROUP_KEYS]
    for entry in entries:
        given = {"task": entry} if isinstance(entry, str) else entry
        changes += [key for key in given if key not in _GROUP_KEYS]
        name = given.get("task") if isinstance(given.get("task"), str) else given.get("group")
        members += [str(name), *also.get(str(name), ())]
    specs = {name: _spec(path, name, facts, {}) for name, facts in references.items()}
    return Group(members=tuple(members), references=specs, changes=tuple(dict.fromkeys(changes)))


def _spec(path: Path, task: str, facts: Facts, default: Mapping[str, str]) -> TaskSpec:
    """A task by its facts; the ``default`` metrics are reported if the facts name none."""
    metrics = {name: name for name in facts.metrics} if isinstance(facts.metrics, list) else facts.metrics
    names = list((default if metrics is None else metrics).values())
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise TaskYamlError(path, f"gives two metrics of {task} the name {twice!r}: expected different names")
    try:
        odd = isinstance(facts.chance, str) and not re.fullmatch(r"[\d.]{1,20}(/\d{1,20})?", facts.chance)
        chance = -1.0 if odd else float(Fraction(facts.chance))  # an exponent of ten digits would take for ever
    except (ValueError, ZeroDivisionError, OverflowError):
        chance = -1.0
    if not 0 <= chance < 1:
        raise TaskYamlError(path, f"says that the chance of {task} is {facts.chance!r}: expected at least 0, below 1")
    return TaskSpec(
        task=task,
        axis=facts.axis,
        metrics=default if metrics is None else metrics,
        filter=facts.filter,
        chance=chance,
        note=facts.note,
        summary=facts.summary,
    )


def _function_name(metric: object) -> str:
    """lm-eval's name of a metric, which may be a function (``!function module.name``)."""
    return str(metric).rpartition(".")[2]


def _texts(path: Path, value: object) -> list[str]:
    return [value] if isinstance(value, str) else convert(path, value or [], list[str])
