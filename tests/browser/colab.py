"""What stands in for Colab: its versions in an environment of their own, and a module for its own one.

Torch and the like come from the environment that runs the tests: a second copy would take minutes. Colab's manager
of widgets runs on Google's servers only; here the one of Notebook 7 that speaks to ipywidgets 7 takes its place.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from servers import Server

PINS = {"ipywidgets": "7.7.1", "ipykernel": "6.17.1", "ipython": "7.34.0", "anywidget": "0.9.21"}
# what these need that newer ones do not; the last one is the widget manager for ipywidgets 7 in Notebook 7
NEEDED = ["backcall", "pickleshare", "decorator", "ipython_genutils", "jupyterlab_widgets==1.1.11"]
EXTENSIONS = ("@jupyter-widgets/jupyterlab-manager", "anywidget")
OUTPUT = '''"""Records what Colab's own module of this name would do."""

calls = []


def enable_custom_widget_manager():
    calls.append("enable_custom_widget_manager")
'''


def make(folder: Path) -> Path:
    """Make the environment; the path of its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pins = [f"{name}=={version}" for name, version in PINS.items()]
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet"]
    subprocess.run(
        [*install, "--disable-pip-version-check", *pins, *NEEDED], check=True, capture_output=True, text=True
    )
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # after its own packages, so that the pinned ones win
    theirs = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    lines = [f"import site; site.addsitedir({path!r})" for path in theirs]
    (own / "zz_tests.pth").write_text("\n".join(lines) + "\n")
    colab = own / "google" / "colab"
    colab.mkdir(parents=True)
    (colab / "__init__.py").write_text("")
    (colab / "output.py").write_text(OUTPUT)
    return python


class ColabServer(Server):
    """Notebook 7 whose kernel runs in such an environment, with the front-end parts that belong to it.

    Args:
        root, home: as of a `Server`.
        python: of the environment.
    """

    def __init__(self, root: Path, home: Path, python: Path) -> None:
        super().__init__("notebook", root, home)
        self._python = python

    def _environment(self) -> dict[str, str]:
        environment = super()._environment()
        data = self.home / "data"
        file = data / "kernels" / "python3" / "kernel.json"
        spec = json.loads(file.read_text())
        spec["argv"][0] = str(self._python)
        file.write_text(json.dumps(spec))
        for name in EXTENSIONS:
            target = data / "labextensions" / name
            source = self._python.parents[1] / "share" / "jupyter" / "labextensions" / name
            shutil.copytree(source, target, dirs_exist_ok=True)
        return environment
