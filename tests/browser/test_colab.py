"""The explorer with the versions that Colab has, where a widget's first message comes without its binary parts."""

from __future__ import annotations

import json
import sys

import colab
import pytest
from pages import STARTING, Explorer, Notebook, pixels, write_notebook

BEGIN = """import google.colab.output  # which Colab's kernel has loaded when the first cell runs
from ipykernel.comm import Comm

publish, dropped = Comm._publish_msg, []

def without_buffers(self, msg_type, data=None, metadata=None, buffers=None, **keys):
    if msg_type == "comm_open" and buffers:
        dropped.append(len(buffers))
        buffers = None
    return publish(self, msg_type, data=data, metadata=metadata, buffers=buffers, **keys)

Comm._publish_msg = without_buffers"""
SHOW = """from gradcam_widget import GradCAMWidget
from gradcam_widget.models import demo_model, sample_images

w = GradCAMWidget(demo_model(), sample_images())
w"""
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
def opened(server, page, console):
    write_notebook(server.root / "colab.ipynb", BEGIN, SHOW)
    notebook = Notebook(page, server, "colab.ipynb").open().run_all()
    assert notebook.errors() == []
    page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    yield notebook, Explorer(page)
    server.end_kernels()
    assert console.errors() == []


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
