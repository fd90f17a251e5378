"""The notebook that tells the default job's story runs as it stands, and is kept without outputs."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.commands import environment

NOTEBOOK = Path(__file__).with_name("default_job.ipynb")


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (root, root / "fmsteal" / "plugins"))))
    monkeypatch.setenv("MPLBACKEND", "agg")
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()) if "text" in output
    )
    for words in (
        "efficientnet_lite0 is stolen by",
        "Did you mean 'budget'?",
        "train thief",
        "answers paid for: (100, 10)",
        "images are answered otherwise",
        "timm's model answers like the thief",
    ):
        assert words in said, said
    (job,) = (tmp_path / "outputs" / "runs").iterdir()
    assert (job / "result.json").exists()
