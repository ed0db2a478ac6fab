"""The notebook, executed on a finished dataset."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.clusters import Head
from tests.jobs import ROOT, in_process, write_null_config, write_pictures


@pytest.mark.slow
def test_the_notebook_runs_on_a_finished_dataset(tmp_path: Path, head: Head) -> None:
    pictures = write_pictures(tmp_path / "images", 2)
    config = write_null_config(tmp_path / "job.yaml", pictures, tmp_path / "out")
    done = in_process("run", "--config", config, f"ray.address={head.address}")
    assert done.returncode == 0, done.stdout + done.stderr
    notebook = nbformat.read(ROOT / "notebooks/explore.ipynb", as_version=4)  # type: ignore[no-untyped-call]  # typed except for this
    environment = os.environ | {"STILLREEL_DATASET": str(tmp_path / "out")}
    client = NotebookClient(notebook, timeout=120, kernel_name="python3")
    client.execute(cwd=str(ROOT / "notebooks"), env=environment)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    assert "picture-001.png" in str(outputs)
    assert "nothing failed" in str(outputs)
