"""Every notebook runs from top to bottom without a network, and is kept without its outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

# in a process of its own: it needs an event loop, and the environment below before anything is imported
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
place = {"metadata": {"path": sys.argv[2]}}
NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
nbformat.write(notebook, sys.argv[3])
"""


@pytest.fixture
def isolated(tmp_path) -> dict[str, str]:
    """An environment in which python3 is this Python, nothing of the user's is read, and nothing is online."""
    kernel = tmp_path / "data" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": arguments, "display_name": "Python 3 (ipykernel)", "language": "python"})
    )
    nowhere = "http://127.0.0.1:9"  # the port that discards
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "PYTEST"))}
    return {
        **environment,
        "HOME": str(tmp_path),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_PREFER_ENV_PATH": "0",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "TORCH_HOME": str(tmp_path / "torch"),
        "http_proxy": nowhere,
        "https_proxy": nowhere,
    }


def test_there_are_notebooks():
    assert "01_quickstart.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_notebook_runs(path, isolated, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(tmp_path), str(tmp_path / "executed.ipynb")],
        env=isolated,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    executed = nbformat.read(tmp_path / "executed.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    widgets = [
        output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    ]
    assert widgets


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_notebook_is_kept_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
