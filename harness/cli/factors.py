"""``memsplit factors``: curvature ahead of time, and the cache that keeps it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError, unknown
from ..common import cache
from .arguments import SPEC, Parser, add_model, check_model, device, init_distributed, path, positive, quiet

if TYPE_CHECKING:
    from ...model_edits.curvature.factors import Factors
    from ...model_edits.curvature.store import Entry, FactorStore
    from ..evaluation.editing import ModelEditor

DAY_S = 86400


def add(commands: Any) -> None:
    """Declare the commands."""
    factors = commands.add_parser("factors", help="curvature factors: collect, import, list, show, verify, prune")
    actions = factors.add_subparsers(required=True, parser_class=Parser, metavar="ACTION")

    def action(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
        parser.set_defaults(command=command)
        return parser

    for name, command, text in (
        ("collect", collect, "collect what edits need, ahead of time; in several processes under accelerate launch"),
        ("import", import_file, "take factors from the reference implementation's file, as if collected here"),
    ):
        parser = action(name, command, text)
        add_model(parser)
        if name == "import":
            parser.add_argument("file", type=path, metavar="FILE", help="kfac_factors_blk_….pt")
        parser.add_argument(
            "--edit", dest="edits", action="append", default=[], metavar="SPEC", help=f"{SPEC} (default: kfac)"
        )
    action("list", show_all, "what the cache holds, the last used first")
    for name, command, text in (
        ("show", show, "an entry's arguments and matrices"),
        ("verify", verify, "read every byte and say what is damaged; exit code 1 if anything is"),
    ):
        action(name, command, text).add_argument(
            "ids", nargs="*", metavar="ID", help="how its id begins (default: all)"
        )
    prune_ = action("prune", prune, "delete entries")
    prune_.add_argument("ids", nargs="*", metavar="ID", help="how its id begins")
    prune_.add_argument("--older-than", type=positive, metavar="DAYS", help="those not used for so long")
    prune_.add_argument("--partial", action="store_true", help="what killed commands left")
    prune_.add_argument("--all", action="store_true", help="everything")
    prune_.add_argument("--dry-run", action="store_true", help="say what would be deleted, and stop")


def collect(arguments: argparse.Namespace) -> int:
    """``memsplit factors collect``."""
    edits = arguments.edits or ["kfac"]
    check_model(arguments, edits)
    chosen = device(arguments.device)
    quiet()
    chosen = init_distributed(chosen, parallelize=arguments.parallelize)
    editor, steps = _editor(arguments, edits, chosen)
    editor.collect_missing(steps)
    from ...model_edits.curvature.sums import rank_and_world

    if rank_and_world()[0] == 0:
        _print_used(editor, steps)
    return 0


def import_file(arguments: argparse.Namespace) -> int:
    """``memsplit factors import``."""
    edits = arguments.edits or ["kfac"]
    check_model(arguments, edits)
    chosen = device(arguments.device)
    quiet()
    from ...model_edits.curvature.reference import read

    editor, steps = _editor(arguments, edits, chosen)
    store, curvature = editor.curvature.store, editor.curvature
    imported: dict[Path, tuple[dict[str, str | int], str, Factors]] = {}
    for edit in steps:
        found = {target: target.matrix(editor.loaded.model).shape for target in editor.matrices(edit)}
        named = curvature.arguments(edit)
        if named.get("statistic") == "ekfac":
            raise UserError(f"'{edit.spec}' needs more than the file holds: expected an edit by K-FAC's factors")
        for target, factors in read(arguments.file, found).items():
            path_ = store.path(named, target.name)
            if path_.exists():
                raise UserError(f"{path_} is there already: expected none, prune it first")
            wanted = factors.diagonal() if named.get("statistic") == "aaT_diag" else factors
            imported[path_] = (named, target.name, wanted)
    for each in imported.values():
        store.save(*each)
    _print_used(editor, steps)
    return 0


def _editor(arguments: argparse.Namespace, edits: Sequence[str], chosen: str) -> tuple[ModelEditor, list[Any]]:
    """The loaded model's editor, and those steps of the edits that need factors."""
    from ..evaluation.editing import ModelEditor
    from ..models import loading, model_table

    entry = model_table.resolve(arguments.model, arguments.pack, arguments.corpus)
    loaded = loading.load(entry, device=chosen, dtype=arguments.dtype, parallelize=arguments.parallelize)
    editor = ModelEditor(loaded, arguments.factor_tokens)
    steps = [step for text in edits for step in editor.chain(text) if step.statistic]
    if not steps:
        raise UserError(f"{' '.join(edits)} needs no factors: expected an edit that does, such as kfac")
    return editor, steps


