"""The explorer in JupyterLab: what the user chooses is what picture and bars show, and no key leaks.

The numbers that the page must show are worked out here from the formula with plain autograd, without the engine.
"""

from __future__ import annotations

import os
import re
import signal

import matplotlib
import numpy as np
import pytest
import torch
from pages import Explorer, pixels, show
from PIL import Image
from playwright.sync_api import expect

CELLS = (show(), "import os", "os.getpid()")


class Reference:
    """alpha (K,) and cam (h, w) of one layer and class, by the formula."""

    def __init__(self, model, picture, layer, label):
        kept = {}
        hook = model.get_submodule(layer).register_forward_hook(lambda m, x, output: kept.update(A=output))
        score = model(model.transform(picture)[None])[0, model.class_names.index(label)]
        hook.remove()
        gradient = torch.autograd.grad(score, kept["A"])[0][0]
        self.alpha = gradient.mean((1, 2)).numpy()
        self.cam = torch.einsum("k,khw->hw", torch.tensor(self.alpha), kept["A"][0]).relu().detach().numpy()
        self.seen = model.transform.denormalise(model.transform(picture))

    def assert_bars(self, bars):
        channels, alphas = list(bars), np.array(list(bars.values()))
        assert len(channels) >= 14
        largest = np.abs(self.alpha).max()
        np.testing.assert_allclose(alphas, self.alpha[channels], rtol=1e-3, atol=1e-4 * largest)
        # the largest first, and none that is larger left out
        assert (np.diff(np.abs(alphas)) <= 0).all()
        left_out = np.delete(np.abs(self.alpha), channels)
        assert left_out.max() <= np.abs(alphas).min() + 1e-4 * largest

    def drawn(self, height, width, opacity, colormap):
        """RGB (height, width, 3): the picture, and over it the enlarged map, mixed in by its value."""
        picture = np.asarray(Image.fromarray(self.seen).resize((width, height), Image.Resampling.BICUBIC), float)
        cam = torch.tensor(self.cam)[None, None]
        heat = torch.nn.functional.interpolate(cam, size=(height, width), mode="bilinear", align_corners=False)
        value = (heat[0, 0] / cam.max()).numpy()
        colour = 255 * matplotlib.colormaps[colormap](value)[..., :3]
        mix = (opacity * np.minimum(1, 2 * value))[..., None]
        return picture * (1 - mix) + colour * mix

    def distance(self, shown, opacity=0.5, colormap="viridis"):
        """Mean difference of a channel of a pixel, 0 to 255, between what is shown and what should be."""
        return np.abs(shown[..., :3] - self.drawn(*shown.shape[:2], opacity, colormap)).mean()


def test_the_quickstart_runs_and_its_controls_change_pixels_and_bars(lab_page, page, console, demo, pictures):
    notebook = lab_page("01_quickstart.ipynb").run_all()
    assert notebook.errors() == []
    assert page.locator(".jp-RenderedText").filter(has_text="Error").count() == 0
    explorer = Explorer(page)
    picture = pictures["cat and espresso"]
    explorer.wait("espresso", "_swish:2", "cat and espresso")

    explorer.choose("Layer", "_conv_head ·")
    explorer.wait("espresso", "_conv_head")
    espresso = Reference(demo, picture, "_conv_head", "espresso")
    espresso.assert_bars(explorer.bars())
    shown = pixels(explorer.picture)
    assert espresso.distance(shown, 0.6) < 2

    explorer.type_class("Egyptian cat")
    explorer.wait("Egyptian cat", "_conv_head")
    cat = Reference(demo, picture, "_conv_head", "Egyptian cat")
    cat.assert_bars(explorer.bars())
    assert cat.distance(pixels(explorer.picture), 0.6) < 2
    # the two classes cannot be mistaken for one another
    assert cat.distance(shown, 0.6) > 10
    assert espresso.distance(pixels(explorer.picture), 0.6) > 10

    explorer.choose("Layer", "_blocks.9._project_conv ·")
    explorer.wait("Egyptian cat", "_blocks.9._project_conv")
    deeper = Reference(demo, picture, "_blocks.9._project_conv", "Egyptian cat")
    deeper.assert_bars(explorer.bars())
    assert deeper.distance(pixels(explorer.picture), 0.6) < 2
    assert console.errors() == []


def test_a_layer_change_is_one_small_message_without_the_picture(open_explorer, messages):
    _, explorer = open_explorer(*CELLS)
    messages.clear()
    explorer.choose("Layer", "_conv_head ·")
    explorer.wait("Egyptian cat", "_conv_head")
    (scene,) = messages.carrying("scene")
    assert scene.size <= 10_000
    assert "picture" not in scene.data["state"]
    expect(explorer.view.locator(".gcw-status")).to_contain_text("no pass")


