"""JupyterLab: what needs no kernel is told to it once, when the hand rests."""

from __future__ import annotations

import time

import pytest
from pages import PATIENCE, Explorer, pixels, show


@pytest.fixture
def opened(open_explorer, page):
    notebook, explorer = open_explorer(show())
    page.wait_for_timeout(500)
    return notebook, explorer


def told(notebook, what, wanted):
    """Waits until the kernel holds what the browser shows."""
    deadline = time.monotonic() + PATIENCE / 1000
    while (found := notebook.execute(f"print({what})").strip()) != wanted:
        assert time.monotonic() < deadline, found


def test_a_moving_hand_sends_nothing_and_a_resting_one_a_single_message(opened, page, messages):
    notebook, explorer = opened
    slider = explorer.root.get_by_role("slider", name="Opacity")
    box = page.locator(".gradcam-opacity .noUi-base").bounding_box()
    y = box["y"] + box["height"] / 2
    before = pixels(explorer.picture)
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    messages.clear()
    page.mouse.move(box["x"] + box["width"] * 0.98, y, steps=30)
    assert messages.sent == []
    page.wait_for_function(
        "([box, shown]) => Number(box.getAttribute('aria-valuenow')) > shown", arg=[slider.element_handle(), 0.9]
    )
    assert abs(pixels(explorer.picture).astype(int) - before).mean() > 5  # the picture has followed
    assert messages.sent == []
    page.mouse.up()
    page.wait_for_timeout(600)
    assert [message.data["method"] for message in messages.sent] == ["update"]
    told(notebook, "w.opacity > 0.9, w._canvas.opacity == w.opacity", "True True")

    messages.clear()
    explorer.choose("Colour map", "magma")
    page.wait_for_timeout(600)
    assert len(messages.sent) == 1
    told(notebook, "w.colormap, w._canvas.colormap", "magma magma")
    # what the kernel sets is on show, too
    notebook.execute("w.set(opacity=0, colormap='viridis')")
    page.wait_for_function("() => document.querySelector('.gradcam-opacity .noUi-handle').ariaValueNow == 0")


def test_the_threshold_follows_the_hand_and_is_told_at_rest(opened, page, messages):
    notebook, explorer = opened
    explorer.root.get_by_label("Box", exact=True).check()
    page.wait_for_timeout(600)
    messages.clear()
    slider = explorer.root.get_by_role("slider", name="Threshold")
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "35 % of the maximum"
    page.wait_for_timeout(600)
    assert len(messages.sent) == 1
    told(notebook, "round(w.threshold, 2)", "0.35")


def test_after_a_reload_the_look_is_as_it_was_left(opened, page):
    notebook, explorer = opened
    explorer.root.get_by_role("slider", name="Opacity").press("End")
    explorer.choose("Colour map", "magma")
    told(notebook, "w.opacity, w.colormap", "1.0 magma")
    before = pixels(explorer.picture)
    page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    Explorer(page).wait("Egyptian cat", "_swish:2", "chelsea")
    assert abs(pixels(Explorer(page).picture).astype(int) - before).mean() < 1
