"""Rivers: a suite of lm-eval tasks and a pack of facts for memsplit."""

from __future__ import annotations

from pathlib import Path

TASKS = Path(__file__).parent / "tasks"
"""Named by the entry point ``memsplit.tasks``: a folder with lm-eval's YAML."""
PACK = Path(__file__).parent / "pack"
"""Named by the entry point ``memsplit.packs``: a folder with a pack's files."""
