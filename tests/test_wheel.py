"""The wheel, installed into an environment of its own: it is complete, and the quickstart runs with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
# the notebook that is in the wheel, cell by cell as a kernel runs it
RUN = """
import json, pathlib, sys
from IPython.core.interactiveshell import InteractiveShell
import gradcam_widget
home = pathlib.Path(gradcam_widget.__file__).parent
shell = InteractiveShell.instance()
notebook = json.loads((home / "notebooks" / "01_quickstart.ipynb").read_text(encoding="utf-8"))
for cell in notebook["cells"]:
    if cell["cell_type"] == "code":
        shell.run_cell("".join(cell["source"])).raise_error()
w = shell.user_ns["w"]
print(json.dumps({
    "home": str(home), "title": w.explanation.target.label, "checkout": [p for p in sys.path if p == sys.argv[1]],
    "view": len(w.children[1]._esm), "style": len(w.children[1]._css), "notice": w.children[1].notice,
}))
"""


def run(*command: str, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    own = {"HOME": str(cwd), "IPYTHONDIR": str(cwd / "ipython"), "MPLCONFIGDIR": str(cwd / "matplotlib")}
    done = subprocess.run(
        command, cwd=cwd, env={**environment, **nowhere, **own}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A new environment: in it the wheel, and behind it the packages that it needs, but no checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    name = run(sys.executable, "-c", BUILD, str(folder), cwd=ROOT).split()[-1]
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=os.name != "nt")
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--disable-pip-version-check"]
    run(*pip, "--no-deps", "--no-index", str(folder / name), cwd=folder)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    # as plain paths: what is installed there as a link to a checkout is not followed
    theirs = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (own / "zz_tests.pth").write_text("\n".join(theirs) + "\n")
    return python


def test_the_quickstart_runs_with_the_wheel_and_nothing_of_the_checkout(installed, tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    told = json.loads(run(str(installed), "run.py", str(ROOT), cwd=tmp_path).splitlines()[-1])
    assert Path(told["home"]).is_relative_to(installed.parents[1])
    assert told["checkout"] == []
    assert told["title"] == "espresso"
    assert told["notice"] == {}
    assert told["view"] > 50_000
    assert told["style"] > 10_000


def test_the_command_of_the_wheel_answers(installed, tmp_path):
    command = installed.parent / ("gradcam-widget.exe" if os.name == "nt" else "gradcam-widget")
    assert "demo" in run(str(command), "--help", cwd=tmp_path)
