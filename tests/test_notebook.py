"""The notebook of the docs runs from top to bottom, offline."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient


def test_the_notebook_runs_from_top_to_bottom(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSPLIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(root / "docs" / "notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    done = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    tables = [output for output in outputs if "text/html" in output.get("data", {})]
    assert tables, "a report shows itself as a table"
    bars = [line for output in outputs if output.output_type == "stream" for line in output.text.splitlines()]
    assert not [line for line in bars if "it/s" in line and "scoring" not in line and "curvature" not in line], bars
