"""The explorer with the versions that Colab has, where a widget's first message comes without its binary parts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import colab
import everything
import hostile
import pytest
from pages import PATIENCE, RESTART, STARTING, Explorer, Notebook, pixels, write_notebook
from playwright.sync_api import expect

BEGIN = """import google.colab.output  # which Colab's kernel has loaded when the first cell runs
from ipykernel.comm import Comm

publish, dropped = Comm._publish_msg, []

def without_buffers(self, msg_type, data=None, metadata=None, buffers=None, **keys):
    if msg_type == "comm_open" and buffers:
        dropped.append(len(buffers))
        buffers = None
    return publish(self, msg_type, data=data, metadata=metadata, buffers=buffers, **keys)

Comm._publish_msg = without_buffers"""
CELLS = json.loads((Path(__file__).parents[2] / "notebooks" / "01_quickstart.ipynb").read_text("utf-8"))["cells"]
INSTALL, SHOW = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"][:2]
VERSIONS = """import json
from importlib.metadata import version
print(json.dumps({name: version(name) for name in ["ipywidgets", "ipykernel", "ipython", "anywidget"]}))"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if sys.platform == "win32":
        pytest.skip("Colab runs on Linux")
    folder = tmp_path_factory.mktemp("colab")
    root = folder / "notebooks"
    root.mkdir()
    running = colab.ColabServer(root, folder / "home", colab.make(folder / "environment"))
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def open_cells(server, page, console):
    """Run cells in a notebook, as Colab's kernel would; the last one shows an explorer."""

    def start(*cells):
        write_notebook(server.root / "colab.ipynb", BEGIN, *cells)
        notebook = Notebook(page, server, "colab.ipynb").open().run_all()
        assert notebook.errors() == []
        page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
        return notebook, Explorer(page)

    yield start
    server.end_kernels()
    assert console.errors() == []


@pytest.fixture
def opened(open_cells):
    """The quickstart as Colab opens it: its first cell installs what is missing, its second shows the explorer."""
    return open_cells(INSTALL, SHOW)


def test_it_is_drawn_and_answers(opened):
    notebook, explorer = opened
    assert json.loads(notebook.execute(VERSIONS)) == colab.PINS
    assert int(notebook.execute("print(sum(dropped))")) >= 10  # picture, map, weights, colour tables
    # the widget manager of Colab for widgets that are not its own is switched on, by the explorer and by anywidget
    assert notebook.execute("print(*set(google.colab.output.calls))") == "enable_custom_widget_manager\n"
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    shown = pixels(explorer.picture)
    assert shown[..., 3].min() == 255
    assert shown[..., :3].std() > 10
    # the whole of it is in its cell, beside the prompt
    cut = "area => area.scrollWidth - area.clientWidth"
    assert explorer.page.locator(".jp-OutputArea-child", has=explorer.root).evaluate(cut) <= 1

    explorer.choose("Layer", "_conv_head ·")
    explorer.wait("Egyptian cat", "_conv_head")
    bars, shown = explorer.bars(), pixels(explorer.picture)
    explorer.type_class("tabby")
    explorer.wait("tabby", "_conv_head")
    assert explorer.bars() != bars
    assert (pixels(explorer.picture) != shown).mean() > 0.1
    shown = pixels(explorer.picture)
    explorer.root.get_by_role("slider", name="Opacity").press("End")
    assert (pixels(explorer.picture) != shown).mean() > 0.1


def test_everything_in_it_answers(opened, tmp_path, pictures):
    _, explorer = opened
    everything.controls_answer(explorer, everything.portrait(tmp_path / "my cat.png", pictures["chelsea"]))
    everything.view_answers(explorer)


def test_the_paint_pad_answers_and_without_a_kernel_it_is_said(open_cells, page):
    _, explorer = open_cells(SHOW.replace("images)", 'images, panels=["heatmap", "alpha", "paint"])'))
    everything.pad_answers(explorer)
    page.evaluate(RESTART)
    said = page.locator(".gcw-connection:not(.gcw-pad *)").first
    expect(said).to_contain_text("Run the cell again.", timeout=PATIENCE)
    expect(explorer.control("Layer")).to_be_disabled()
    before = explorer.picture.evaluate("canvas => canvas.toDataURL()")
    explorer.choose("Colour map", "inferno")  # that needs none
    page.wait_for_function(
        "([canvas, was]) => canvas.toDataURL() !== was", arg=[explorer.picture.element_handle(), before]
    )


def test_names_that_are_markup_stay_text(open_cells, page, tmp_path):
    open_cells(hostile.SHOW)
    hostile.assert_inert(page, tmp_path)
