"""Guided maps in the view: the pixels as they are, and zoom by button, key, wheel and hand."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import (
    ALPHA,
    CAM,
    CONTRIBUTION,
    next_frame,
    pixels,
    png,
    receive,
    revision,
    scene,
    small,
)

GUIDED = {"name": "GuidedGradCAM", "weights": "mean gradient", "pixels": True}


def dots(size: int = 64) -> np.ndarray:
    """Grey, with a red pixel at (16, 16), and one of its own colour at each corner."""
    image = np.full((size, size, 3), 128, np.uint8)
    image[16, 16] = 255, 1, 128
    image[0, 0], image[0, -1], image[-1, 0], image[-1, -1] = (200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)
    return image


def message(number: int = 1, image: np.ndarray | None = None) -> dict[str, Any]:
    image = dots() if image is None else image
    return {
        "revision": number,
        "width": image.shape[1],
        "height": image.shape[0],
        "limit": 0.02,
        "data": png(image),
    }


def guided(**changes: Any) -> dict[str, Any]:
    return small(scene=scene(CAM, ALPHA, CONTRIBUTION, method=GUIDED), pixels=message(), **changes)


def test_the_map_lies_over_the_picture_pixel_by_pixel(view_open):
    page = view_open(guided())
    seen = pixels(page, ".gcw-pixels")[..., :3]
    step = seen.shape[0] // 64
    assert seen.shape[0] == seen.shape[1] == 64 * step
    image = dots()
    np.testing.assert_array_equal(seen[step // 2 :: step, step // 2 :: step], image)
    assert page.locator(".gcw-pixels").bounding_box() == page.locator(".gcw-picture").bounding_box()
    expect(page.locator(".gcw-picture")).not_to_be_visible()
    expect(page.locator(".gcw-pixels")).to_have_attribute(
        "aria-label", "chelsea: GuidedGradCAM for Egyptian cat at conv_head, at the pixels"
    )
    expect(page.locator(".gcw-pixelwords")).to_have_text(
        "GuidedGradCAM at the pixels: grey is 0, the brightest +0.0200, the darkest −0.0200"
    )


def test_buttons_and_keys_zoom_into_the_pixels(view_open):
    page = view_open(guided())
    page.get_by_role("button", name="Zoom in").click()
    expect(page.locator(".gcw-zoomed")).to_have_text("2×")
    assert page.evaluate("window.model.get('zoom')") == 2
    expect(page.locator(".gcw-live")).to_have_text("zoom 2×, around pixel 32, 32")
    page.locator(".gcw-pixels").focus()
    page.keyboard.press("+")
    expect(page.locator(".gcw-zoomed")).to_have_text("4×")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    # The upper left corner: 16 x 16 of the pixels, each 28 device pixels of the 448.
    seen = pixels(page, ".gcw-pixels")[..., :3]
    assert seen[14, 14].tolist() == [200, 0, 0]
    assert seen[14, 42].tolist() == [128, 128, 128]
    for _ in range(30):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
    assert pixels(page, ".gcw-pixels")[-14, -14, :3].tolist() == [200, 200, 0]
    page.keyboard.press("-")
    expect(page.locator(".gcw-zoomed")).to_have_text("2×")
    page.keyboard.press("0")
    expect(page.locator(".gcw-zoomed")).to_have_text("1×")
    expect(page.get_by_role("button", name="Zoom out")).to_be_disabled()
    for _ in range(9):
        page.keyboard.press("+")
    expect(page.locator(".gcw-zoomed")).to_have_text("32×")
    expect(page.get_by_role("button", name="Zoom in")).to_be_disabled()
    assert page.evaluate("window.model.sent.filter(m => m.type !== 'ready').length") == 0


def test_the_hand_moves_what_is_zoomed(view_open):
    page = view_open(guided(zoom=4))
    box = page.locator(".gcw-pixels").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 220, box["y"] + 240, steps=4)
    page.mouse.move(box["x"] + 420, box["y"] + 440, steps=4)
    page.mouse.up()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 420, box["y"] + 440, steps=4)
    page.mouse.up()
    assert pixels(page, ".gcw-pixels")[14, 14, :3].tolist() == [200, 0, 0]


def test_the_page_scrolls_over_it_unless_the_wheel_is_meant(view_open):
    page = view_open(guided(), style="body { height: 4000px; }")
    canvas = page.locator(".gcw-pixels")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.wheel(0, 60)
    page.wait_for_function("scrollY > 0")
    expect(page.locator(".gcw-zoomed")).to_have_text("1×")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("scrollY === 0")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    expect(page.locator(".gcw-zoomed")).to_have_text("2×")
    assert page.evaluate("scrollY") == 0
    page.mouse.wheel(0, 60)  # zoomed, but the focus is elsewhere: the page goes on
    page.wait_for_function("scrollY > 0")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_function("scrollY === 0")
    canvas.focus()
    page.mouse.move(box["x"] + 110, box["y"] + 110)
    page.mouse.wheel(0, -120)
    expect(page.locator(".gcw-zoomed")).to_have_text("4×")
    assert page.evaluate("scrollY") == 0
    page.keyboard.press("Escape")
    expect(page.locator(".gcw-zoomed")).to_have_text("1×")


def test_the_pointer_reads_a_pixel(view_open):
    page = view_open(guided())
    box = page.locator(".gcw-pixels").bounding_box()
    page.mouse.move(box["x"] + 16.5 / 64 * box["width"], box["y"] + 16.5 / 64 * box["height"])
    told = page.locator(".gcw-tip span").all_inner_texts()
    assert told == ["pixel (16, 16)", "", "red", "≥ 0.0200", "green", "≤ −0.0200", "blue", "0"]


def test_a_channel_that_is_looked_at_comes_in_front(view_open):
    page = view_open(guided())
    receive(page, channel=1)
    sent = page.evaluate("window.model.sent.at(-1)")
    assert sent["type"] == "activations"
    low = np.zeros(6, "<f4").tobytes()
    step = np.ones(6, "<f4").tobytes()
    data = zlib.compress(bytes(range(72)))
    receive(
        page, activations={"revision": 1, "first": 0, "shape": [6, 4, 3], "low": low, "step": step, "data": data}
    )
    expect(page.locator(".gcw-pixels")).to_be_hidden()
    expect(page.locator(".gcw-picture")).to_be_visible()
    receive(page, channel=None)
    expect(page.locator(".gcw-pixels")).to_be_visible()


def test_another_method_shows_the_heatmap_again_and_the_focus_stays_on_the_picture(view_open):
    page = view_open(guided())
    page.locator(".gcw-pixels").focus()
    receive(page, scene=scene(CAM, ALPHA, CONTRIBUTION, revision=2), pixels={})
    revision(page, 2)
    expect(page.locator(".gcw-pixels")).to_be_hidden()
    assert page.evaluate("document.activeElement.className") == "gcw-picture"
    plain = view_open(small())
    assert (pixels(page) == pixels(plain)).all()


def test_pixels_of_an_earlier_scene_are_not_shown(view_open):
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, method=GUIDED, revision=3), pixels=message(2)))
    expect(page.locator(".gcw-pixels")).to_be_hidden()


@pytest.mark.parametrize("width", [480, 1120])
def test_tab_reaches_the_map_and_its_buttons(view_open, width):
    page = view_open(guided(zoom=2), width=width)
    next_frame(page)
    page.locator(".gcw-pixels").focus()
    names = []
    for _ in range(3):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert names == ["Zoom out", "Zoom in", "Whole picture"]
    tools, canvas = page.locator(".gcw-zoom").bounding_box(), page.locator(".gcw-pixels").bounding_box()
    assert canvas["x"] <= tools["x"]
    assert tools["x"] + tools["width"] <= canvas["x"] + canvas["width"]