def test_the_picture_control_changes_the_picture(open_explorer, messages, demo, pictures):
    _, explorer = open_explorer(*CELLS)
    explorer.choose("Layer", "_conv_head ·")
    explorer.wait("Egyptian cat", "_conv_head", "chelsea")
    messages.clear()
    explorer.choose("Picture", "coffee")
    explorer.wait("espresso", "_conv_head", "coffee")
    reference = Reference(demo, pictures["coffee"], "_conv_head", "espresso")
    reference.assert_bars(explorer.bars())
    assert reference.distance(pixels(explorer.picture)) < 2
    (scene,) = messages.carrying("scene")
    assert "picture" in scene.data["state"]


def test_the_arrows_go_through_the_layers(open_explorer):
    _, explorer = open_explorer(*CELLS)
    explorer.choose("Layer", "_conv_head ·")
    explorer.wait("Egyptian cat", "_conv_head")
    explorer.control("Previous layer").click()
    explorer.wait("Egyptian cat", "_blocks.15._project_conv")
    explorer.control("Next layer").click()
    explorer.wait("Egyptian cat", "_conv_head")


def test_clicking_a_prediction_explains_that_class(open_explorer, demo, pictures):
    _, explorer = open_explorer(*CELLS)
    explorer.choose("Layer", "_conv_head ·")
    explorer.wait("Egyptian cat", "_conv_head")
    explorer.root.get_by_role("button", name=re.compile("^tiger cat")).click()
    explorer.wait("tiger cat", "_conv_head")
    Reference(demo, pictures["chelsea"], "_conv_head", "tiger cat").assert_bars(explorer.bars())
    expect(explorer.control("Class")).to_have_value(re.compile("^tiger cat"))


def test_the_pointer_reads_the_cell_under_it(open_explorer, page, demo, pictures):
    _, explorer = open_explorer(*CELLS)
    explorer.choose("Layer", "_conv_head ·")
    explorer.wait("Egyptian cat", "_conv_head")
    reference = Reference(demo, pictures["chelsea"], "_conv_head", "Egyptian cat")
    explorer.picture.scroll_into_view_if_needed()
    box = explorer.picture.bounding_box()
    row, column = np.unravel_index(reference.cam.argmax(), reference.cam.shape)
    page.mouse.move(box["x"] + (column + 0.5) * box["width"] / 7, box["y"] + (row + 0.5) * box["height"] / 7)
    expect(explorer.tip).to_be_visible()
    expect(explorer.tip).to_contain_text(f"cell ({row}, {column})")
    expect(explorer.tip).to_contain_text("1.00 of max")
    assert float(explorer.tip.locator("span").last.inner_text()) == pytest.approx(reference.cam.max(), rel=0.01)
    page.mouse.move(0, 0)
    expect(explorer.tip).to_be_hidden()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process cannot be halted here")
def test_opacity_and_colour_map_need_no_kernel(open_explorer, page, demo, pictures):
    _, explorer = open_explorer(*CELLS)
    explorer.choose("Layer", "_conv_head ·")
    explorer.wait("Egyptian cat", "_conv_head")
    reference = Reference(demo, pictures["chelsea"], "_conv_head", "Egyptian cat")
    assert reference.distance(pixels(explorer.picture)) < 2
    kernel = int(page.locator(".jp-OutputArea-executeResult").last.inner_text().split()[-1])
    os.kill(kernel, signal.SIGSTOP)
    try:
        explorer.choose("Colour map", "inferno")
        assert reference.distance(pixels(explorer.picture), colormap="inferno") < 2
        explorer.root.get_by_role("slider", name="Opacity").press("End")
        assert reference.distance(pixels(explorer.picture), opacity=1, colormap="inferno") < 2
        assert reference.distance(pixels(explorer.picture)) > 10
    finally:
        os.kill(kernel, signal.SIGCONT)


