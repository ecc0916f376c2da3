"""JupyterLab and Notebook 7: no key pressed in the explorer reaches the notebook; no key, no wheel is trapped."""

from __future__ import annotations

import pytest
from pages import Explorer, Notebook, show, write_notebook
from playwright.sync_api import expect

SHOW = show()
TALL = """from IPython.display import HTML
HTML('<div style="height: 3000px">tall</div>')"""
SCROLLER = """() => { for (let at = document.querySelector('.gradcam-widget'); at; at = at.parentElement) {
    const style = getComputedStyle(at);
    if (/auto|scroll/.test(style.overflowY) && at.scrollHeight > at.clientHeight + 200) return at;
  } return document.scrollingElement; }"""
PLACES = (
    "canvas.gcw-picture",
    ".gcw-scale",
    ".gcw-bars",
    "canvas.gcw-overview",
    ".gcw-predictions",
    ".gcw-layers",
    ".gcw-status",
    ".gradcam-picture select",
    ".gradcam-layer select",
    ".gradcam-class input",
    ".gradcam-evidence button",
    ".gradcam-opacity .slider-container",
    ".gcw-sort select",
)
FOCUSABLE = "select, button, canvas, summary, input:not([type=file]), [tabindex]"


@pytest.fixture(params=["lab", "notebook"])
def opened(request, serve, page, console):
    server = serve(request.param)
    write_notebook(server.root / "keys.ipynb", SHOW, "1 + 1", TALL)
    notebook = Notebook(page, server, "keys.ipynb").open().run_all()
    assert notebook.errors() == []
    explorer = Explorer(page)
    explorer.wait("Egyptian cat", "_swish:2", "chelsea")
    expect(page.locator(".gcw-layer").first).to_be_visible()
    yield notebook, explorer
    assert console.errors() == []


def test_no_key_of_any_control_is_a_command_of_the_notebook(opened, page):
    notebook, explorer = opened
    explorer.title.click()
    before = notebook.cells()
    assert before[0] == 3
    tried = set()
    for element in explorer.root.locator(FOCUSABLE).element_handles():
        what = element.evaluate("element => element.isConnected && element.outerHTML")
        if not what or not element.is_visible() or not element.is_enabled():
            continue
        element.focus()
        # delete, cut, undo, insert above and below, to Markdown, down, up, and edit: each would be seen
        for key in ("d", "d", "x", "z", "a", "b", "m", "j", "k", "ArrowDown", "ArrowUp", "PageDown", "Home", "0"):
            page.keyboard.press(key)
        assert notebook.cells() == before, what
        tried.add(
            element.evaluate(
                "element => element.getAttribute('aria-label') || element.tagName + element.className"
            )
        )
    assert len(tried) > 20
    assert (
        page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.map((cell) => cell.model.type)")
        == ["code"] * 3
    )
    # where no control has the focus the same key does what it always does, so the test can fail
    page.locator(".jp-InputPrompt").nth(1).click()
    page.keyboard.press("b")
    page.wait_for_function("window.jupyterapp.shell.currentWidget.content.widgets.length === 4")


def test_tab_leaves_the_explorer_at_both_ends(opened, page):
    _, explorer = opened
    inside = "() => Boolean(document.activeElement.closest('.gradcam-widget'))"
    for key in ("Tab", "Shift+Tab"):
        explorer.picture.focus()
        for _ in range(80):
            page.keyboard.press(key)
            if not page.evaluate(inside):
                break
        assert not page.evaluate(inside), key


def test_the_wheel_scrolls_the_notebook_wherever_the_pointer_is(opened, page):
    _, explorer = opened
    scroller = page.evaluate_handle(SCROLLER)
    revision, opacity = (
        explorer.revision(),
        page.evaluate("document.querySelector('.gcw-picture').toDataURL().length"),
    )
    for place in PLACES:
        target = explorer.root.locator(place).first
        target.scroll_into_view_if_needed()
        before = scroller.evaluate("at => at.scrollTop")
        target.hover()
        page.mouse.wheel(0, 200)
        page.wait_for_function("([at, top]) => at.scrollTop > top + 50", arg=[scroller, before], timeout=10_000)
        page.mouse.wheel(0, -400)
        page.wait_for_function("([at, top]) => at.scrollTop < top + 50", arg=[scroller, before], timeout=10_000)
    # and it has chosen nothing
    page.mouse.move(1, 1)
    assert explorer.revision() == revision
    assert page.evaluate("document.querySelector('.gcw-picture').toDataURL().length") == opacity
