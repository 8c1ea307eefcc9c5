"""``memsplit runs``: list, show, remove and verify records."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...results.records.encoding import plain
from ...results.records.store import DEFAULT, RecordFilter, Store
from .arguments import Parser, path

if TYPE_CHECKING:
    from ...results.records.record import Record


def add(commands: Any) -> None:
    """Declare the command and its actions."""
    runs = commands.add_parser("runs", help="list, show, remove and verify records", description="Records of a folder.")
    actions = runs.add_subparsers(required=True, parser_class=Parser, metavar="ACTION")
    words = {
        "list": (show_all, "one line a record, oldest first"),
        "show": (show, "a record's settings and figures"),
        "remove": (remove, "delete records"),
        "verify": (verify, "check every record against its hashes; exit code 1 where one is damaged"),
    }
    for name, (command, text) in words.items():
        parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        parser.set_defaults(command=command)
        add_store(parser)
        if name in ("show", "remove"):
            parser.add_argument("names", nargs="*" if name == "remove" else "+", metavar="RECORD", help=NAME)
        if name in ("list", "remove"):
            add_wanted(parser)
        if name in ("list", "show"):
            parser.add_argument("--json", action="store_true", help="print one JSON array")
        if name == "show":
            parser.add_argument("--all-metrics", action="store_true", help="every metric of recitation")
        if name == "remove":
            parser.add_argument("--partial", action="store_true", help="what killed commands left an hour ago or more")
            parser.add_argument("--all", action="store_true", help="all records")
            parser.add_argument("--dry-run", action="store_true", help="say what would be deleted")


RECENT_S = 3600
"""What a writer may still be at work on."""
NAME = "a record's file, its id or the hash in it, how one of these begins, or its spec"


def add_store(parser: argparse.ArgumentParser) -> None:
    """The folder of records."""
    parser.add_argument(
        "--store", type=path, default=DEFAULT, metavar="FOLDER", help="where the records are (default: %(default)s)"
    )


def add_wanted(parser: argparse.ArgumentParser) -> None:
    """Options that choose records."""
    add = parser.add_argument
    add("--model", metavar="NAME", help="only those of this model; * and ? stand for anything")
    add("--edit", metavar="SPEC", help="only those whose spec begins so; * and ? stand for anything")
    add("--suite", metavar="NAME", help="only those of this suite")
    add("--split", metavar="PART", help="only those of this part: dev or test")
    add("--fingerprint", metavar="HASH", help="only those that asked this: as the fingerprint begins")


def wanted(arguments: argparse.Namespace) -> RecordFilter:
    """What :func:`add_wanted`'s options choose."""
    return RecordFilter(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(RecordFilter)})


def show_all(arguments: argparse.Namespace) -> int:
    """``memsplit runs list``."""
    readable, problems = Store(arguments.store).readable()
    records = [found for found in readable if wanted(arguments).matches(found)]
    for problem in problems.values():
        print(f"memsplit: {problem}", file=sys.stderr)
    if arguments.json:
        print(json.dumps([_brief(found) for found in records], allow_nan=False))
        return 0
    if not records:
        print(f"no records in {arguments.store}" + (" that fit" if Store(arguments.store).paths() else ""))
    for found in records:
        about = _brief(found)
        split = about["split"] + (f" [:{about['limit']}]" if about["limit"] else "")
        scores = "  ".join(
            f"{word} {'-' if value is None else format(value, '.3f')}"
            for word, value in (("removed", about["recitation_removed"]), ("kept", about["logic_kept"]))
        )
        when = about["created"][:16].replace("T", " ")
        print(
            f"{found.id.rpartition('-')[2]}  {when}  {about['suite']}/{split}  {scores}  {about['model']}  {found.spec}"
        )
    return 0


def _brief(found: Record) -> dict[str, Any]:
    content = found.content
    value = {name: interval.value for name, interval in found.summary.items()}
    brief: dict[str, Any] = plain(
        {
            "id": found.id,
            "path": str(found.path),
            **{key: getattr(content, key) for key in ("created", "model", "spec", "suite", "fingerprint", "control")},
            **{key: getattr(content.arguments, key) for key in ("split", "limit")},
            **{key: value.get(key) for key in ("recitation_removed", "logic_kept", "split_score", "perplexity_ratio")},
        }
    )
    return brief


def show(arguments: argparse.Namespace) -> int:
    """``memsplit runs show``."""
    store = Store(arguments.store)
    records = [store.find(name) for name in arguments.names]
    for found in records:
        found.verify()
    if arguments.json:
        print(json.dumps([found.to_json() for found in records], allow_nan=False))
        return 0
    from ...results.views import terminal

    console = terminal.console()
    for found in records:
        console.print("\n".join(_settings(found)), soft_wrap=True)
        title = f"{found.content.model}  {found.spec}"
        console.print(terminal.comparison(title, found.changes, found.summary, all_metrics=arguments.all_metrics))
        if found.content.risk.base.discoverable:
            console.print(terminal.risk(found.content.risk))
    return 0


def _settings(found: Record) -> list[str]:
    content = found.content
    seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in content.seconds.items())
    matrices = [f"    {m.name}: {m.kept} of {m.total}, {m.removed_norm:.4f}" for m in content.matrices]
    return [
        f"id: {found.id}",
        f"created: {content.created}",
        f"command: {content.command or 'not recorded'}",
        f"weights: {content.weights}",
        f"edited weights: {content.edited_weights}",
        f"suite: {content.suite} ({content.fingerprint})",
        *[f"    {name}: {task.n} items" for name, task in content.tasks.items()],
        f"seconds: {seconds}",
        f"versions: {', '.join(f'{name} {version}' for name, version in content.versions.items())}",
        "matrices: components kept, norm removed of the matrix's",
        *matrices,
        "",
    ]


def remove(arguments: argparse.Namespace) -> int:
    """``memsplit runs remove``."""
    store, chosen = Store(arguments.store), wanted(arguments)
    filtered = chosen != RecordFilter()
    if not (arguments.names or filtered or arguments.partial or arguments.all):
        raise UserError("nothing to remove: expected RECORD, --model, --edit, --suite, --split, --partial or --all")
    if arguments.all and (arguments.names or filtered):
        raise UserError("--all removes every record: expected it alone, or what to remove")
    by_name = {path.stem: path for path in store.paths()}  # which removes damaged ones, too
    found = [by_name[name] if name in by_name else store.find(name).path for name in arguments.names]
    if filtered:
        found += [entry.path for entry in store.readable()[0] if chosen.matches(entry)]
    if arguments.all:
        found = store.paths()
    verb = "would delete" if arguments.dry_run else "deleted"
    for file in dict.fromkeys(found):
        if not arguments.dry_run:
            store.remove(file)
        print(f"{verb} {file.stem}")
    for orphan in store.orphans(RECENT_S) if arguments.partial else ():
        if not arguments.dry_run:
            orphan.unlink(missing_ok=True)
        print(f"{verb} {orphan.name}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """``memsplit runs verify``."""
    store = Store(arguments.store)
    code = 0
    for file, whole, text in store.verify():
        code = code or int(not whole)
        print(f"{file.stem}: {text}")
    for orphan in store.orphans():
        print(f"{orphan.name}: of no record; --partial removes it")
    return code
