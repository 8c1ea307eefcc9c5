"""``memsplit runs``: list, show, remove, verify and migrate records."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from ....errors import UserError
from ....results.records.encoding import plain
from ....results.records.record import Record
from ....results.records.store import DEFAULT, RecordFilter, Store
from .. import lazy
from ..arguments import path
from ..parser import Parser

RECENT_S = 3600
"""Age in seconds up to which a file without a record may be one that a command is still writing."""
LISTED = (
    *("recitation_removed", "logic_kept", "split_score", "perplexity_ratio"),
    *("erased", "stays_erased", "reasoning_kept", "knowledge_kept", "fluency_kept"),
)
"""The summary metrics of a record in the listing."""
NAME = "a record's file, its id or the hash in it, how one of these begins, or its spec"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    parser.description = "List, show, remove, verify and migrate the records of a folder."
    actions = parser.add_subparsers(required=True, parser_class=Parser, metavar="ACTION")
    words = {
        "list": (show_all, "list the records, oldest first, one on each line"),
        "show": (show, "show a record's settings and figures"),
        "remove": (remove, "delete records"),
        "verify": (verify, "check every record against its hashes; exit code 1 where one is damaged"),
        "migrate": (migrate, "write the records of earlier versions anew, with the figures that their items allow"),
    }
    for name, (command, text) in words.items():
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.set_defaults(run=command)
        add_store(action)
        if name in ("show", "remove"):
            action.add_argument("names", nargs="*" if name == "remove" else "+", metavar="RECORD", help=NAME)
        if name in ("list", "remove"):
            add_wanted(action)
        if name in ("list", "show"):
            action.add_argument("--json", action="store_true", help="print one JSON array")
        if name == "show":
            action.add_argument("--all-metrics", action="store_true", help="show every metric of recitation")
        if name == "remove":
            action.add_argument(
                "--partial", action="store_true", help="delete what killed commands left an hour ago or more"
            )
            action.add_argument("--all", action="store_true", help="delete all records")
            action.add_argument("--dry-run", action="store_true", help="say what would be deleted")


def add_store(parser: argparse.ArgumentParser) -> None:
    """Declare ``--store``, the folder of records."""
    parser.add_argument(
        "--store", type=path, default=DEFAULT, metavar="FOLDER", help="where the records are (default: %(default)s)"
    )


def add_wanted(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose records."""
    add = parser.add_argument
    add("--model", metavar="NAME", help="only those of this model; * and ? stand for anything")
    add("--edit", metavar="SPEC", help="only those whose spec begins so; * and ? stand for anything")
    add("--suite", metavar="NAME", help="only those of this suite")
    add("--split", metavar="PART", help="only those of this part: dev or test")
    add("--fingerprint", metavar="HASH", help="only those whose fingerprint begins so")


def wanted(arguments: argparse.Namespace) -> RecordFilter:
    """The filter that the options of :func:`add_wanted` make."""
    return RecordFilter(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(RecordFilter)})


def show_all(arguments: argparse.Namespace) -> int:
    """Run ``memsplit runs list``."""
    readable, problems = Store(arguments.store).readable()
    records = [record for record in readable if wanted(arguments).matches(record)]
    for problem in problems.values():
        print(f"memsplit: {problem}", file=sys.stderr)
    if arguments.json:
        print(json.dumps([_brief(record) for record in records], allow_nan=False))
        return 0
    if not records:
        print(f"no records in {arguments.store}" + (" that fit" if Store(arguments.store).paths() else ""))
    for record in records:
        about = _brief(record)
        split = about["split"] + (f" [:{about['limit']}]" if about["limit"] else "")
        scores = "  ".join(
            f"{word} {'-' if value is None else format(value, '.3f')}"
            for word, value in (
                ("split", about["split_score"]),
                ("erased", about["erased"]),
                ("kept", about["reasoning_kept"]),
            )
        )
        when = about["created"][:16].replace("T", " ")
        name, where = record.id.rpartition("-")[2], f"{about['suite']}/{split}"
        print(f"{name}  {when}  {where}  {scores}  {about['model']}  {record.spec}")
    return 0


