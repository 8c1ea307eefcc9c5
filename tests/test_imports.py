"""Who may import whom, the public names, and what must answer without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "tasks": {"errors", "files"},
    "model_edits": {"errors", "files"},
    "results": {"errors", "files"},
    "harness": {"errors", "files", "tasks", "model_edits", "results"},
}
FOREIGN = {
    "tasks": {"torch", "transformers"},
    "model_edits": {"lm_eval"},
    "results": {"torch", "transformers", "lm_eval"},
}
WITHIN: dict[str, set[str]] = {
    "spec": set(),
    "targets": set(),
    "registry": {"spec", "targets", "methods"},
    "hashing": set(),
    "tensor_file": {"hashing"},
    "pretrained": set(),
    "delta_file": {"hashing", "tensor_file"},
    "reference": {"factors", "targets"},
    "selection": set(),
    "eigen": set(),
    "factors": {"eigen", "hashing", "selection"},
    "material": {"factors", "targets"},
    "sums": {"tensor_file"},
    "training": set(),
    "store": {"factors", "tensor_file"},
    "bands": {"factors", "selection"},
    "curvature": {"factors", "sums", "targets"},
    "apply": {"material", "registry"},
}


def imports(path: Path, root: Path) -> Iterator[tuple[str, str]]:
    """(top folder or package, first part below it) of every import in a file, those for types alone left out."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and getattr(guard.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    here = path.relative_to(root).with_suffix("").parts
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            yield node.module.split(".")[0], ""
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                full = [*base, alias.name]
                yield full[0], full[1] if len(full) > 1 else ""


def test_import_directions(root: Path) -> None:
    for folder, allowed in ALLOWED.items():
        files = [root / f"{folder}.py"] if folder in ("errors", "files") else sorted((root / folder).rglob("*.py"))
        assert files
        for path in files:
            used = {top for top, _ in imports(path, root)}
            assert used & set(ALLOWED) <= allowed | {folder}, path
            assert not used & FOREIGN.get(folder, set()), path


def test_model_edits_stand_on_one_another_in_order(root: Path) -> None:
    for name, allowed in WITHIN.items():
        used = {part for top, part in imports(root / "model_edits" / f"{name}.py", root) if top == "model_edits"}
        assert used <= allowed, name


@pytest.mark.parametrize(
    "module",
    [
        "harness.cli.main",
        "harness.models.model_table",
        "harness.cli.listings",
        "harness.evaluation.request",
        "model_edits.registry",
        "model_edits.methods",
        "tasks.suite",
    ],
)
def test_listings_never_import_torch(module: str) -> None:
    code = f"import sys, memsplit.{module}; sys.exit(bool({{'torch', 'lm_eval', 'pandas', 'datasets'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names() -> None:
    from memsplit.model_edits import registry

    assert sorted(registry.edits()) == [
        "bsn",
        "checkpoint",
        "delta",
        "ekfac",
        "finetune",
        "kfac",
        "magnitude",
        "none",
        "peft",
        "random",
        "svd",
        "wanda",
    ]
    assert sorted(registry.COMMON) == ["dial", "layers", "percent", "proj"]
