"""A cell that changes the model, in JupyterLab: what is on show is out of date, and renewed when asked."""

from __future__ import annotations

from pages import PATIENCE, show
from playwright.sync_api import expect

TRAIN = """import torch
with torch.no_grad():
    w.engine.model._fc.bias[281] += 2.0  # tabby"""
EPOCHS = """for _ in range(2):
    with torch.no_grad():
        w.engine.model._fc.bias[281] += 1.0
    w.refresh()"""
PASSES = "print(w.engine.passes.forward)"


def test_a_model_that_a_cell_has_changed_is_told_and_shown_anew(open_explorer, page, messages, tmp_path):
    notebook, explorer = open_explorer(show(layer="_conv_head"), "1", layer="_conv_head")
    expect(explorer.notice).to_be_hidden()
    explorer.wait_for_scenes_ahead(messages)
    passes = notebook.execute(PASSES)
    cam = explorer.bars()

    run_in_a_cell(page, TRAIN)
    expect(explorer.notice).to_contain_text("The model has changed", timeout=PATIENCE)
    expect(page.locator(".gcw-stale").first).to_be_visible()
    expect(page.locator(".gcw-badge")).to_have_text("out of date")
    expect(explorer.title).to_have_text("αk for Egyptian cat at _conv_head")
    assert explorer.bars() == cam
    assert notebook.execute(PASSES) == passes, "it is told, and nothing is computed"
    explorer.root.scroll_into_view_if_needed()
    explorer.notice.scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "changed.png")
    notebook.theme(dark=True)
    page.screenshot(path=tmp_path / "changed-dark.png")

    page.get_by_role("button", name="Show it as it is now").click()
    explorer.wait("tabby", "_conv_head", "chelsea")
    expect(explorer.notice).to_be_hidden()
    expect(page.locator(".gcw-stale")).to_have_count(0)
    before = float(page.locator(".gcw-prediction").first.inner_text().split()[-1])

    run_in_a_cell(page, EPOCHS)
    page.wait_for_function(
        "(before) => Number(document.querySelector('.gcw-prediction').innerText.split(/\\s+/).at(-1)) > before",
        arg=before,
        timeout=PATIENCE,
    )
    explorer.wait("tabby", "_conv_head", "chelsea")
    expect(explorer.notice).to_be_hidden()


def run_in_a_cell(page, source: str) -> None:
    """Write it into the last cell of the notebook, and run that."""
    page.evaluate(
        """(source) => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            notebook.activeCellIndex = notebook.widgets.length - 1;
            notebook.activeCell.model.sharedModel.setSource(source);
            void window.jupyterapp.commands.execute("notebook:run-cell");
        }""",
        source,
    )
