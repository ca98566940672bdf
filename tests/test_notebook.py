"""The quickstart notebook runs from top to bottom, and what is committed as its output is what it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "assets" / "notebooks" / "quickstart.ipynb"
SECONDS = 240  # for one cell, on a machine that is busy
PLOTLY = "application/vnd.plotly.v1+json"
NEEDED = "the notebook needs {}: install requirements-dev.txt"

Cells = list[dict[str, Any]]


def code(notebook: dict[str, Any]) -> Cells:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text(cell: dict[str, Any]) -> str:
    streams = [output["text"] for output in cell["outputs"] if output["output_type"] == "stream"]
    return "".join("".join(lines) for lines in streams)


def pictures(cell: dict[str, Any]) -> int:
    return sum(PLOTLY in output.get("data", {}) for output in cell["outputs"])


def test_the_committed_notebook_has_been_run() -> None:
    raw = NOTEBOOK.read_text(encoding="utf-8")
    cells = code(json.loads(raw))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
    assert sum(map(pictures, cells)) == 3
    assert not {word for word in ("/home/", "/tmp/", "/work", "/root/") if word in raw}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_runs_and_says_the_same() -> None:
    nbclient = pytest.importorskip("nbclient", reason=NEEDED.format("nbclient"))
    nbformat = pytest.importorskip("nbformat", reason=NEEDED.format("nbformat"))
    pytest.importorskip("ipykernel", reason=NEEDED.format("ipykernel"))
    committed = code(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=SECONDS, resources=where).execute()
    again = code(notebook)
    assert len(again) == len(committed)
    for before, after in zip(committed, again, strict=True):
        assert pictures(after) == pictures(before)
        if "exact" in before["metadata"].get("tags", ()):
            assert text(after) == text(before)
    assert "56 of 112" in "".join(map(text, again))
