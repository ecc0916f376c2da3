"""A panel of a user's own in JupyterLab: it reads what is on show, sets what is asked, and comes and goes."""

from __future__ import annotations

from pages import Explorer, write_notebook
from playwright.sync_api import expect

SHOW = """import ipywidgets
from gradcam_widget import GradCAMWidget
from gradcam_widget.models import demo_model, sample_images

def score(explorer):
    line, button = ipywidgets.Label(), ipywidgets.Button(description="tiger cat, please")
    def tell(_=None):
        line.value = f"score of {explorer.explanation.target.label}: {explorer.explanation.score:.2f}"
    tell()
    explorer.observe(tell, "explanation")
    button.on_click(lambda _: explorer.set(target="tiger cat"))
    return ipywidgets.HBox([line, button])

def faulty(explorer):
    raise ValueError("<b>my own mistake</b>")

w = GradCAMWidget(demo_model(), sample_images(), panels=["heatmap", "alpha", "predictions", score, faulty])
w"""
CHANGE = 'w.panels = ["layers", "heatmap", score]'


def test_panels_of_ones_own_stand_below_the_view_and_sections_come_and_go(lab, lab_page, page, console):
    write_notebook(lab.root / "panels.ipynb", SHOW)
    notebook = lab_page("panels.ipynb").run_all()
    (logged,) = notebook.errors()  # the traceback of the panel that fails, and nothing else
    assert "ValueError: <b>my own mistake</b>" in logged
    explorer = Explorer(page)
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    score, faulty = explorer.root.locator(".gradcam-panel").all()
    expect(score).to_contain_text("score of Egyptian cat: ")
    expect(faulty).to_contain_text("The panel faulty cannot be shown: ValueError: <b>my own mistake</b>.")
    expect(page.locator(".gcw-layers")).to_be_hidden()
    view, below = explorer.view.bounding_box(), score.bounding_box()
    assert below["y"] >= view["y"] + view["height"]

    score.get_by_role("button", name="tiger cat, please").click()
    explorer.wait("tiger cat", "_swish:2", "chelsea")
    expect(score).to_contain_text("score of tiger cat: ")

    assert notebook.execute(CHANGE) == ""
    expect(page.locator(".gcw-layer").first).to_be_visible()
    expect(page.locator(".gcw-bars")).to_be_hidden()
    expect(faulty).to_be_hidden()
    expect(score).to_contain_text("score of tiger cat: ")
    assert console.errors() == []
