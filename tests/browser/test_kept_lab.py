"""A notebook that JupyterLab saved with its widgets: what was shown in it is there, and no kernel knows it."""

from __future__ import annotations

import json
import re

from pages import PATIENCE, Explorer, show, write_notebook
from playwright.sync_api import expect

SHOW = show(layer="_conv_head")
STATE = "application/vnd.jupyter.widget-state+json"
SAVE_STATE = "@jupyter-widgets/jupyterlab-manager:saveWidgetState"


def test_classes_and_layers_that_were_shown_can_be_chosen_when_it_is_opened_again(lab, lab_page, page):
    path = lab.root / "kept.ipynb"
    write_notebook(path, SHOW)
    notebook = lab_page("kept.ipynb").run_all()
    page.wait_for_selector(".gcw[data-revision]")
    explorer = Explorer(page)
    explorer.wait("Egyptian cat", "_conv_head")
    cat = explorer.bars()
    explorer.type_class("tabby")
    explorer.wait("tabby", "_conv_head")
    tabby = explorer.bars()
    explorer.choose("Layer", "_blocks.10._project_conv ·")
    explorer.wait("tabby", "_blocks.10._project_conv")
    notebook.command(SAVE_STATE)
    notebook.command("docmanager:save")

    kept = []
    for _ in range(PATIENCE // 250):
        states = json.loads(path.read_text())["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
        kept = [state["state"]["kept"] for state in states.values() if "kept" in state["state"]]
        if kept:
            break
        page.wait_for_timeout(250)
        notebook.command("docmanager:save")
    (record,) = kept
    seen = {(scene["target"]["label"], scene["layer"]["name"]) for scene in record["scenes"].values()}
    assert seen == {
        ("Egyptian cat", "_conv_head"),
        ("tabby", "_conv_head"),
        ("tabby", "_blocks.10._project_conv"),
    }

    lab.end_kernels()
    lab_page("kept.ipynb")  # with a kernel that has never heard of it
    expect(page.locator(".gcw-connection")).to_contain_text("What you see is as it was saved", timeout=PATIENCE)
    page.get_by_label("Layer shown before").select_option("_conv_head")
    explorer.wait("tabby", "_conv_head")
    assert explorer.bars() == tabby
    page.locator(".gcw-prediction:not(:disabled)").filter(has_text=re.compile("Egyptian cat")).click()
    explorer.wait("Egyptian cat", "_conv_head")
    assert explorer.bars() == cat
    expect(explorer.control("Layer")).to_be_disabled()
