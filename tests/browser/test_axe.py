"""axe-core finds nothing serious or critical: in the view in its states, in JupyterLab, Notebook 7 and Voila."""

from __future__ import annotations

import numpy as np
import pytest
from axe import violations
from pages import STARTING, Explorer, Notebook, show, write_notebook
from playwright.sync_api import expect
from view_page import ALPHA, CAM, CONTRIBUTION, PASSES, halt, next_frame, receive, scene, small, strip

CELLS = np.full((4, 3), 200, np.uint8)
STRIP = strip({"stem": np.zeros((4, 3), np.uint8), "unknown": None, "conv_head": CELLS}, question=1)
HERE = small(scene=scene(CAM, ALPHA, CONTRIBUTION, question=1), strip=STRIP)
NO = {"title": "Out of memory", "message": "Choose a smaller picture.", "stale": False}
EMPTY = scene(0 * CAM, ALPHA, CONTRIBUTION, revision=2, diagnosis="There is no positive evidence.", coverage=None)
STATES = {
    "as it begins": {},
    "before the first map": {"scene": {}, "picture": {}, "strip": {}},
    "an error": {"notice": NO},
    "an error, the map stale": {"notice": {**NO, "stale": True}},
    "passes to run": {"task": PASSES},
    "passes that run": {"task": {**PASSES, "done": 320}},
    "an empty map": {"scene": EMPTY},
    "against the class": {"scene": scene(CAM, ALPHA, CONTRIBUTION, evidence="counterfactual", revision=2)},
    "the picture alone": {"panels": ["heatmap"]},
    "a box": {"show_box": True},
    "channels off": {"scene": scene(CAM, ALPHA, CONTRIBUTION, revision=2, base=1, off="05")},
    "a channel that is kept": {"channel": 1},
    "a cell that is kept": {"probe": [1, 1]},
}
THEMES = {
    "light": 'data-jp-theme-light="true"',
    "dark": 'data-jp-theme-light="false" style="background: #111111"',
}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("changes", STATES.values(), ids=STATES)
def test_nothing_serious_is_found_in_the_view(view_open, changes, theme):
    page = view_open({**HERE, **changes}, body=THEMES[theme], drawn=False)
    page.wait_for_selector(f'.gcw[data-gcw-theme="{theme}"]')
    next_frame(page)
    assert violations(page, ".gradcam-widget") == []


def test_nothing_serious_is_found_while_it_waits_with_a_tip_open(view_open):
    page = view_open(HERE)
    halt(page)
    page.locator(".gcw-layer").first.focus()
    page.locator(".gcw-prediction").nth(2).click()
    expect(page.locator(".gcw-late")).to_have_count(1)
    page.locator(".gcw-bar").nth(1).hover()
    expect(page.locator(".gcw-tip")).to_be_visible()
    assert violations(page, ".gradcam-widget") == []


def test_the_check_finds_what_is_wrong(view_open):
    page = view_open(small())
    receive(page, panels=["heatmap"])
    page.evaluate(
        """() => { const button = document.createElement('button'), words = document.createElement('p');
        words.textContent = 'hardly to be read'; words.style.color = '#cccccc';
        document.querySelector('.gcw').append(button, words); }"""
    )
    found = violations(page, ".gradcam-widget")
    assert [line.split(":")[0] for line in found] == ["critical button-name", "serious color-contrast"]


SHOW = show()
PAD = SHOW[:-1] + "pad = w.paint(); pad"


@pytest.mark.parametrize("kind", ["lab", "notebook", "voila"])
def test_nothing_serious_is_found_in_a_notebook(serve, page, kind):
    server = serve(kind)
    write_notebook(server.root / "axe.ipynb", SHOW)
    explorer = Explorer(page)
    if kind == "voila":
        page.goto(f"{server.url}/voila/render/axe.ipynb", timeout=STARTING)
        page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    else:
        notebook = Notebook(page, server, "axe.ipynb").open().run_all()
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    expect(page.locator(".gcw-layer").first).to_be_visible()
    assert violations(page, ".gradcam-widget") == []
    explorer.type_class("Egyptian dog")
    expect(explorer.notice).to_contain_text("Egyptian dog")
    if kind != "voila":
        notebook.theme(dark=True)
        expect(explorer.view).to_have_attribute("data-gcw-theme", "dark")
    assert violations(page, ".gradcam-widget") == []


def test_nothing_serious_is_found_in_the_paint_pad(lab, lab_page, page):
    write_notebook(lab.root / "pad.ipynb", PAD)
    notebook = lab_page("pad.ipynb").run_all()
    assert notebook.errors() == []
    rows = page.get_by_role("table", name="Scores before and after painting").locator("tbody tr")
    expect(rows).to_have_count(6, timeout=STARTING)
    for dark in (False, True):
        notebook.theme(dark)
        expect(page.locator(".gcw-pad")).to_have_attribute("data-gcw-theme", "dark" if dark else "light")
        assert violations(page, ".gradcam-pad") == []
    assert notebook.execute("pad.rectangle(60, 40, 80, 50); pad.wait()") == ""
    changed = "rows => rows.some((row) => row.dataset.before !== row.dataset.after)"
    page.wait_for_function(f"({changed})([...document.querySelectorAll('.gcw-pad-scores tbody tr')])")
    assert violations(page, ".gradcam-pad") == []
