"""``memsplit pack``: show what a pack of probe data holds, check it, and make one of other files."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ....model_edits.architecture.context import context_length
from ....results.records import record
from ....tasks import pack_check, packs
from ....tasks.pack_check import Problem, Rows
from ...common.runtime import quiet
from ...models import model_table
from ...models.token_ids import length, moved_note, validation_errors
from .. import lazy, row_options
from ..arguments import add_source, model_entry, path, seed
from ..parser import Parser

_IDS = ("prefix_ids", "suffix_ids", "ids")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = parser.add_subparsers(required=True, parser_class=Parser, metavar="ACTION")
    for name, command, text in (
        ("show", show, "show what a pack holds, and where it is from"),
        (
            "check",
            check,
            "check every line of a pack, and look for passages where none should be; exit code 1 if anything is wrong",
        ),
    ):
        action = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
        action.add_argument(
            "pack", metavar="PACK", help="a pack's name, its folder, several joined by +, or one .jsonl file of it"
        )
        action.set_defaults(run=command)
        if name == "show":
            action.add_argument("--json", action="store_true", help="print one JSON object")
        else:
            action.add_argument(
                "--model", metavar="NAME", help="check too that the ids spell the texts, and fit this model"
            )
            add_source(action)
    text = "make files of a pack of other files: with ids, splits and the cut made where they lack"
    _add_import(actions.add_parser("import", help=text, description=f"{text.capitalize()}."))


def show(arguments: argparse.Namespace) -> int:
    """Run ``memsplit pack show``."""
    folders, paths = _find(arguments.pack)
    about: list[dict[str, Any]] = [
        {"folder": str(folder), **msgspec.structs.asdict(packs.manifest(folder))} for folder in folders
    ]
    held = {kind: _held(kind, path) for kind, path in paths.items()}
    if arguments.json:
        print(json.dumps({"pack": arguments.pack, "folders": about, "files": held}, ensure_ascii=False))
        return 0
    for facts in about:
        print(facts["folder"])
        for name, value in facts.items():
            if value and name not in ("folder", "provenance"):
                print(f"    {name}: {value if isinstance(value, str) else ', '.join(value)}")
        for name, value in facts["provenance"].items():
            print(f"    {name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    for kind, counts in held.items():
        parts = [f"{counts['lines']} lines", *(f"{n} {split}" for split, n in counts["splits"].items())]
        for name, (least, most) in counts["ids"].items():
            parts.append(f"{least if least == most else f'{least} to {most}'} {name}")
        if counts["without_text"]:
            parts.append(f"{counts['without_text']} without text")
        print(f"{kind + '.jsonl':<20}{', '.join(parts)}")
    return 0


def _held(kind: str, path: Path) -> dict[str, Any]:
    """What a file of a pack holds: its lines, those of each split, and the least and most ids of each field."""
    rows = packs.Pack((path.parent,)).rows(kind)
    lengths = {name: [len(row[name]) for row in rows if name in row] for name in _IDS}
    splits = Counter(row["split"] for row in rows if "split" in row)
    return {
        "path": str(path),
        "lines": len(rows),
        "splits": {split: splits[split] for split in packs.SPLITS if splits[split]},
        "ids": {name: [min(counts), max(counts)] for name, counts in lengths.items() if counts},
        "without_text": sum(row.get("prefix_text") == "" for row in rows),
    }


def check(arguments: argparse.Namespace) -> int:
    """Run ``memsplit pack check``; the exit code is 1 where anything is wrong."""
    entry = model_entry(arguments) if arguments.model is not None else None
    folders, paths = _find(arguments.pack)
    notes: list[str] = []
    good, problems = pack_check.read(paths)
    problems += pack_check.problems(paths, good)
    problems += [problem for folder in folders for problem in pack_check.folder_problems(folder)]
    if entry is not None:
        quiet()
        found, notes = _of_model(entry, paths, good)
        problems += found
    clean = f"nothing is wrong with {sum(map(len, good.values()))} lines of {len(good)} files"
    print("\n".join([*map(str, sorted(problems)), *([] if problems else [clean]), *notes]))
    return int(bool(problems))


def _of_model(
    entry: model_table.ModelEntry, paths: Mapping[str, Path], good: Mapping[str, Rows]
) -> tuple[list[Problem], list[str]]:
    """Lines whose ids or length do not suit a model, and a note on each file with passages that are cut elsewhere.

    Only the model's tokenizer and configuration are loaded.
    """
    loading = lazy.loading
    tokenizer, config = loading.load_tokenizer(entry), loading.load_config(entry)
    vocabulary = config.get_text_config().vocab_size
    context = context_length(config, loading.load_skeleton(entry, config))
    problems, notes = [], []
    for kind in (kind for kind in (*packs.PASSAGES, "clean") if good.get(kind)):
        for number, row in good[kind]:
            faults = list(validation_errors(row, kind, entry.name, tokenizer, vocabulary))
            tokens = length(row, kind, tokenizer)
            if context is not None and tokens > context:
                faults.append(f"has {tokens} tokens, which is left out: the context of {entry.name} is {context}")
            problems += [Problem(path=paths[kind], line=number, what=fault) for fault in faults]
        notes.append(moved_note(kind, [row for _, row in good[kind]], tokenizer))
    return problems, [note for note in notes if note]


def _add_import(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        type=path,
        metavar="FILE",
        help="rows, as .jsonl, .json, .csv, .parquet, .npy, or a folder; several make one file of the pack",
    )
    add("--out", type=path, required=True, metavar="FOLDER", help="the pack, new or with other files in it")
    add(
        "--as", dest="kind", metavar="KIND", help="memorized, twins, clean, facts_closed, … (default: as the rows look)"
    )
    add("--model", metavar="NAME", help="cut by this model's tokens, not by words, and spell ids that have no text")
    add_source(parser)
    row_options.add(parser, "tokens or words")
    add("--seed", type=seed, default=0, help="of the split and of choices (default: %(default)s)")
    add("--force", action="store_true", help="replace files of the pack that are there")
    add("--json", action="store_true", help="print one JSON object instead of lines")
    parser.set_defaults(run=import_files)


def import_files(arguments: argparse.Namespace) -> int:
    """Run ``memsplit pack import``; the exit code is 1 where a part got no row."""
    places, splitting = row_options.given(arguments)
    kind = row_options.one_of("kind", arguments.kind, packs.FIELDS)
    entry = model_entry(arguments) if arguments.model is not None else None
    record.check_writable(arguments.out)
    tokenizer = None
    if entry is not None:
        quiet()
        tokenizer = lazy.loading.load_tokenizer(entry)
    given = ("files", "out", "prefix", "suffix", "force")
    request = lazy.pack_import.ImportRequest(
        **{name: getattr(arguments, name) for name in given}, kind=kind, places=places, splitting=splitting
    )
    report = lazy.pack_import.run(request, tokenizer, entry.name if entry is not None else "")
    lacking = [
        f"no row of {name}.jsonl in the part {part!r}"
        for name, counts in report.files.items()
        for part in (packs.SPLITS if name != "corpus" else ())
        if part not in counts
    ]
    print("\n".join(lacking), file=sys.stderr, end="\n" if lacking else "")
    if arguments.json:
        print(json.dumps({**vars(report), "lacking": lacking}))
    else:
        for name, counts in report.files.items():
            print(f"{name + '.jsonl':<20}{', '.join(f'{counts[part]} {part}' for part in sorted(counts))}")
        for reason, count in report.left_out.items():
            print(f"left out: {count} {reason}")
        print(f"pack: {report.pack}\ncheck: memsplit pack check {report.pack}")
    return int(bool(lacking))


def _find(name: str) -> tuple[tuple[Path, ...], dict[str, Path]]:
    """The folders of a pack and its files by kind; for the path of one file, no folder and that file."""
    if Path(name).is_file():
        return (), {pack_check.kind_of(Path(name)): Path(name)}
    pack = packs.find(name)
    paths = {kind: pack.path(kind) for kind in packs.FIELDS if pack.has(kind)}
    return pack.folders, {kind: path for kind, path in paths.items() if path.stem == kind}
