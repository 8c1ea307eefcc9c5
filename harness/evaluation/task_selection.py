"""Which tasks a request runs: those of its suite, or those that it names. Imports neither torch nor lm-eval."""

from __future__ import annotations

import difflib
import fnmatch
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import UserError, unknown
from ...tasks import packs, suite
from ...tasks.suite import Catalog, TaskSpec
from ..models.model_table import ModelEntry
from . import lm_eval_index


def choose_parts(
    suite_name: str, words: Sequence[str], entry: ModelEntry, include_path: Sequence[str | Path] = ()
) -> tuple[list[TaskSpec], list[TaskSpec]]:
    """The tasks to run, and those that cannot be run: the model's packs lack what they need, or they have a ``note``.

    A generated task that the packs do not list is made for other models. It is in neither list, unless a word is its
    name.

    Args:
        suite_name: the suite.
        words: names of tasks or groups, or patterns of tasks' names (``memsplit_logic*``); none is the whole suite. A
            word is looked up in the suite, then among memsplit's own tasks and those of ``include_path``, then among
            those of installed packages, then among lm-eval's own; the first place that knows it counts.
        entry: the model.
        include_path: folders with further tasks and suites.

    Raises:
        UserError: unknown suite or task, no task is left to run, or two tasks have a metric of one name.
    """
    named = named_tasks(suite_name, words, include_path)
    pack = packs.find(entry.pack)
    families = pack.families
    chosen = [part for part in named if not part.family or part.family in families or part.task in words]
    skipped = []
    for part in chosen:
        suits = all(map(pack.has, part.kind.split("+"))) if part.kind else part.family in {"", *families}
        if part.note or not suits:
            skipped.append(part)
    left = leave_out(chosen, skipped)
    _check_metrics(left)
    return left, skipped


def named_tasks(suite_name: str, words: Sequence[str], include_path: Sequence[str | Path] = ()) -> list[TaskSpec]:
    """The tasks that the words name, or the suite's where there are none (see :func:`choose_parts`).

    Raises:
        UserError: unknown suite or task.
    """
    catalog = known(include_path)
    parts = {part.task: part for part in expand_suite(suite_name, catalog)}
    named = {part.task: part for word in words for part in _named(word, parts, catalog)}
    return list((named if words else parts).values())


def known(include_path: Sequence[str | Path] = ()) -> Catalog:
    """The tasks and suites of memsplit and of the folders.

    Raises:
        UserError: a folder does not exist or has no task, a file is broken, or two tasks have one name.
    """
    catalog = suite.own()
    for folder in include_path:
        catalog |= suite.read_folder(Path(folder).resolve())
    return catalog


def expand_suite(name: str, catalog: Catalog) -> list[TaskSpec]:
    """The tasks of a suite of the catalog or of an installed package.

    Raises:
        UserError: there is no such suite.
    """
    if name not in catalog.groups:
        catalog |= suite.installed()
    if name not in catalog.groups:
        raise unknown("suite", name, catalog.groups)
    return _expand(name, catalog)


def _named(word: str, parts: dict[str, TaskSpec], catalog: Catalog) -> list[TaskSpec]:
    """The tasks that a word of the request names."""
    if found := fnmatch.filter(parts, word):
        return [parts[name] for name in found]
    for further in (Catalog, suite.installed):
        there = catalog | further()
        if word in there:
            return _expand(word, there)
        if found := fnmatch.filter(there.tasks, word):
            return [there.tasks[name] for name in found]
    if word in lm_eval_index.folders():
        return _expand(word, catalog)
    matches = fnmatch.filter(lm_eval_index.folders(), word) if set(word) & set("*?[") else []
    if tasks := [task for name in matches if (task := lm_eval_index.task(name))]:
        return tasks
    near = difflib.get_close_matches(word, {**parts, **there.tasks}, n=1, cutoff=0.5) or difflib.get_close_matches(
        word, lm_eval_index.folders(), n=1, cutoff=0.8
    )
    hint = f"; did you mean {near[0]!r}?" if near else ""
    expected = ", ".join(sorted(parts))
    raise UserError(f"unknown task {word!r}: expected one of {expected}, or a task or group of lm-eval's own{hint}")


def _expand(name: str, catalog: Catalog) -> list[TaskSpec]:
    """The task of that name, or the tasks of the group, whose members may be an installed package's or lm-eval's."""

    def elsewhere(member: str) -> list[TaskSpec]:
        return suite.installed().expand(member) if member in suite.installed() else lm_eval_index.expand(member)

    try:
        return catalog.expand(name, elsewhere)
    except KeyError as missing:
        raise UserError(f"the group {name!r} names {missing.args[0]!r}, which is neither a task nor a group") from None


def _check_metrics(parts: Iterable[TaskSpec]) -> None:
    """Refuse two tasks whose metrics have one name in one axis: their items would be taken together."""
    named: dict[tuple[str, str], str] = {}
    for part, name in itertools.chain.from_iterable(((p, n) for n in p.metrics.values()) for p in parts):
        other = named.setdefault((part.axis, name), part.task)
        if other != part.task:
            raise UserError(
                f"the tasks {other!r} and {part.task!r} both have a metric {name!r} in the axis {part.axis!r}: "
                "expected different names, which 'metrics' in a task's metadata gives them"
            )


def leave_out(parts: Sequence[TaskSpec], skipped: Sequence[TaskSpec]) -> list[TaskSpec]:
    """The parts that are not skipped.

    Raises:
        UserError: none is left.
    """
    names = {part.task for part in skipped}
    left = [part for part in parts if part.task not in names]
    if not left:
        hint = "" if all(part.note for part in skipped) else ": expected --pack NAME or FOLDER"
        raise UserError(f"no task is left to ask; {'; '.join(not_asked(skipped))}{hint}")
    return left


def not_asked(skipped: Sequence[TaskSpec]) -> list[str]:
    """One line on the tasks that were left out for each reason."""
    tasks: dict[str, list[str]] = {}
    for part in skipped:
        reason, name = (part.note, part.task) if part.note else ("no pack has it", f"{part.task} ({part.needs})")
        tasks.setdefault(reason, []).append(name)
    return [f"not asked, for {reason}: {', '.join(names)}" for reason, names in tasks.items()]
