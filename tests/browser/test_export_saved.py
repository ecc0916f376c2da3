"""A notebook that was saved: what it shows without a kernel, with the widgets' state in it and without."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbconvert import HTMLExporter, MarkdownExporter
from pages import PATIENCE, pixels
from PIL import Image
from playwright.sync_api import expect

from gradcam_widget.widget import view, wire

STATE = "application/vnd.jupyter.widget-state+json"
SHOW = """from gradcam_widget import GradCAMWidget
from gradcam_widget.models import demo_model, sample_images
w = GradCAMWidget(demo_model(), sample_images(), layer="_conv_head")
w.compare_target = "lynx"
w.set(target="tabby", compare_target=None)
w.target = None
w._canvas._on_view_message(None, {"type": "activations", "revision": w._canvas.base, "channel": 0}, [])
w"""
HOSTILE = """import torch
bad = "<img src=x onerror=\\"document.body.dataset.hacked='yes'\\"></script><script>document.title='x'</script>"
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(400, 2))
v = GradCAMWidget(net.eval(), {bad: torch.rand(3, 12, 12)}, class_names=[bad, bad + "!"])
v"""

# in a process of its own: it needs an event loop, and playwright keeps one running here
RUN = """
import sys, nbformat
from nbclient import NotebookClient
from nbformat.sign import NotebookNotary
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
NotebookNotary().sign(notebook)  # as one's own is: in others JupyterLab shows the picture, and no widget
"""


@pytest.fixture(scope="module")
def saved(lab, tmp_path_factory) -> nbformat.NotebookNode:
    """Two explorers in a notebook that nbclient has run; it keeps the state of the widgets."""
    cells = [nbformat.v4.new_code_cell(source) for source in (SHOW, HOSTILE)]
    spec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    path = tmp_path_factory.mktemp("saved") / "saved.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), path)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path)], env=lab._environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return nbformat.read(path, as_version=4)


@pytest.fixture
def without_state(saved) -> nbformat.NotebookNode:
    bare = nbformat.reads(nbformat.writes(saved), as_version=4)
    del bare.metadata["widgets"]
    return bare


def shown(notebook: nbformat.NotebookNode, cell: int) -> dict:
    (output,) = notebook.cells[cell].outputs
    return output["data"]


def colours(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def test_the_output_has_a_caption_and_a_picture_of_little_weight(saved):
    data = shown(saved, 0)
    assert data["text/plain"].startswith(
        "gradcam_widget: EfficientNet · _conv_head (conv, 1280 × 7 × 7) · Egyptian cat"
    )
    assert "channels give half of the positive evidence." in data["text/plain"]
    png = base64.b64decode(data["image/png"])
    assert len(png) <= 150_000
    with Image.open(io.BytesIO(png)) as image:
        assert 600 <= image.width <= 800


def test_a_page_without_the_widgets_state_shows_the_picture(without_state, page, console, tmp_path):
    html, _ = HTMLExporter().from_notebook_node(without_state)
    assert "widget-view+json" not in html.split("<main", 1)[1]
    (tmp_path / "page.html").write_text(html)
    page.route("http*://**", lambda route: route.abort())
    page.goto((tmp_path / "page.html").as_uri())
    pictures = page.locator("img[src^='data:image/png']")
    expect(pictures).to_have_count(2)
    first = pictures.first
    expect(first).to_be_visible()
    size = first.evaluate("image => [image.naturalWidth, image.naturalHeight, image.complete]")
    # on the page each pixel is that of the picture: the cat in viridis at the left, orange bars at the right
    look = colours(Image.open(io.BytesIO(first.screenshot())))
    with Image.open(io.BytesIO(base64.b64decode(shown(without_state, 0)["image/png"]))) as image:
        assert [*image.size, True] == size
        own = colours(image.resize(look.shape[1::-1]))
    assert np.abs(look - own).mean() < 4
    orange = np.abs(look - [194, 65, 12]).max(2) < 24
    assert orange[:, look.shape[1] // 2 :].sum() > 500
    # names are text there, too
    assert page.evaluate("document.body.dataset.hacked") is None
    assert page.title() != "x"
    # and so it is on paper: the picture is in the PDF that the browser prints, which is what webpdf does
    pdf = page.pdf()
    assert pdf.count(b"/Subtype /Image") >= 2


def test_the_caption_is_the_pictures_text_where_a_template_has_one(without_state):
    html, _ = HTMLExporter(template_name="classic").from_notebook_node(without_state)
    assert 'alt="gradcam_widget: EfficientNet · _conv_head (conv, 1280 × 7 × 7) · Egyptian cat' in html
    assert "<img src=x" not in html


def test_markdown_has_the_picture_as_a_file(without_state):
    text, resources = MarkdownExporter().from_notebook_node(without_state)
    assert "![png](output_0_0.png)" in text
    assert resources["outputs"]["output_0_0.png"] == base64.b64decode(shown(without_state, 0)["image/png"])
    assert "<img src=x" not in "".join(text.split("```")[::2])  # in the code that made it, and nowhere else


def test_a_page_with_the_widgets_state_holds_all_of_it(saved, page, tmp_path):
    html, _ = HTMLExporter().from_notebook_node(saved)
    (tmp_path / "page.html").write_text(html)
    page.route("http*://**", lambda route: route.abort())  # the front end comes from a network that is not there
    page.goto((tmp_path / "page.html").as_uri())
    states = json.loads(page.locator(f"script[type='{STATE}']").first.text_content())["state"]
    views = page.locator("script[type='application/vnd.jupyter.widget-view+json']").all()
    shown_here = [json.loads(view.text_content())["model_id"] for view in views]
    assert shown_here == [
        shown(saved, cell)["application/vnd.jupyter.widget-view+json"]["model_id"] for cell in (0, 1)
    ]
    assert set(shown_here) <= set(states)
    assert page.evaluate("document.body.dataset.hacked") is None
    assert page.title() != "x"


def state_of(page) -> dict:
    """What the saved page holds of the explorer's view, with its binary parts where they belong."""
    states = json.loads(page.locator(f"script[type='{STATE}']").first.text_content())["state"]
    (saved,) = [one for one in states.values() if "_conv_head" in json.dumps(one["state"].get("scene", {}))]
    for buffer in saved["buffers"]:
        place = saved["state"]
        *way, last = buffer["path"]
        for step in way:
            place = place[step]  # a front end stops at a place that is not there
        place[last] = base64.b64decode(buffer["data"])
    return saved["state"]


