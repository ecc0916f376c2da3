"""The kernel goes, in JupyterLab, Notebook 7 and Voila: what is on show stays, says so, and stays of use."""

from __future__ import annotations

import os
import re
import signal

import pytest
from pages import PATIENCE, RESTART, STARTING, Explorer, Notebook, pixels, write_notebook
from playwright.sync_api import expect

SHOW = """import os, torch
from torchvision.models import resnet18
from gradcam_widget import GradCAMWidget
from gradcam_widget.models import sample_images

torch.manual_seed(0)
print("kernel", os.getpid())
w = GradCAMWidget(resnet18().eval(), sample_images(), panels=["heatmap", "alpha", "predictions", "layers"])
w"""
SHUT_DOWN = "() => { void window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"
LOST = "What you see stays; what needs the model does not answer."


def kill(page):
    """The kernel's process ends as it does where memory runs out."""
    number = page.get_by_text(re.compile(r"kernel \d+")).first.inner_text().split()[-1]
    os.kill(int(number), signal.SIGKILL)


WAYS = {
    "lab, restart": ("lab", lambda page: page.evaluate(RESTART)),
    "lab, shut down": ("lab", lambda page: page.evaluate(SHUT_DOWN)),
    "lab, killed": ("lab", kill),
    "notebook, restart": ("notebook", lambda page: page.evaluate(RESTART)),
    "voila, killed": ("voila", kill),
}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a process cannot be killed here")
@pytest.mark.parametrize("way", WAYS)
def test_without_its_kernel_the_explorer_says_so_and_does_what_it_can(way, serve, page, console):
    kind, end = WAYS[way]
    server = serve(kind)
    write_notebook(server.root / "connection.ipynb", SHOW)
    if kind == "voila":
        page.goto(f"{server.url}/voila/render/connection.ipynb", timeout=STARTING)
    else:
        notebook = Notebook(page, server, "connection.ipynb").open().run_all()
        assert notebook.errors() == []
    page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    expect(page.locator(".gcw-layer").first).to_be_visible(timeout=PATIENCE)
    explorer = Explorer(page)
    words = page.locator(".gcw-connection")
    expect(words).to_be_hidden()
    before, title = pixels(explorer.picture), explorer.title.inner_text()

    end(page)
    expect(words).to_contain_text(LOST, timeout=PATIENCE)
    expect(words).to_contain_text("Load the page again." if kind == "voila" else "Run the cell again.")
    if way == "lab, killed":
        page.locator(".jp-Dialog").get_by_role("button", name="Ok").click()  # JupyterLab's own word on it
    # what it shows is what it showed, and no sign of ipywidgets' stands in the way
    assert (pixels(explorer.picture) == before).all()
    assert explorer.title.inner_text() == title
    marked = page.locator(".gradcam-widget .jupyter-widgets-disconnected:not(button)")
    signs = "all => all.map((one) => getComputedStyle(one, '::before').content)"
    assert set(marked.evaluate_all(signs)) == {"none"}

    # what needs the model is off
    for label in ("Picture", "Layer", "Show", "Class", "Compare with", "Method"):
        expect(explorer.control(label)).to_be_disabled()
    for name in ("Upload a picture", "Next layer", "signed"):
        expect(explorer.root.get_by_role("button", name=name)).to_be_disabled()
    assert page.locator(".gcw-prediction:not(:disabled)").count() == 0

    # the rest works
    explorer.root.get_by_role("slider", name="Opacity").press("End")
    stronger = pixels(explorer.picture)
    assert (stronger != before).any()
    explorer.choose("Colour map", "inferno")
    assert (pixels(explorer.picture) != stronger).any()
    explorer.picture.hover(position={"x": 20, "y": 20})
    expect(explorer.tip).to_contain_text("cell (0, 0)")
    bars = list(explorer.bars())
    explorer.control("Sort").select_option(index=1)
    assert list(explorer.bars()) != bars
    first = page.locator(".gcw-layer").first
    first.click()
    label = re.compile(rf" at {re.escape(first.get_attribute('data-name'))}$")
    expect(explorer.picture).to_have_attribute("aria-label", label)
    page.get_by_label("Box", exact=True).check()
    expect(page.locator(".gcw-late")).to_have_count(0)

    if way == "lab, restart":  # run again, and all of it answers
        notebook.wait_idle()
        notebook.run_all()
        expect(words).to_be_hidden()
        expect(page.locator(".gcw[data-revision]")).to_have_count(1)
        explorer.choose("Method", "HiResCAM")
        expect(explorer.picture).to_have_attribute("aria-label", re.compile("HiResCAM"), timeout=PATIENCE)
    assert console.errors() == []
