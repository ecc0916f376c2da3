"""The link "Open in Colab": right where the project has an address, absent while it has none."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINK = "https://colab.research.google.com/github/someone/gradcam_widget/blob/main/notebooks/01_quickstart.ipynb"


@pytest.fixture(scope="module")
def badge():
    spec = importlib.util.spec_from_file_location("badge", ROOT / "docs" / "badge.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("address", ["gradcam_widget", "gradcam_widget.git", "gradcam_widget/"])
def test_an_address_gives_the_link_that_colab_opens(badge, address):
    project = (
        f'[project.urls]\nHome = "https://x.org"\nRepository = "https://github.com/someone/{address}"\n\n[tool]\n'
    )
    found = badge.repository(project)
    assert found == "someone/gradcam_widget"
    assert badge.badge(found) == f"[Open in Colab]({LINK})"


@pytest.mark.parametrize(
    "project",
    [
        "[project]\n",
        '[project.urls]\nRepository = "https://gitlab.com/a/b"\n',
        '[tool.x]\nRepository = "https://github.com/a/b"\n',
    ],
)
def test_without_an_address_there_is_none(badge, project):
    assert badge.badge(badge.repository(project)) == ""


def test_the_readme_has_what_belongs_to_the_address_of_the_project(badge):
    readme = (ROOT / "README.md").read_text("utf-8")
    own = badge.repository((ROOT / "pyproject.toml").read_text("utf-8"))
    assert badge.with_badge(readme, own) == readme
    named = badge.with_badge(readme, "someone/gradcam_widget")
    assert f"\n[Open in Colab]({LINK})\n" in named
    assert badge.with_badge(named, own) == readme


def test_the_page_on_colab_has_it_from_the_same_place(badge, monkeypatch, tmp_path):
    page = (ROOT / "docs" / "how-to" / "colab.md").read_text("utf-8")
    (tmp_path / "pyproject.toml").write_text(
        '[project.urls]\nRepository = "https://github.com/someone/gradcam_widget"\n'
    )
    monkeypatch.setattr(badge, "ROOT", tmp_path)
    assert f"[Open in Colab]({LINK})" in badge.on_page_markdown(page)


def test_the_notebook_that_it_opens_installs_and_then_shows(badge):
    cells = json.loads((ROOT / badge.NOTEBOOK).read_text("utf-8"))["cells"]
    first, second = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"][:2]
    assert '"pip", f"install' in first
    assert second.splitlines()[-2:] == ["w = GradCAMWidget(model, images)", "w"]