def _print_used(editor: ModelEditor, steps: Sequence[Any]) -> None:
    store = editor.curvature.store
    paths = {
        store.path(editor.curvature.arguments(edit), target.name) for edit in steps for target in editor.matrices(edit)
    }
    print("\n".join(map(str, sorted(paths))))


def show_all(_: argparse.Namespace) -> int:
    """``memsplit factors list``."""
    store = _store()
    if not store.entries() and not store.orphans():
        print(f"nothing in {store.folder}")
    for entry in store.entries():
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        a = entry.arguments
        of = "damaged"
        if a:
            what = f"{a.get('statistic', 'kfac')}, {a['labels']} labels, {a['tokens']} tokens of {a['corpus']}"
            of = f"weights {str(a['weights'])[:12]}  {what}"
        size = f"{entry.nbytes / 1e6:9.1f} MB  {len(entry.files):3} matrices"
        print(f"{entry.id[:12]}  {used}  {size}  {of}")
    for orphan in store.orphans():
        print(f"{orphan.name}: {orphan.stat().st_size / 1e6:.1f} MB of a killed command")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """``memsplit factors show``."""
    from ...model_edits.curvature.store import read

    store = _store()
    for entry in _chosen(store, arguments.ids) if arguments.ids else store.entries():
        print(f"{entry.id}")
        for key, value in sorted(entry.arguments.items()):
            print(f"    {key}: {value}")
        for matrix, file in entry.files.items():
            try:
                factors, _ = read(file)
            except UserError as error:
                print(f"    {matrix}: {error}")
                continue
            shape = f"{len(factors.ggT)} x {len(factors.aaT)}"
            mass = float(factors.aaT.trace().double() * factors.ggT.trace().double())
            imported = f", imported from {factors.imported[:12]}" if factors.imported else ""
            print(f"    {matrix}: {shape}, {factors.tokens} positions, mass {mass:.4g}{imported}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """``memsplit factors verify``."""
    store = _store()
    found = False
    for entry in _chosen(store, arguments.ids) if arguments.ids else store.entries():
        damaged = dict(store.damaged(entry))
        found = found or bool(damaged)
        for matrix in entry.files:
            print(f"{entry.id[:12]}  {matrix}: {damaged.get(matrix, 'whole')}")
    return int(found)


def prune(arguments: argparse.Namespace) -> int:
    """``memsplit factors prune``."""
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


def _store() -> FactorStore:
    from ...model_edits.curvature.store import FactorStore

    return FactorStore(cache.folder() / "factors")


def _chosen(store: FactorStore, ids: Sequence[str]) -> list[Entry]:
    """The entries whose ids begin so.

    Raises:
        UserError: none does, or several do.
    """
    entries = store.entries()
    chosen = []
    for text in ids:
        found = [entry for entry in entries if entry.id.startswith(text)]
        if not found or not text:
            raise unknown("entry", text, [entry.id[:12] for entry in entries])
        if len(found) > 1:
            raise UserError(f"{text!r} begins the ids of {len(found)} entries: expected one")
        chosen += [entry for entry in found if entry not in chosen]
    return chosen
