"""The tasks that lm-eval itself defines, found by name in its YAML files without importing lm-eval.

lm-eval has some 14,000 files. Reading them all as YAML, as its own index does, takes 10 s; a search for the lines that
give a task, group or tag its name takes half a second, and only the folders that a name leads to are read as YAML.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections import defaultdict
from pathlib import Path

from ...tasks.suite import Catalog, Group, TaskSpec, read_folder

_NAMED = re.compile(rb"""^["']?(?:task|group|tag)["']?[ ]*:[ ]*["']?([^\s"'\[{#&|>]+)""", re.MULTILINE)
_TAGS = re.compile(rb"""^["']?tag["']?[ ]*:[ ]*(?:\[([^\]]*)\]|\n((?:[ ]*-[ ]*\S+[ ]*\n?)+))""", re.MULTILINE)


@functools.cache
def folders() -> dict[str, frozenset[Path]]:
    """The folders with a file that defines a task, a group or a tag, by its name."""
    found: defaultdict[str, set[Path]] = defaultdict(set)
    spec = importlib.util.find_spec("lm_eval")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for path in (Path(root) / "tasks").rglob("*.yaml"):
            text = path.read_bytes()
            names = _NAMED.findall(text)
            for flow, block in _TAGS.findall(text):
                names += re.findall(rb"[\w.:+-]*\w[\w.:+-]*", flow or block)
            for name in names:
                found[name.decode(errors="replace")].add(path.parent)
    return {name: frozenset(paths) for name, paths in found.items()}


@functools.cache
def _read(folder: Path) -> Catalog:
    return read_folder(folder, recursive=False, strict=False)


def task(name: str) -> TaskSpec | None:
    """lm-eval's task of that name, if there is one."""
    found = (_read(folder).tasks.get(name) for folder in sorted(folders().get(name, ())))
    return next((spec for spec in found if spec), None)


def expand(name: str) -> list[TaskSpec]:
    """lm-eval's task of that name, or all tasks of its group or tag.

    Raises:
        KeyError: lm-eval has none of that name, or a group has a member that is nowhere defined.
        UserError: a group overrides settings of its tasks.
    """
    tasks: dict[str, TaskSpec] = {}
    groups: dict[str, Group] = {}
    pending, read = [name], set[str]()
    while pending:
        wanted = pending.pop()
        if wanted in tasks or wanted in read:
            continue
        read.add(wanted)
        for folder in sorted(folders().get(wanted, ())):
            catalog = _read(folder)
            tasks = {**catalog.tasks, **tasks}
            for other, group in catalog.groups.items():
                groups[other] = groups[other].with_tagged(group) if other in groups else group
        pending += groups[wanted].members if wanted in groups else ()
    return Catalog(tasks=tasks, groups=groups).expand(name)
