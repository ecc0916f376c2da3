"""JupyterLab with a kernel that is slow, busy or halted: nothing is blocked, and the last wish is what comes."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest
from pages import pixels, show
from playwright.sync_api import expect

SLOW = """import time
began, quick = [], w.engine.explain

def slow(*arguments, **options):
    began.append(time.time())
    time.sleep(0.4)
    return quick(*arguments, **options)

w.engine.explain = slow"""


@pytest.fixture
def opened(open_explorer):
    return open_explorer(show())


@pytest.fixture
def halted(opened, messages):
    """The same, with a kernel that does nothing."""
    if not hasattr(signal, "SIGSTOP"):
        pytest.skip("a process cannot be halted here")
    notebook, explorer = opened
    explorer.wait_for_scenes_ahead(messages)
    kernel = int(notebook.execute("import os; print(os.getpid())"))
    os.kill(kernel, signal.SIGSTOP)
    yield explorer, lambda: os.kill(kernel, signal.SIGCONT)
    os.kill(kernel, signal.SIGCONT)


def test_with_a_halted_kernel_the_layers_are_stepped_through_and_it_says_that_it_waits(halted, page, messages):
    explorer, go_on = halted
    before = pixels(explorer.picture)
    tiles = page.locator(".gcw-layer")
    names = tiles.evaluate_all("tiles => tiles.map((tile) => tile.dataset.name)")
    here = names.index("_swish:2")
    messages.clear()
    tiles.nth(here - 1).click()
    expect(explorer.title).to_have_text(f"αk for Egyptian cat at {names[here - 1]}")
    waiting = page.get_by_text("waiting for the kernel", exact=True).first
    expect(waiting).to_be_visible()
    for step in (here - 2, here - 3):
        page.keyboard.press("ArrowLeft")
        label = re.compile(rf"Grad-CAM for Egyptian cat at {re.escape(names[step])}$")
        expect(explorer.picture).to_have_attribute("aria-label", label)
        expect(explorer.title).to_have_text(f"αk for Egyptian cat at {names[step]}")  # and so do the bars
    assert (pixels(explorer.picture) != before).mean() > 0.1
    assert page.locator(".gcw-which").get_attribute("aria-busy") == "false"
    explorer.picture.hover(position={"x": 20, "y": 20})
    expect(explorer.tip).to_contain_text("cell (0, 0)")
    shown = pixels(explorer.picture)
    explorer.root.get_by_role("slider", name="Opacity").press("End")
    assert (pixels(explorer.picture) != shown).any()
    # Of the three layers only the first has been asked for.
    asked = [message.data["content"] for message in messages.sent if message.data["method"] == "custom"]
    assert [content["name"] for content in asked if content["type"] == "layer"] == [names[here - 1]]
    go_on()
    explorer.wait("Egyptian cat", names[here - 3])
    expect(waiting).to_be_hidden()
    assert page.locator(".gcw-which").get_attribute("aria-busy") == "false"


def test_a_control_waits_in_words_for_a_halted_kernel(halted, page):
    explorer, go_on = halted
    waiting = page.get_by_text("waiting for the kernel", exact=True).first
    explorer.type_class("tabby")
    expect(waiting).to_be_visible()
    go_on()
    explorer.wait("tabby", "_swish:2")
    expect(waiting).to_be_hidden()


@pytest.mark.parametrize("by", ["strip", "list"])
def test_a_drag_of_sixty_steps_ends_on_the_last_one_within_one_and_a_half_computations(opened, page, by):
    notebook, explorer = opened
    # of another class, of which nothing is sent ahead
    assert notebook.execute("w._has_views = False\nw.target = 'tabby'") == ""
    explorer.wait("tabby", "_swish:2")
    assert notebook.execute(SLOW) == ""
    if by == "strip":
        page.locator('.gcw-layer[aria-selected="true"]').focus()
        back, on, last = "ArrowLeft", "ArrowRight", "Home"
    else:
        explorer.control("Layer").focus()
        back, on, last = "ArrowUp", "ArrowDown", "Home"
    begun = time.time()
    for step in range(59):
        page.keyboard.press(back if step % 20 < 14 else on)
        page.wait_for_timeout(15)
    page.keyboard.press(last)
    released = time.time()
    first = page.locator(".gcw-layer").first.get_attribute("data-name")
    explorer.wait("tabby", first)
    began = json.loads(notebook.execute("print(began)"))
    # One was running at the release; the last wish is the next, and there is none after it.
    assert len([at for at in began if at > released]) <= 1
    assert 2 <= len(began) <= (released - begun) / 0.4 + 3  # as many as fit in, of 0.4 s
    assert notebook.execute("print(w.layer)").strip() == first
    expect(page.get_by_text("waiting for the kernel", exact=True).first).to_be_hidden()
