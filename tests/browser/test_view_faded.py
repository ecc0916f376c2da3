"""A layer without positive evidence is faded in the strip, and still seen to be the one on show."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import expect
from view_page import ALPHA, CAM, CONTRIBUTION, scene, small, strip

CELLS, BLANK = np.full((4, 3), 200, np.uint8), np.zeros((4, 3), np.uint8)
FRAME = """(tile) => {
    const thumbnail = tile.querySelector(".gcw-thumbnail"), frame = getComputedStyle(tile, "::after");
    const own = getComputedStyle(thumbnail);
    return { colour: frame.outlineColor, own: own.outlineColor, faded: own.opacity, alpha: frame.opacity,
             box: [frame, own].map((s) => [s.width, s.height, s.margin]), style: frame.outlineStyle };
}"""


def test_the_frame_of_a_faded_layer_is_as_strong_as_any(view_open):
    layers = strip({"stem": CELLS, "blocks.0": BLANK, "conv_head": BLANK}, question=1)
    page = view_open(small(scene=scene(CAM, ALPHA, CONTRIBUTION, question=1), strip=layers))
    chosen = page.locator('.gcw-layer[aria-selected="true"]')
    expect(chosen).to_have_class("gcw-layer gcw-faded")
    found = chosen.evaluate(FRAME)
    assert float(found["faded"]) < 0.5
    assert found["alpha"] == "1"
    assert found["style"] == "solid"
    assert found["colour"] == found["own"]
    assert found["box"][0] == found["box"][1]
    # it lies over the thumbnail, and moves nothing
    tiles = [page.locator(".gcw-thumbnail").nth(i).bounding_box() for i in (1, 2)]
    assert tiles[0]["y"] == tiles[1]["y"]