def test_no_key_pressed_in_the_widget_reaches_the_notebook(open_explorer, page):
    notebook, explorer = open_explorer(*CELLS)
    explorer.title.click()
    before = notebook.cells()
    assert before == (3, 0)  # the widget's own cell is the active one
    focusable = explorer.root.locator("select, button, canvas, input:not([type=file]), [tabindex]")
    tried = 0
    # As they are now: an arrow key in a list changes what is shown, and with it which elements there are.
    for element in focusable.element_handles():
        # in one task of the page: a strip that arrives takes the place of the one before
        what = element.evaluate(
            """element => {
                const { visibility } = getComputedStyle(element), there = element.getClientRects().length > 0;
                if (!element.isConnected || !there || visibility === "hidden" || element.disabled) return "";
                element.focus();
                return element.outerHTML;
            }"""
        )
        if not what:
            continue
        for key in ("d", "d", "b", "a", "ArrowDown"):
            page.keyboard.press(key)
        assert notebook.cells() == before, what
        tried += 1
    assert tried > 25  # ten controls, the picture, the bars, the overview, the predictions
    for label in ("Picture", "Upload a picture", "Layer", "Show", "Class", "Colour map", "Opacity"):
        expect(explorer.control(label).first).to_be_visible()
    # where no control has the focus the same keys do what they always do, so the test can fail
    page.locator(".jp-InputPrompt").last.click()
    page.keyboard.press("b")
    page.wait_for_function(
        "count => window.jupyterapp.shell.currentWidget.content.widgets.length === count", arg=before[0] + 1
    )


def test_a_picture_can_be_uploaded_and_a_broken_file_is_an_error_in_words(
    open_explorer, page, tmp_path, demo, pictures
):
    _, explorer = open_explorer(*CELLS)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing of the kind")
    with page.expect_file_chooser() as chooser:
        explorer.control("Upload a picture").click()
    chooser.value.set_files(tmp_path / "broken.png")
    expect(explorer.notice).to_contain_text("broken.png")
    assert explorer.notice.is_visible()
    assert "Traceback" not in explorer.notice.inner_text()

    # the next valid selection works, and takes the words away
    explorer.choose("Layer", "_conv_head ·")
    explorer.wait("Egyptian cat", "_conv_head")
    expect(explorer.notice).to_be_empty()

    pictures["coffee"].save(tmp_path / "my coffee.png")
    with page.expect_file_chooser() as chooser:
        explorer.control("Upload a picture").click()
    chooser.value.set_files(tmp_path / "my coffee.png")
    explorer.wait("espresso", "_conv_head", "my coffee.png")
    reference = Reference(demo, pictures["coffee"], "_conv_head", "espresso")
    reference.assert_bars(explorer.bars())
    assert reference.distance(pixels(explorer.picture)) < 2


def test_a_class_that_does_not_exist_is_said_and_the_next_one_works(open_explorer):
    _, explorer = open_explorer(*CELLS)
    explorer.type_class("Egyptian dog")
    expect(explorer.notice).to_contain_text("Egyptian dog")
    explorer.type_class("tabby")
    explorer.wait("tabby", "_swish:2")
    expect(explorer.notice).to_be_empty()


def test_the_widget_follows_the_theme(open_explorer):
    notebook, explorer = open_explorer(*CELLS)
    colours = []
    for dark in (False, True):
        notebook.theme(dark)
        expect(explorer.view).to_have_attribute("data-gcw-theme", "dark" if dark else "light")
        colours.append(explorer.title.evaluate("title => getComputedStyle(title).color"))
    notebook.theme(False)
    assert colours[0] != colours[1]


def test_the_controls_wrap_without_gaps_and_without_cutting_the_probability(open_explorer, page):
    open_explorer(*CELLS)
    page.set_viewport_size({"width": 1900, "height": 1000})
    lines = """box => {
        const rows = new Map();
        for (const one of box.querySelectorAll(":scope > *")) {
            const bottom = Math.round(one.getBoundingClientRect().bottom);
            rows.set(bottom, (rows.get(bottom) ?? 0) + 1);
        }
        return [...rows.values()];
    }"""
    row = page.locator(".gradcam-controls")
    for width, wanted in ((1600, [10]), (1120, [7, 3]), (800, [5, 5]), (480, [3, 3, 2, 2])):
        page.locator(".gradcam-widget").evaluate("(box, width) => { box.style.width = `${width}px`; }", width)
        assert row.evaluate(lines) == wanted, width
        assert row.evaluate("box => box.scrollWidth <= box.clientWidth + 1"), width
    field = page.locator(".gradcam-class input").first
    page.locator(".gradcam-class").first.evaluate("box => { box.style.flex = '0 0 172px'; }")
    assert field.evaluate("field => field.clientWidth") <= 172
    assert field.evaluate("field => field.scrollWidth <= field.clientWidth")  # "Egyptian cat · 0.383"


def test_nothing_lies_over_the_notebook(open_explorer, page):
    open_explorer(*CELLS)
    page.wait_for_timeout(1500)  # JupyterLab asks its question about news a moment after the start
    expect(page.locator(".Toastify__toast")).to_have_count(0)
