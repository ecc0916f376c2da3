"""The panel "Is it true?" in JupyterLab: a check is run, stopped, and belongs to the map that it was asked for."""

from __future__ import annotations

import json

from pages import PATIENCE, Explorer, show, write_notebook
from playwright.sync_api import expect

from gradcam_widget.evaluate.question import digits

SHOW = show()
EXPECTED = """import json
from gradcam_widget.evaluate import other_classes
found = other_classes(w.engine, w.pictures["chelsea"], "Egyptian cat")
print(json.dumps([found.verdict, found.mean, w.engine.passes.forward]))"""


def test_a_check_is_run_stopped_and_belongs_to_its_map(lab, lab_page, page, console):
    write_notebook(lab.root / "checks.ipynb", SHOW)
    notebook = lab_page("checks.ipynb").run_all()
    explorer = Explorer(page)
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    panel = page.locator(".gcw-checks")
    panel.get_by_role("button", name="Is it true?").click()
    run = panel.locator(".gcw-check-run")
    expect(panel.locator(".gcw-check-cost")).to_contain_text("8 forward and 8 backward passes", timeout=PATIENCE)

    choice = panel.get_by_label("Check", exact=True)
    choice.select_option(label="Deletion and insertion")
    expect(panel.locator(".gcw-check-cost")).to_contain_text("155 forward passes", timeout=PATIENCE)
    run.click()
    expect(panel.locator(".gcw-check-cost")).to_contain_text(" of 155", timeout=PATIENCE)
    expect(run).to_have_text("Cancel")
    run.click()
    expect(run).to_have_text("Run")
    expect(panel.locator(".gcw-unchecked")).to_have_text("Not run for the map on show.", timeout=PATIENCE)

    choice.select_option(label="Other classes")
    run.click()
    verdict = panel.locator(".gcw-verdict")
    expect(verdict).to_contain_text("random other classes", timeout=PATIENCE)
    words, mean, _ = json.loads(notebook.execute(EXPECTED))
    expect(verdict).to_have_text(words)
    expect(panel.locator(".gcw-numbers tbody td").first).to_have_text(digits(mean))
    expect(panel.get_by_role("img")).to_be_visible()

    page.locator(".gcw-prediction").nth(1).click()
    explorer.wait("tiger cat", "_swish:2", "chelsea")
    expect(panel.locator(".gcw-found")).to_be_hidden()
    page.locator('.gcw-prediction:has-text("Egyptian cat")').click()
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    expect(verdict).to_have_text(words)
    assert console.errors() == []
    assert notebook.errors() == []
