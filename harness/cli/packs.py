"""``memsplit pack``: show what a pack of probe data holds, and check it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ...tasks import pack_check, packs
from ...tasks.pack_check import Problem, Rows
from ..common.runtime import quiet
from ..models import model_table
from ..models.token_ids import context_length, length, moved_note, validation_errors
from . import lazy
from .parser import Parser

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
    entry = model_table.resolve(arguments.model) if arguments.model is not None else None
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
    vocabulary, context = config.get_text_config().vocab_size, context_length(config)
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


def _find(name: str) -> tuple[tuple[Path, ...], dict[str, Path]]:
    """The folders of a pack and its files by kind; for the path of one file, no folder and that file."""
    if Path(name).is_file():
        return (), {pack_check.kind_of(Path(name)): Path(name)}
    pack = packs.find(name)
    paths = {kind: pack.path(kind) for kind in packs.FIELDS if pack.has(kind)}
    return pack.folders, {kind: path for kind, path in paths.items() if path.stem == kind}
