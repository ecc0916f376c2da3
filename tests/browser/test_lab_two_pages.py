"""Two pages on one notebook, and a page that is loaded again: there is one state, and every page shows it."""

from __future__ import annotations

import re

import numpy as np
from pages import PATIENCE, STARTING, Console, Explorer, pixels, show, write_notebook
from playwright.sync_api import expect

SHOW = show()


def test_two_pages_of_one_notebook_agree_and_a_reload_keeps_everything(lab, lab_page, page, context, console):
    write_notebook(lab.root / "pages.ipynb", SHOW)
    notebook = lab_page("pages.ipynb").run_all()
    assert notebook.errors() == []
    first = Explorer(page)
    first.wait("Egyptian cat", "_swish:2", "chelsea")
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")

    other = context.new_page()
    errors = Console(other)
    # in a workspace of its own, as a second window has
    other.goto(f"{lab.url}/lab/workspaces/second/tree/pages.ipynb")
    other.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    second = Explorer(other)
    second.wait("Egyptian cat", "_swish:2", "chelsea")

    def both_show(target, layer, picture=""):
        for explorer in (first, second):
            explorer.wait(target, layer, picture)
            expect(explorer.control("Class")).to_have_value(re.compile(f"^{target}"))
            chosen = explorer.control("Layer").evaluate("list => list.selectedOptions[0].text")
            assert chosen.replace("\xa0", " ").startswith(f"{layer} ")
        assert first.bars() == second.bars()
        assert np.abs(pixels(first.picture).astype(int) - pixels(second.picture)).max() <= 1

    second.choose("Layer", "_conv_head ·")
    both_show("Egyptian cat", "_conv_head")
    first.type_class("tabby")
    both_show("tabby", "_conv_head")
    second.choose("Picture", "coffee")
    both_show("tabby", "_conv_head", "coffee")
    second.root.get_by_role("group", name="Evidence").get_by_role("button", name="signed").click()
    for explorer in (first, second):
        expect(explorer.picture).to_have_attribute("aria-label", re.compile("signed Grad-CAM"), timeout=PATIENCE)
    assert errors.errors() == []
    other.close()

    # what belongs to the look is the kernel's too, once it rests
    first.choose("Colour map", "PuOr_r")
    first.root.get_by_role("slider", name="Opacity").press("End")
    page.get_by_label("Box", exact=True).check()
    page.locator(".gcw-bar").first.click()
    page.mouse.move(1, 1)
    kept = page.locator('.gcw-bar[aria-selected="true"]').get_attribute("data-channel")
    expect(first.picture).to_have_attribute(
        "aria-label", re.compile(f"activation of channel {kept} at"), timeout=PATIENCE
    )
    page.wait_for_timeout(600)
    bars, seen = first.bars(), pixels(first.picture)
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.goto(f"{lab.url}/lab/tree/pages.ipynb")
    page.wait_for_selector(".gcw[data-revision]", timeout=STARTING)
    expect(first.title).to_have_text("αk for tabby at _conv_head", timeout=PATIENCE)
    expect(first.picture).to_have_attribute(
        "aria-label", re.compile(f"activation of channel {kept} at"), timeout=PATIENCE
    )
    assert first.bars() == bars
    assert np.abs(pixels(first.picture).astype(int) - seen).max() <= 1
    assert first.control("Colour map").evaluate("list => list.selectedOptions[0].text") == "PuOr_r"
    expect(page.get_by_label("Box", exact=True)).to_be_checked()
    expect(page.locator(".gcw-connection")).to_be_hidden()
    assert console.errors() == []
