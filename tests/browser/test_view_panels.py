"""Panels in the view: what is left out leaves no gap, and the rest takes its place."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.sync_api import expect
from view_page import next_frame, pixels, receive, revision, scene, small, strip

SECTIONS = {
    "heatmap": "canvas.gcw-picture",
    "alpha": ".gcw-bars",
    "predictions": ".gcw-predictions",
    "layers": ".gcw-layers",
}
STRIP = strip({name: np.full((3, 3), 200, np.uint8) for name in ("conv1", "conv_head")})


def shown(page):
    return [name for name, selector in SECTIONS.items() if page.locator(selector).is_visible()]


def test_a_view_without_a_word_about_panels_shows_all(view_open):
    page = view_open(small(strip=STRIP))
    expect(page.locator(".gcw-layers")).to_be_visible()
    assert shown(page) == list(SECTIONS)


@pytest.mark.parametrize(
    "names", [[], ["heatmap"], ["alpha"], ["layers"], ["predictions", "heatmap"], ["alpha", "layers"]]
)
@pytest.mark.parametrize("width", [480, 1120])
def test_the_sections_that_are_named_are_shown_and_no_other(view_open, names, width):
    page = view_open(small(strip=STRIP, panels=names), width=width)
    next_frame(page)
    assert shown(page) == [name for name in SECTIONS if name in names]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator(".gcw-status")).to_be_visible()


def test_the_picture_alone_is_large_and_the_bars_alone_take_the_width(view_open):
    page = view_open(small(strip=STRIP), width=1120)
    assert page.locator(".gcw-what").is_hidden()  # the title of the bars says it
    both = page.locator("canvas.gcw-picture").bounding_box()["width"]
    receive(page, panels=["heatmap"])
    expect(page.locator(".gcw-bars")).to_be_hidden()
    next_frame(page)
    assert page.locator("canvas.gcw-picture").bounding_box()["width"] > both
    assert page.locator(".gcw-what").inner_text() == "Grad-CAM for Egyptian cat at conv_head"
    foot, picture = page.locator(".gcw-status").bounding_box(), page.locator(".gcw-under").bounding_box()
    assert foot["y"] - (picture["y"] + picture["height"]) < 30  # no gap where the layers were
    receive(page, panels=["alpha"])
    expect(page.locator("canvas.gcw-picture")).to_be_hidden()
    next_frame(page)
    view, bars = page.locator(".gcw").bounding_box(), page.locator(".gcw-bars").bounding_box()
    assert bars["width"] > 0.97 * view["width"]
    # the bars are drawn to their new width: the longest one reaches its end
    longest = page.locator(".gcw-bar").first
    track = longest.locator(".gcw-track").bounding_box()["width"]
    assert longest.locator(".gcw-fill").bounding_box()["width"] == pytest.approx(track / 2, abs=1)


def test_a_section_that_comes_back_shows_the_scene_of_now(view_open):
    page = view_open(small(strip=STRIP, panels=["alpha"]))
    cam = np.array([[0.0, 0.0], [0.0, 1.0]])
    receive(page, scene=scene(cam, np.array([1.0]), np.array([1.0]), revision=2, layer="other"))
    revision(page, 2)
    receive(page, panels=["heatmap"])
    expect(page.locator("canvas.gcw-picture")).to_be_visible()
    next_frame(page)
    expect(page.locator("canvas.gcw-picture")).to_have_attribute(
        "aria-label", "chelsea: Grad-CAM for Egyptian cat at other"
    )
    seen = pixels(page)
    assert seen.shape[0] > 300
    assert (seen[5, 5, :3] == (200, 30, 60)).all()  # no evidence: the picture as it is
    assert not (seen[-5, -5, :3] == (5, 10, 15)).all()
    assert shown(page) == ["heatmap"]