def test_what_the_page_with_the_state_holds_is_drawn_and_lets_one_choose(saved, page, tmp_path, view_open):
    html, _ = HTMLExporter().from_notebook_node(saved)
    (tmp_path / "page.html").write_text(html)
    page.route("http*://**", lambda route: route.abort())
    page.goto((tmp_path / "page.html").as_uri())
    state = state_of(page)
    assert state["_esm"] == view.script()
    sent = {name: value for name, value in state.items() if not name.startswith("_") and name != "controls"}
    shown_again = view_open({**sent, "layout": {"comm_live": False}})
    picture = shown_again.locator("canvas.gcw-picture")
    expect(picture).to_have_attribute("aria-label", "chelsea: Grad-CAM for Egyptian cat at _conv_head")
    own = pixels(picture)[..., :3].astype(int)
    assert own.std() > 20
    expect(shown_again.locator(".gcw-layer")).not_to_have_count(0)
    shown_again.get_by_label("Class shown before").select_option("tabby")
    expect(picture).to_have_attribute("aria-label", "chelsea: Grad-CAM for tabby at _conv_head")
    (tabby,) = [one for one in state["kept"]["scenes"].values() if one["target"]["label"] == "tabby"]
    alpha = wire.decode(tabby["alpha"])
    bar = shown_again.locator(".gcw-bar").first
    assert float(bar.get_attribute("data-alpha")) == pytest.approx(float(alpha[np.abs(alpha).argmax()]), rel=1e-6)
    assert (pixels(picture)[..., :3] != own).mean() > 0.1


def test_with_the_state_the_view_works_although_no_kernel_knows_it(saved, lab, lab_page, page):
    # JupyterLab restores what was saved when it has a kernel, a new one, which has never heard of these widgets.
    (lab.root / "saved.ipynb").write_text(nbformat.writes(saved))
    lab_page("saved.ipynb")
    view = page.locator(".gcw").first
    expect(view).to_have_attribute("data-revision", re.compile(r"\d"), timeout=PATIENCE)
    expect(view.locator(".gcw-connection")).to_contain_text("What you see is as it was saved")
    picture = view.locator("canvas.gcw-picture")
    expect(view.locator(".gcw-bar")).not_to_have_count(0)
    expect(view.locator(".gcw-layer")).not_to_have_count(0)

    # hover: the place under the pointer, and a channel's activation map, which had been sent
    before = pixels(picture)
    picture.hover()
    expect(view.locator(".gcw-tip")).to_contain_text("cell (3, 3)")
    view.locator(".gcw-bar").first.hover()
    channel = view.locator(".gcw-bar").first.get_attribute("data-channel")
    expect(picture).to_have_attribute("aria-label", f"chelsea: activation of channel {channel} at _conv_head")
    assert np.abs(pixels(picture).astype(int) - before).max() > 20

    # layers: the maps of the strip
    page.mouse.move(2, 2)
    tile = view.locator(".gcw-layer[data-name='_blocks.12._expand_conv']")
    tile.click()
    expect(picture).to_have_attribute(
        "aria-label", "chelsea: Grad-CAM for Egyptian cat at _blocks.12._expand_conv"
    )
    expect(tile).to_have_attribute("aria-selected", "true")
    assert np.abs(pixels(picture).astype(int) - before).max() > 20
    view.locator(".gcw-layer[data-name='_conv_head']").click()
    expect(picture).to_have_attribute("aria-label", "chelsea: Grad-CAM for Egyptian cat at _conv_head")
    page.mouse.move(2, 2)
    page.wait_for_timeout(100)
    assert np.array_equal(pixels(picture), before)

    # colours and opacity, the order of the bars; what needs the model is switched off
    widget = page.locator(".gradcam-widget").first
    address = picture.evaluate("canvas => canvas.toDataURL()")
    widget.get_by_label("Colour map", exact=True).select_option("magma")
    page.wait_for_function(
        "([canvas, was]) => canvas.toDataURL() !== was", arg=[picture.element_handle(), address]
    )
    view.get_by_label("Sort").select_option("channel")
    expect(view.locator(".gcw-bar").first).to_have_attribute("data-channel", "0")
    expect(widget.get_by_label("Layer", exact=True)).to_be_disabled()
    expect(view.get_by_role("button", name="Save PNG")).to_be_disabled()
    assert page.evaluate("document.body.dataset.hacked") is None
