"""The box of the largest segment in the view: where it is drawn, what it says, and that Python finds the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import ALPHA, CONTRIBUTION, receive, revision, scene, small

from gradcam_widget.localise import enlarge, find_box
from gradcam_widget.widget import view, wire

# A block of 2 x 2 cells at full strength and a weaker cell apart: in a picture of 64 x 64 with 4 x 4 cells, 16
# pixels a cell, the value falls from 1 at the centre of the block's last cell (24) to 0 at that of the next (40):
# it is 0.15 at 24 + 0.85 * 16 = 37.6. The last pixel inside has its centre at 37.5; 38 is the first outside.
BLOCK = np.zeros((4, 4))
BLOCK[0:2, 0:2] = 2.0
BLOCK[3, 3] = 1.0


def shown(**changes: Any) -> dict[str, Any]:
    return small(scene=scene(BLOCK, ALPHA, CONTRIBUTION), **changes)


def frame(page: Any) -> tuple[float, ...]:
    """The drawn frame in pixels of the picture, which is shown at 448 / 64 = 7 times its size."""
    box, picture = page.locator(".gcw-box").bounding_box(), page.locator(".gcw-picture").bounding_box()
    left, top = (box["x"] - picture["x"]) / 7, (box["y"] - picture["y"]) / 7
    return left, top, left + box["width"] / 7, top + box["height"] / 7


def test_the_box_is_off_until_it_is_asked_for_and_drawn_where_the_segment_is(view_open):
    page = view_open(shown())
    check, slider = page.get_by_role("checkbox", name="Box"), page.get_by_role("slider", name="Threshold")
    expect(page.locator(".gcw-box")).to_be_hidden()
    assert slider.count() == 0
    check.check()
    assert page.evaluate("model.get('show_box')") is True
    assert frame(page) == pytest.approx((0, 0, 38, 38), abs=0.01)
    assert page.locator(".gcw-corners").inner_text() == "(0, 0)–(38, 38)"
    assert page.locator(".gcw-live").text_content() == "box from 0, 0 to 38, 38 at 15 % of the maximum"
    # At half of the maximum: 24 + 0.5 * 16 = 32, and pixel 31 is the last one whose centre, 31.5, is inside.
    slider.fill("0.5")
    assert page.evaluate("model.get('threshold')") == 0.5
    assert page.locator(".gcw-corners").inner_text() == "(0, 0)–(32, 32)"
    assert frame(page) == pytest.approx((0, 0, 32, 32), abs=0.01)
    assert slider.get_attribute("aria-valuetext") == "50 % of the maximum"
    assert page.evaluate("model.sent.length") == 1  # nothing but "ready": no message to the kernel
    check.uncheck()
    expect(page.locator(".gcw-box")).to_be_hidden()
    assert slider.count() == 0


def test_the_box_follows_the_kernel_the_keys_and_the_scene(view_open):
    page = view_open(shown(show_box=True, threshold=0.5))
    corners = page.locator(".gcw-corners")
    assert corners.inner_text() == "(0, 0)–(32, 32)"
    receive(page, threshold=0.15)
    expect(corners).to_have_text("(0, 0)–(38, 38)")
    slider = page.get_by_role("slider", name="Threshold")
    expect(slider).to_have_value("0.15")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("model.get('threshold')") == 0.16
    assert "at 16 % of the maximum" in page.locator(".gcw-live").text_content()
    receive(page, threshold=0.5, scene=scene(BLOCK[::-1, ::-1], ALPHA, CONTRIBUTION, revision=2))
    revision(page, 2)
    assert corners.inner_text() == "(32, 32)–(64, 64)"
    # The evidence against the class is no place of the class; what speaks for it is cut as before.
    signed = np.where(BLOCK > 0, BLOCK, -3.0)
    receive(page, scene=scene(signed, ALPHA, CONTRIBUTION, revision=3, evidence="signed"))
    revision(page, 3)
    assert corners.inner_text() == "(0, 0)–(32, 32)"
    receive(page, scene=scene(BLOCK * 0, ALPHA, CONTRIBUTION, revision=4))
    revision(page, 4)
    assert corners.inner_text() == "no positive evidence"
    expect(page.locator(".gcw-box")).to_be_hidden()
    receive(page, show_box=False)
    expect(corners).to_be_hidden()


@pytest.mark.parametrize("width", [480, 1172])
def test_the_frame_keeps_its_place_at_every_width(view_open, width):
    page = view_open(shown(show_box=True), width=width)
    box, picture = page.locator(".gcw-box").bounding_box(), page.locator(".gcw-picture").bounding_box()
    scale = picture["width"] / 64
    assert box["x"] == pytest.approx(picture["x"], abs=0.6)
    assert box["width"] == pytest.approx(38 * scale, abs=0.6)
    assert box["height"] == pytest.approx(38 * scale, abs=0.6)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_a_scene_there_is_nothing_to_cut(view_open):
    page = view_open({**small(), "scene": {}, "picture": {}}, drawn=False)
    page.get_by_text("waiting for the first map").wait_for()
    expect(page.get_by_role("checkbox", name="Box")).to_be_hidden()


def test_python_and_the_browser_find_the_same_box(view_open):
    page = view_open(small())
    random = np.random.default_rng(8)
    cases = []
    for index in range(300):
        rows, cols = (int(n) for n in random.integers(1, 15, 2))
        cam = random.normal(size=(rows, cols)) * (random.random((rows, cols)) < 0.7)
        if index % 3 == 0:
            cam = np.round(cam)  # values that meet the level exactly
        sent = wire.encode(cam, ("f32", "i16", "u8z/31")[index % 3])
        values = wire.decode(sent)
        height, width = (int(n) for n in random.integers(1, 90, 2))
        threshold = float(random.choice([0, 0.15, 0.5, 1, random.random()]))
        want = find_box(enlarge(np.maximum(values, 0), (height, width)), threshold)
        cases.append(([*values.ravel().tolist()], rows, cols, width, height, threshold, want))
    assert len({case[-1] for case in cases}) > 150
    source = view.script().replace("export default", "window.parts = { enlarged, boxOf }; const unused =")
    page.add_script_tag(content=source, type="module")
    page.wait_for_function("'parts' in window")
    found = page.evaluate(
        """cases => cases.map(([cam, rows, cols, width, height, threshold]) =>
            parts.boxOf(parts.enlarged(cam, rows, cols, width, height), width, height, threshold))""",
        [case[:-1] for case in cases],
    )
    assert [None if box is None else tuple(box) for box in found] == [case[-1] for case in cases]
