"""Several views of one explorer, and a page that is loaded anew while the kernel computes."""

from __future__ import annotations

import re

import numpy as np
from pages import PATIENCE, STARTING, Explorer, pixels, write_notebook
from playwright.sync_api import expect

SHOW = """import time
from gradcam_widget import GradCAMWidget
from gradcam_widget.models import demo_model, sample_images

w = GradCAMWidget(demo_model(), sample_images())
w"""
SLOW = """quick = w.engine.explain

def slow(*arguments, **options):
    time.sleep(4)
    return quick(*arguments, **options)

w.engine.explain = slow"""


def test_two_views_of_one_explorer_agree(lab, lab_page, page, console):
    write_notebook(lab.root / "two.ipynb", SHOW, "w")
    notebook = lab_page("two.ipynb").run_all()
    assert notebook.errors() == []
    views = page.locator(".gradcam-widget")
    expect(views).to_have_count(2)
    titles, pictures = page.locator(".gcw-title"), page.locator("canvas.gcw-picture")
    expect(page.locator(".gcw[data-revision]")).to_have_count(2)

    def both(layer):
        for side in (0, 1):
            expect(titles.nth(side)).to_have_text(f"αk for Egyptian cat at {layer}", timeout=PATIENCE)
            label = re.compile(rf"Grad-CAM for Egyptian cat at {re.escape(layer)}$")
            expect(pictures.nth(side)).to_have_attribute("aria-label", label)
            expect(views.nth(side).locator('.gcw-layer[aria-selected="true"]')).to_have_attribute(
                "data-name", layer
            )
        bars = [
            views.nth(side).locator(".gcw-bar").evaluate_all("bars => bars.map((bar) => bar.ariaLabel)")
            for side in (0, 1)
        ]
        assert bars[0] == bars[1]
        assert np.abs(pixels(pictures.nth(0)).astype(int) - pixels(pictures.nth(1))).max() <= 1

    both("_swish:2")
    views.nth(0).locator('.gcw-layer[data-name="_conv_head"]').click()
    both("_conv_head")
    views.nth(1).locator('.gcw-layer[data-name="_blocks.15._depthwise_conv"]').click()
    both("_blocks.15._depthwise_conv")
    views.nth(1).get_by_role("slider", name="Opacity").press("End")
    both("_blocks.15._depthwise_conv")
    bar = views.nth(0).locator(".gcw-bar").nth(3)
    channel = bar.get_attribute("data-channel")
    bar.click()
    page.mouse.move(1, 1)
    for side in (0, 1):
        expect(views.nth(side).locator(f'.gcw-bar[data-channel="{channel}"]')).to_have_attribute(
            "aria-selected", "true"
        )
        expect(pictures.nth(side)).to_have_attribute(
            "aria-label", re.compile(rf"activation of channel {channel} at")
        )
    assert console.errors() == []


def test_a_page_that_is_loaded_anew_during_a_computation_shows_its_end(lab, lab_page, page):
    write_notebook(lab.root / "reload.ipynb", SHOW)
    notebook = lab_page("reload.ipynb").run_all()
    assert notebook.errors() == []
    explorer = Explorer(page)
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    expect(page.locator(".gcw-layer").first).to_be_visible()
    assert notebook.execute(SLOW) == ""
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.locator('.gcw-layer[data-name="_conv_head"]').click()
    expect(page.get_by_text("waiting for the kernel", exact=True).first).to_be_visible()
    page.goto(f"{lab.url}/lab/tree/reload.ipynb")
    page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    explorer.wait("Egyptian cat", "_conv_head", "chelsea")
    assert notebook.execute("w.engine.explain = quick; print(w.layer)").strip() == "_conv_head"
    expect(page.locator('.gcw-layer[aria-selected="true"]')).to_have_attribute("data-name", "_conv_head")
    # it lives on
    explorer.choose("Layer", "_blocks.15._depthwise_conv ·")
    explorer.wait("Egyptian cat", "_blocks.15._depthwise_conv")


def test_passes_go_on_through_a_reload_and_can_be_cancelled_after_it(lab, lab_page, page):
    write_notebook(lab.root / "passes.ipynb", SHOW)
    notebook = lab_page("passes.ipynb").run_all()
    assert notebook.errors() == []
    explorer = Explorer(page)
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    # each batch of passes takes its time, so that they cannot be done before the page is here again
    notebook.execute("hook = w.engine.model.register_forward_hook(lambda *_: time.sleep(2))")
    explorer.choose("Method", "ScoreCAM")
    group = page.get_by_role("group", name="Many passes")
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    group.get_by_role("button", name="Compute 1280 passes").click()
    expect(group).to_contain_text(re.compile(r"ScoreCAM: \d+ of 1280 passes"))
    page.goto(f"{lab.url}/lab/tree/passes.ipynb")
    page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    expect(group).to_contain_text(re.compile(r"ScoreCAM: \d+ of 1280 passes"), timeout=PATIENCE)
    group.get_by_role("button", name="Cancel").click()
    expect(group.get_by_role("button", name="Compute 1280 passes")).to_be_visible(timeout=PATIENCE)
    notebook.execute("hook.remove()")
    explorer.control("Method").select_option(label="GradCAM")
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
