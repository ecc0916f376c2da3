"""What is installed is what was meant: one version number, all files in the wheel, few of them large."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import gradcam_widget

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built by the build backend itself: no network, no isolation."""
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as archive:
        yield archive


def test_there_is_one_version_number(wheel):
    version = gradcam_widget.__version__
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    assert Parser().parsestr(wheel.read(metadata).decode())["Version"] == version
    assert Path(wheel.filename).name.split("-")[1] == version
    written = [
        path.relative_to(ROOT).as_posix()
        for path in [ROOT / "pyproject.toml", ROOT / "Makefile", *(ROOT / "gradcam_widget").rglob("*.py")]
        if re.search(rf'["\']{re.escape(version)}["\']', path.read_text(encoding="utf-8"))
    ]
    assert written == ["gradcam_widget/__init__.py"]


def test_the_changelog_knows_the_version():
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] in ("Unreleased", gradcam_widget.__version__)
    assert gradcam_widget.__version__ in headings


def test_the_wheel_holds_every_file_of_the_package(wheel):
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gradcam_widget").rglob("*")
        if path.suffix in (".py", ".js", ".css") or path.name == "py.typed"
    }
    assert {
        "gradcam_widget/py.typed",
        "gradcam_widget/widget/view/render.js",
        "gradcam_widget/widget/view/look.css",
    } <= files
    assert files <= set(wheel.namelist())


def test_the_wheel_holds_every_notebook_and_no_checkpoint(wheel):
    packaged = {Path(name).name for name in wheel.namelist() if name.endswith(".ipynb")}
    assert packaged == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert not [name for name in wheel.namelist() if "checkpoint" in name or "__pycache__" in name]


def test_the_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"gradcam_widget", f"gradcam_widget-{gradcam_widget.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_the_wheel_is_small(wheel):
    # most of it are docstrings, the lessons and the scripts of the view, all of which are there to be read
    assert Path(wheel.filename).stat().st_size < 550_000


def test_the_command_is_installed():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="gradcam-widget")
    assert entry.load().__module__ == "gradcam_widget.cli"


def test_the_needed_packages_are_the_agreed_ones(wheel):
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    requirements = Parser().parsestr(wheel.read(metadata).decode()).get_all("Requires-Dist")
    needed = {re.match(r"[\w.-]+", line)[0] for line in requirements if "extra ==" not in line}
    assert needed == {
        "anywidget",
        "ipycanvas",
        "ipywidgets",
        "matplotlib",
        "numpy",
        "pillow",
        "torch",
        "torchvision",
    }
