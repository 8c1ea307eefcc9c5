"""``memsplit factors``: collect curvature factors ahead of time, and manage the cache that keeps them."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ....errors import UserError, unknown
from ...common import cache
from ...common.runtime import device, init_distributed, quiet
from .. import lazy
from ..arguments import SPEC, add_model, check_model, model_entry, path, positive, seed
from ..parser import Parser

DAY_S = 86400


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = parser.add_subparsers(required=True, parser_class=Parser, metavar="ACTION")

    def action(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        own: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
        own.set_defaults(run=command, distributed=command is collect)
        return own

    for name, command, text in (
        ("collect", collect, "collect what edits need, ahead of time; in several processes under accelerate launch"),
        ("import", import_file, "take factors from the reference implementation's file, as if collected here"),
    ):
        own = action(name, command, text)
        add_model(own)
        if name == "import":
            own.add_argument("file", type=path, metavar="FILE", help="kfac_factors_blk_….pt")
        own.add_argument(
            "--edit", dest="edits", action="append", default=[], metavar="SPEC", help=f"{SPEC} (default: kfac)"
        )
        if name == "collect":
            own.add_argument(
                "--label-seed",
                type=seed,
                metavar="N",
                help="label_seed of the edits whose spec gives none (default: 0)",
            )
    action("list", show_all, "list what the cache holds, the last used first")
    for name, command, text in (
        ("show", show, "show an entry's arguments and matrices"),
        ("verify", verify, "read every byte and say what is damaged; exit code 1 if anything is"),
    ):
        action(name, command, text).add_argument(
            "ids", nargs="*", metavar="ID", help="how its id begins (default: all)"
        )
    prune_ = action("prune", prune, "delete entries")
    prune_.add_argument("ids", nargs="*", metavar="ID", help="how its id begins")
    prune_.add_argument("--older-than", type=positive, metavar="DAYS", help="delete those not used for so long")
    prune_.add_argument("--partial", action="store_true", help="delete what killed commands left")
    prune_.add_argument("--all", action="store_true", help="delete everything")
    prune_.add_argument("--dry-run", action="store_true", help="say what would be deleted, and stop")


def collect(arguments: argparse.Namespace) -> int:
    """Run ``memsplit factors collect``; of several processes the first prints the paths."""
    edits = arguments.edits or ["kfac"]
    check_model(arguments, edits)
    chosen = device(arguments.device)
    quiet()
    chosen = init_distributed(chosen, parallelize=arguments.parallelize)
    editor, steps = _editor(arguments, edits, chosen)
    if arguments.label_seed is not None:
        steps = [
            dataclasses.replace(step, label_seed=arguments.label_seed)
            if getattr(step, "label_seed", None) == 0 and step.labels != "gold"
            else step
            for step in steps
        ]
    editor.collect_missing(steps)
    if lazy.sums.rank_and_world()[0] == 0:
        _print_used(editor, steps)
    return 0


def import_file(arguments: argparse.Namespace) -> int:
    """Run ``memsplit factors import``: all factors are read before the first is stored.

    Raises:
        UserError: an edit needs more than the file holds, or there are factors of these arguments already.
    """
    edits = arguments.edits or ["kfac"]
    check_model(arguments, edits)
    chosen = device(arguments.device)
    quiet()
    editor, steps = _editor(arguments, edits, chosen)
    store, curvature = editor.curvature.store, editor.curvature
    imported: dict[Path, tuple[dict[str, str | int], str, lazy.factors.Factors]] = {}
    for edit in steps:
        shapes = {target: target.matrix(editor.loaded.model).shape for target in editor.matrices(edit)}
        named = curvature.arguments(edit)
        if named.get("statistic") == "ekfac":
            raise UserError(f"'{edit.spec}' needs more than the file holds: expected an edit by K-FAC's factors")
        for target, factors in lazy.reference.read(arguments.file, shapes).items():
            path_ = store.path(named, target.name)
            if path_.exists():
                raise UserError(f"{path_} is there already: expected none, prune it first")
            wanted = factors.diagonal() if named.get("statistic") == "aaT_diag" else factors
            imported[path_] = (named, target.name, wanted)
    for each in imported.values():
        store.save(*each)
    _print_used(editor, steps)
    return 0


def _editor(
    arguments: argparse.Namespace, edits: Sequence[str], chosen: str
) -> tuple[lazy.editing.ModelEditor, list[Any]]:
    """The loaded model's editor, and those steps of the edits that need factors.

    Raises:
        UserError: no step needs factors.
    """
    entry = model_entry(arguments)
    loaded = lazy.loading.load(entry, device=chosen, dtype=arguments.dtype, parallelize=arguments.parallelize)
    editor = lazy.editing.ModelEditor(loaded, arguments.factor_tokens)
    steps: list[Any] = [step for text in edits for step in editor.chain(text) if step.statistic]
    if not steps:
        raise UserError(f"{' '.join(edits)} needs no factors: expected an edit that does, such as kfac")
    return editor, steps


def _print_used(editor: lazy.editing.ModelEditor, steps: Sequence[Any]) -> None:
    """Print the files of the factors that the steps use."""
    store = editor.curvature.store
    paths = {
        store.path(editor.curvature.arguments(edit), target.name) for edit in steps for target in editor.matrices(edit)
    }
    print("\n".join(map(str, sorted(paths))))


def show_all(_: argparse.Namespace) -> int:
    """Run ``memsplit factors list``."""
    store = _store()
    if not store.entries() and not store.orphans():
        print(f"nothing in {store.folder}")
    for entry in store.entries():
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        a = entry.arguments
        of = "damaged"
        if a:
            what = f"{a.get('statistic', 'kfac')}, {_drawn(a)}{a['tokens']} tokens of {a['corpus']}"
            of = f"weights {str(a['weights'])[:12]}  {what}"
        size = f"{entry.nbytes / 1e6:9.1f} MB  {len(entry.files):3} matrices"
        print(f"{entry.id[:12]}  {used}  {size}  {of}")
    for orphan in store.orphans():
        print(f"{orphan.name}: {orphan.stat().st_size / 1e6:.1f} MB of a killed command")
    return 0


def _size(factors: lazy.factors.Factors) -> str:
    """The matrix's shape and its curvature mass, or its inputs where there are no gradients."""
    if "ggT" not in factors.moments:
        return f"{len(factors.aaT_diag)} inputs"
    mass = float(factors.aaT.trace().double() * factors.ggT.trace().double())
    return f"{len(factors.ggT)} x {len(factors.aaT)}, mass {mass:.4g}"