def _brief(record: Record) -> dict[str, Any]:
    """The object of a record in the array of ``--json``."""
    content = record.content
    value = {name: interval.value for name, interval in record.summary.items()}
    brief: dict[str, Any] = plain(
        {
            "id": record.id,
            "path": str(record.path),
            **{key: getattr(content, key) for key in ("created", "model", "spec", "suite", "fingerprint", "control")},
            **{key: getattr(content.arguments, key) for key in ("split", "limit")},
            **{key: value.get(key) for key in LISTED},
        }
    )
    return brief


def show(arguments: argparse.Namespace) -> int:
    """Run ``memsplit runs show``."""
    store = Store(arguments.store)
    records = [store.find(name) for name in arguments.names]
    for record in records:
        record.verify()
    if arguments.json:
        print(json.dumps([record.to_json() for record in records], allow_nan=False))
        return 0
    terminal = lazy.terminal
    console = terminal.console()
    for record in records:
        console.print("\n".join(_settings(record)), soft_wrap=True)
        title = f"{record.content.model}  {record.spec}"
        console.print(terminal.comparison(title, record.changes, record.summary, all_metrics=arguments.all_metrics))
        for table in terminal.memory(record):
            console.print(table)
        if record.content.risk.base.discoverable:
            console.print(terminal.risk(record.content.risk))
    return 0


def _settings(record: Record) -> list[str]:
    """The lines above a record's table of figures."""
    content = record.content
    seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in content.seconds.items())
    matrices = [f"    {m.name}: {m.kept} of {m.total}, {m.removed_norm:.4f}" for m in content.matrices]
    return [
        f"id: {record.id}",
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
    """Run ``memsplit runs remove``."""
    store, chosen = Store(arguments.store), wanted(arguments)
    filtered = chosen != RecordFilter()
    if not (arguments.names or filtered or arguments.partial or arguments.all):
        raise UserError("nothing to remove: expected RECORD, --model, --edit, --suite, --split, --partial or --all")
    if arguments.all and (arguments.names or filtered):
        raise UserError("--all removes every record: expected it alone, or what to remove")
    by_name = {path.stem: path for path in store.paths()}  # which removes damaged ones, too
    paths = [by_name[name] if name in by_name else store.find(name).path for name in arguments.names]
    if filtered:
        paths += [entry.path for entry in store.readable()[0] if chosen.matches(entry)]
    if arguments.all:
        paths = store.paths()
    verb = "would delete" if arguments.dry_run else "deleted"
    for file in dict.fromkeys(paths):
        if not arguments.dry_run:
            store.remove(file)
        print(f"{verb} {file.stem}")
    for orphan in store.orphans(RECENT_S) if arguments.partial else ():
        if not arguments.dry_run:
            orphan.unlink(missing_ok=True)
        print(f"{verb} {orphan.name}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Run ``memsplit runs verify``; the exit code is 1 where a record is damaged."""
    store = Store(arguments.store)
    code = 0
    for file, whole, text in store.verify():
        code = code or int(not whole)
        print(f"{file.stem}: {text}")
    for orphan in store.orphans():
        print(f"{orphan.name}: of no record; --partial removes it")
    return code


def migrate(arguments: argparse.Namespace) -> int:
    """Run ``memsplit runs migrate``; records that cannot be read are named and left as they are, with exit code 1."""
    store = Store(arguments.store)
    readable, problems = store.readable()
    for problem in problems.values():
        print(f"memsplit: {problem}", file=sys.stderr)
    if not readable:
        print(f"no records in {arguments.store}")
    for old in readable:
        new, unknown = lazy.migrate.migrate(store, old)
        done = "as it was" if new.id == old.id else f"now {new.id}"
        print(f"{old.id}: {done}{f' ({unknown})' if unknown else ''}")
    return int(bool(problems))