def _drawn(arguments: Mapping[str, str | int]) -> str:
    """The labels, for a line of the list; nothing where there are no gradients."""
    if "labels" not in arguments:
        return ""
    draws, seed = arguments.get("draws", 1), arguments.get("seed", 0)
    return f"{arguments['labels']} labels{f' x {draws}' if draws != 1 else ''}{f' of seed {seed}' if seed else ''}, "


def show(arguments: argparse.Namespace) -> int:
    """Run ``memsplit factors show``."""
    store = _store()
    for entry in _chosen(store, arguments.ids) if arguments.ids else store.entries():
        print(f"{entry.id}")
        for key, value in sorted(entry.arguments.items()):
            print(f"    {key}: {value}")
        for matrix, file in entry.files.items():
            try:
                factors, _ = lazy.store.read(file)
            except UserError as error:
                print(f"    {matrix}: {error}")
                continue
            imported = f", imported from {factors.imported[:12]}" if factors.imported else ""
            errors = "".join(f", standard error of {name} {error:.1%}" for name, error in factors.errors.items())
            print(f"    {matrix}: {_size(factors)}, {factors.tokens} positions{errors}{imported}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Run ``memsplit factors verify``; the exit code is 1 where a file is damaged."""
    store = _store()
    any_damaged = False
    for entry in _chosen(store, arguments.ids) if arguments.ids else store.entries():
        damaged = dict(store.damaged(entry))
        any_damaged = any_damaged or bool(damaged)
        for matrix in entry.files:
            print(f"{entry.id[:12]}  {matrix}: {damaged.get(matrix, 'whole')}")
    return int(any_damaged)


def prune(arguments: argparse.Namespace) -> int:
    """Run ``memsplit factors prune``."""
    if not (arguments.ids or arguments.older_than or arguments.partial or arguments.all):
        raise UserError("nothing to prune: expected ID, --older-than DAYS, --partial or --all")
    store = _store()
    entries = _chosen(store, arguments.ids)
    if arguments.all or arguments.older_than:
        before = time.time() - (arguments.older_than or 0) * DAY_S
        entries += [e for e in store.entries() if (arguments.all or e.used < before) and e not in entries]
    verb = "would delete" if arguments.dry_run else "deleted"
    for entry in entries:
        size = entry.nbytes
        if not arguments.dry_run:
            store.remove(entry)
        print(f"{verb} {entry.id[:12]} ({size / 1e6:.1f} MB)")
    for orphan in store.orphans() if arguments.partial or arguments.all else ():
        if not arguments.dry_run:
            orphan.unlink()
        print(f"{verb} {orphan.name}")
    return 0


def _store() -> lazy.store.FactorStore:
    """The store of the cache folder."""
    return lazy.store.FactorStore(cache.folder() / "factors")


def _chosen(store: lazy.store.FactorStore, ids: Sequence[str]) -> list[lazy.store.Entry]:
    """The entries whose ids begin with these texts, one for each text.

    Raises:
        UserError: no id begins so, or several do.
    """
    entries = store.entries()
    chosen = []
    for text in ids:
        matching = [entry for entry in entries if entry.id.startswith(text)]
        if not matching or not text:
            raise unknown("entry", text, [entry.id[:12] for entry in entries])
        if len(matching) > 1:
            raise UserError(f"{text!r} begins the ids of {len(matching)} entries: expected one")
        chosen += [entry for entry in matching if entry not in chosen]
    return chosen
